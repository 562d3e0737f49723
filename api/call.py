"""What the headers of an inference call say."""

import re
from collections.abc import Mapping

import msgspec

from shared.errors import InvalidRequest

DEFAULT_TIMEOUT_S = 3600.0
"""No route's total_s is shortened unless the caller asks for it; this only bounds a mistake."""

MAX_WAIT_S = 60
MAX_TAGS = 16

_request_id = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")
_wait = re.compile(r"wait\s*=\s*(\d+)\Z")


class Preference(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 7240 `Prefer`: `respond-async`, and `wait=N` seconds for it to be done in time."""

    respond_async: bool = False
    wait_s: int = 0

    @property
    def applied(self) -> str:
        """What `Preference-Applied` says."""
        return f"respond-async, wait={self.wait_s}" if self.wait_s else "respond-async"


def preference(headers: Mapping[bytes, bytes]) -> Preference:
    """Return what `Prefer` asks; preferences that are not known are ignored, as the RFC says."""
    value = headers.get(b"prefer")
    if value is None:
        return Preference()
    respond_async, wait_s = False, 0
    for part in value.decode("latin-1").lower().split(","):
        if part.strip() == "respond-async":
            respond_async = True
        elif (found := _wait.match(part.strip())) is not None:
            wait_s = min(MAX_WAIT_S, int(found.group(1)))
    return Preference(respond_async=respond_async, wait_s=wait_s if respond_async else 0)


def request_id_of(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the caller's own `x-request-id` when it is safe to repeat in logs and headers."""
    given = headers.get(b"x-request-id")
    if given is None or _request_id.match(given) is None:
        return None
    return given.decode()


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
    given = headers.get(b"x-sluiceway-tags")
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


def text_header(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    """Return a header as text, None when absent or empty."""
    return headers.get(name, b"").decode("utf-8", "replace").strip() or None
