"""The mail server of `alerts.smtp`, read from its URL. Pure."""

from email.utils import parseaddr
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

Tls = Literal["required", "optional", "off", "implicit"]
"""STARTTLS or nothing is sent; STARTTLS where it is offered; never; TLS from the first byte."""

_PORTS = {"smtp": 587, "smtps": 465}
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_KEYS = frozenset({"from", "to", "tls"})
_LONGEST_ADDRESS = 254


class MailServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where mail is handed in, by whom, from whom and to whom."""

    host: str
    port: int
    tls: Tls
    user: str | None = None
    password: str = ""
    sender: str
    recipients: tuple[str, ...]


def mail_server(text: str) -> MailServer:
    """Read `smtp://user:pass@host:587?from=a@b&to=c@d,e@f`; `smtps://` is TLS from the first byte.

    `tls` is `required`, `optional` or `off`. Without it TLS is required where there is a user and
    the host is another machine, else taken where it is offered.

    Raises:
        ValueError: with what it should have been; never with the text, which may hold a secret.
    """
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        asked = parse_qs(parts.query.replace("+", "%2B"), strict_parsing=True)
    except ValueError as error:
        raise ValueError(_FORM) from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/"):
        raise ValueError(_FORM)
    if not asked.keys() <= _KEYS or len(asked.get("from", ())) != 1 or "to" not in asked:
        raise ValueError(_FORM)
    recipients = tuple(one.strip() for many in asked["to"] for one in many.split(","))
    for address in (*recipients, *asked["from"]):
        _check(address)
    return MailServer(
        host=parts.hostname,
        port=port,
        tls=_tls(parts.scheme, asked.get("tls"), trusted=_trusted(parts.hostname, parts.username)),
        user=None if parts.username is None else unquote(parts.username),
        password=unquote(parts.password or ""),
        sender=asked["from"][0].strip(),
        recipients=recipients,
    )


_FORM = "must be such as smtp://user:password@host:587?from=gateway@example.com&to=ops@example.com"


def _trusted(host: str, user: str | None) -> bool:
    return user is None or host in _LOCAL


def _tls(scheme: str, asked: list[str] | None, *, trusted: bool) -> Tls:
    if scheme == "smtps":
        return "implicit"
    match asked:
        case None:
            return "optional" if trusted else "required"
        case ["required"]:
            return "required"
        case ["optional"]:
            return "optional"
        case ["off"]:
            return "off"
        case _:
            raise ValueError("tls must be required, optional or off")


def _check(address: str) -> None:
    plain = parseaddr(address)[1]
    local, at, domain = plain.rpartition("@")
    whole = address.isascii() and address.isprintable() and len(plain) <= _LONGEST_ADDRESS
    if not (whole and at and local and domain) or any(letter.isspace() for letter in plain):
        raise ValueError("from and to must be mail addresses such as ops@example.com")
