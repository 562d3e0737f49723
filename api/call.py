"""What the headers of an inference call say."""

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from shared.errors import InvalidRequest
from shared.ids import IdMaker
from shared.telemetry.redaction import without_secrets

DEFAULT_TIMEOUT_S = 3600.0
"""No route's total_s is shortened unless the caller asks for it; this only bounds a mistake."""

MAX_WAIT_S = 60
MAX_TAGS = 16
TAGS = b"x-sluiceway-tags"

FORWARDED: Mapping[str, tuple[bytes, ...]] = {
    "anthropic": (b"anthropic-version", b"anthropic-beta"),
}
"""Headers that go on to the vendor whose dialect the call is in, by dialect."""

_request_id = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")
# An open quote runs to the end: a pattern that cannot fail takes time in proportion to the text.
_quoted = r'"(?:[^"\\]|\\.?)*"?'
_preferences = re.compile(rf'(?:[^",]|{_quoted})+')
_parameters = re.compile(rf'(?:[^";]|{_quoted})+')


class Preference(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 7240 `Prefer`: `respond-async`, and `wait=N` seconds for it to be done in time."""

    respond_async: bool = False
    wait_s: int = 0

    @property
    def applied(self) -> str:
        """What `Preference-Applied` says."""
        return f"respond-async, wait={self.wait_s}" if self.wait_s else "respond-async"


NO_PREFERENCE = Preference()


def preference(pairs: Iterable[tuple[bytes, bytes]]) -> Preference:
    """Return what the `Prefer` lines among the headers ask.

    As RFC 7240 says, the first of a repeated preference counts and unknown ones are ignored.
    `wait` may stand beside `respond-async` or be its parameter; alone it means nothing here.
    """
    lines = [value.decode("latin-1") for name, value in pairs if name == b"prefer"]
    if not lines:
        return NO_PREFERENCE
    found: dict[str, str] = {}
    for text in _preferences.findall(",".join(lines)):
        named = list(_pairs(text))
        for place, (name, value) in enumerate(named):
            if place == 0 or (named[0][0], name) == ("respond-async", "wait"):
                found.setdefault(name, value)
    if found.get("respond-async") != "":
        return NO_PREFERENCE
    return Preference(respond_async=True, wait_s=_wait_s(found.get("wait", "")))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield a preference's name and value, then those of its parameters; no value is empty."""
    for part in _parameters.findall(text):
        name, _, value = part.partition("=")
        yield name.strip().lower(), value.strip().strip('"')


def _wait_s(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        return 0
    return MAX_WAIT_S if len(digits) > 9 else min(MAX_WAIT_S, int(digits))  # noqa: PLR2004


def request_id_of(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the caller's own `x-request-id` when it is safe to repeat in logs and headers.

    One that looks like a key is not.
    """
    given = headers.get(b"x-request-id")
    if given is None or _request_id.match(given) is None:
        return None
    text = given.decode()
    return text if without_secrets(text) == text else None


def books_id(given: str | None, request_id: str, ids: IdMaker) -> str:
    """Return the id the books know the request by: its own, or the one given, `/` and a new one.

    Callers may send one id many times, and the books count requests by it.
    """
    return request_id if given is None else f"{request_id}/{ids('req')}"


def timeout_s(headers: Mapping[bytes, bytes]) -> float | None:
    """Return `X-Sluiceway-Timeout` in seconds, None when absent.

    Raises:
        InvalidRequest: not a positive number.
    """
    given = headers.get(b"x-sluiceway-timeout")
    if given is None:
        return None
    try:
        length_s = float(given)
    except ValueError:
        length_s = 0.0
    if not 0 < length_s <= DEFAULT_TIMEOUT_S:
        raise InvalidRequest(
            "X-Sluiceway-Timeout must be a number of seconds above 0 and at most "
            f"{DEFAULT_TIMEOUT_S:g}.",
            param="X-Sluiceway-Timeout",
        )
    return length_s


def tags(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return `X-Sluiceway-Tags: k=v,k=v`.

    Raises:
        InvalidRequest: not of that form, or more than 16.
    """
    given = headers.get(TAGS)
    if given is None:
        return {}
    found: dict[str, str] = {}
    for part in given.decode("utf-8", "replace").split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or not name or len(name) > 64 or len(value) > 128:  # noqa: PLR2004
            raise InvalidRequest(
                "X-Sluiceway-Tags must read 'name=value,name=value' "
                "(names to 64, values to 128 characters).",
                param="X-Sluiceway-Tags",
            )
        found[name] = value
    if len(found) > MAX_TAGS:
        raise InvalidRequest(f"At most {MAX_TAGS} tags.", param="X-Sluiceway-Tags")
    return found


def dialect_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the dialect of a call on a path that all dialects share: Anthropic's SDKs say so."""
    return "anthropic" if b"anthropic-version" in headers else "openai"


def forwarded(headers: Mapping[bytes, bytes], dialect: str) -> dict[str, str]:
    """Return the headers that the dialect's own vendor is to be sent, in lower case."""
    return named_headers(headers, FORWARDED.get(dialect, ()))


def named_headers(headers: Mapping[bytes, bytes], names: Iterable[bytes]) -> dict[str, str]:
    """Return those of the headers that the request has, by their names in lower case."""
    return {name.decode(): headers[name].decode("latin-1") for name in names if name in headers}


def text_header(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    """Return a header as text, None when absent or empty."""
    given = headers.get(name)
    return None if given is None else given.decode("utf-8", "replace").strip() or None
