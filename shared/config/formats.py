"""Texts with a form of their own: money, networks, moments, zones. Pure.

Every check returns the text as it is kept, or raises ValueError with what it should have been.
No message repeats the value: it may be a secret.
"""

import base64
import binascii
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from decimal import Decimal, InvalidOperation
from ipaddress import ip_network
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from shared.config.mail import mail_server

_USD_PLACES = 9  # a nano-dollar is the smallest amount that is kept
_MAX_USD = 1_000_000_000  # nano-dollars of more would not fit 64 bits
_MAX_FACTOR = 1000
_WEBHOOK_KEY_BYTES = range(24, 65)  # Standard Webhooks
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+(\.fifo)?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def usd(text: str) -> str:
    """Return the amount without exponent or grouping, such as `0.25`."""
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise ValueError("must be an amount in USD such as 2.50") from error
    if not amount.is_finite() or amount < 0:
        raise ValueError("must be an amount in USD, zero or more")
    if amount > _MAX_USD:
        raise ValueError(f"must be at most {_MAX_USD} USD")
    plain = format(amount, "f")
    if len(plain.rstrip("0").partition(".")[2]) > _USD_PLACES:
        raise ValueError(f"must have at most {_USD_PLACES} decimal places")
    return plain


def factor(text: str) -> str:
    """Return what a price is multiplied with, without exponent: `0.9`."""
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError("must be a factor such as 0.9") from error
    if not number.is_finite() or not 0 <= number <= _MAX_FACTOR:
        raise ValueError(f"must be a factor from 0 to {_MAX_FACTOR}")
    plain = format(number, "f")
    if len(plain.rstrip("0").partition(".")[2]) > _USD_PLACES:
        raise ValueError(f"must have at most {_USD_PLACES} decimal places")
    return plain


def url(text: str) -> str:
    """Return an http or https URL without a trailing slash."""
    try:
        parts = urlsplit(text)
        whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # an open bracket, a port that is no number
        whole = False
    if not whole or not text.isprintable() or any(letter.isspace() for letter in text):
        raise ValueError("must be a URL that starts with http:// or https://")
    return text.rstrip("/")


def key(text: str) -> str:
    """Return a key that can stand in an HTTP header."""
    if not _is_plain(text) or " " in text:
        raise ValueError("must be printable ASCII without spaces or line breaks")
    return text


def network(text: str) -> str:
    """Return a network in CIDR form, or one address."""
    try:
        ip_network(text)
    except ValueError as error:
        hint = ""
        with suppress(ValueError):
            hint = f" (did you mean {ip_network(text, strict=False)}?)"
        raise ValueError(f"must be a network such as 10.0.0.0/8{hint}") from error
    return text


def timezone(text: str) -> str:
    """Return the name of a time zone the machine knows."""
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:  # OSError: a folder's name, such as Europe
        raise ValueError("must be a time zone such as Europe/Berlin") from error
    return text


def calendar_date(text: str) -> str:
    """Return a day as YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise ValueError("must be a day such as 2026-01-31") from error


def webhook_secret(text: str) -> str:
    """Return a signing secret as Standard Webhooks writes it."""
    kept = text.removeprefix("whsec_")
    try:
        key = base64.b64decode(kept + "=" * (-len(kept) % 4), validate=True)
    except binascii.Error:
        key = b""
    if kept == text or len(key) not in _WEBHOOK_KEY_BYTES:
        raise ValueError("must be whsec_ and the base64 of 24 to 64 bytes")
    return text


def smtp(text: str) -> str:
    """Return the URL of a mail server with the addresses it is to be used with."""
    mail_server(text)
    return text


def sns_topic(text: str) -> str:
    """Return the ARN of a topic of Amazon SNS."""
    if _TOPIC.fullmatch(text) is None:
        raise ValueError("must be such as arn:aws:sns:eu-west-1:123456789012:alerts")
    return text


def header_mistake(name: str, value: str) -> str | None:
    """Return why an HTTP header cannot be sent, or None."""
    if _HEADER_NAME.fullmatch(name) is None:
        return "is not the name of an HTTP header"
    if not _is_plain(value):
        return "must be printable ASCII on one line"
    return None


def _is_plain(text: str) -> bool:
    return text.isprintable() and text.isascii()


FORMATS: dict[str, Callable[[str], str]] = {
    "usd": usd,
    "factor": factor,
    "url": url,
    "key": key,
    "network": network,
    "timezone": timezone,
    "date": calendar_date,
    "webhook_secret": webhook_secret,
    "smtp": smtp,
    "sns_topic": sns_topic,
}
"""By the name that stands in a field's type."""
