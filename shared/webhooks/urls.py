"""The form of a webhook URL. Where it leads is decided when it is dialled, not here."""

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
