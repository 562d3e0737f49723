"""The form of where a webhook goes. Where a URL leads is decided when it is dialled, not here."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

LONGEST_URL = 2048


def url_mistake(url: str) -> str | None:
    """Say what is wrong with the form of a webhook URL; None when nothing is."""
    if len(url) > LONGEST_URL:
        return f"is longer than {LONGEST_URL} characters"
    if not url.isascii() or any(sign <= " " or sign == "\x7f" for sign in url):
        return "holds spaces, control characters or signs that need encoding"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in {"http", "https"}:
        return "must begin with https:// or http://"
    if not parts.hostname or port == 0:
        return "names no host"
    if parts.username is not None or parts.password is not None:
        return "must not hold credentials"
    if parts.fragment:
        return "must not hold a fragment"
    if "\\" in url:  # parsers disagree about it
        return "must not hold a backslash"
    return None


_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]{1,32}:\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?")


def is_topic(url: str) -> bool:
    """Return whether it is the ARN of an SNS topic and not a URL."""
    return url.startswith("arn:")


def topic_mistake(arn: str, allowed: Sequence[str]) -> str | None:
    """Say why nothing may be published to that topic; None when it may.

    It is done with the gateway's own rights, so only what is `allowed` is: whole ARNs, or their
    beginnings with `*` behind.
    """
    if not _TOPIC.fullmatch(arn):
        return "is not the ARN of an SNS topic"
    for one in allowed:
        if arn == one or (one.endswith("*") and arn.startswith(one[:-1])):
            return None
    return "is no topic that webhooks.allow_topics lets endpoints name"
