"""Google's error bodies as UpstreamError, decided by status and typed details.

A context that is too long has no code of its own: its two documented sentences are known. A daily
quota is CREDENTIAL, not RATE_LIMITED, as everywhere: no wait that a call can afford helps.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.openai_errors import read_error
from shared.providers.exchange import HttpResponse
from shared.providers.hiding import hide
from shared.providers.retry_after import duration_s, http_date, retry_after_s

_KIND_OF_STATUS = {
    "INVALID_ARGUMENT": FailureKind.REJECTED,
    "FAILED_PRECONDITION": FailureKind.REJECTED,
    "OUT_OF_RANGE": FailureKind.REJECTED,
    "UNAUTHENTICATED": FailureKind.CREDENTIAL,
    "PERMISSION_DENIED": FailureKind.CREDENTIAL,
    "NOT_FOUND": FailureKind.NOT_FOUND,
    "RESOURCE_EXHAUSTED": FailureKind.RATE_LIMITED,
    "UNAVAILABLE": FailureKind.OVERLOADED,
    "DEADLINE_EXCEEDED": FailureKind.TIMEOUT,
    "INTERNAL": FailureKind.SERVER_ERROR,
    "UNKNOWN": FailureKind.SERVER_ERROR,
    "ABORTED": FailureKind.SERVER_ERROR,
    "CANCELLED": FailureKind.SERVER_ERROR,
}
_KIND_OF_HTTP = {
    401: FailureKind.CREDENTIAL,
    403: FailureKind.CREDENTIAL,
    404: FailureKind.NOT_FOUND,
    408: FailureKind.TIMEOUT,
    429: FailureKind.RATE_LIMITED,
    499: FailureKind.SERVER_ERROR,
    503: FailureKind.OVERLOADED,
    504: FailureKind.TIMEOUT,
}
_BAD_KEY = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "ACCESS_TOKEN_EXPIRED"})
_TOO_LONG = re.compile(
    r"the input token count(?: \(?\d+\)?)? exceeds the maximum number of tokens allowed"
    r"|the input token count is \d+ but (?:the )?model only supports up to \d+",
    re.IGNORECASE,
)
"""The Developer API's sentence, and Vertex's."""


class GoogleError(msgspec.Struct, frozen=True, kw_only=True):
    """What an error body says. `status` is Google's word, such as RESOURCE_EXHAUSTED."""

    message: str | None = None
    status: str | None = None
    http: int | None = None
    reason: str | None = None
    retry_s: float | None = None
    daily: bool = False


def error_of(response: HttpResponse, secret: str | None = None) -> UpstreamError:
    """Return what an answer other than 2xx means; `secret` never stands in its message."""
    found = read_google(response.body)
    date = http_date(response.headers.get("date"))
    hint_s = retry_after_s(response.headers, date, status=response.status)
    text = found.message or read_error(response.body).message
    return _error(
        found,
        hide(text or f"The provider answered {response.status} without a text.", secret),
        http=response.status,
        retry_s=found.retry_s if hint_s is None else hint_s,
    )


def error_inside(error: object, secret: str | None = None) -> UpstreamError:
    """Return what the `error` of a 200's body or event means."""
    found = google_error(error)
    text = found.message or "The provider reported an error without a text."
    return _error(found, hide(text, secret), http=found.http, retry_s=found.retry_s)


def read_google(body: bytes) -> GoogleError:
    """Return what an error body says: an object, or the list of one that streams are refused with.

    Anything else, a proxy's page for instance, says nothing.
    """
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return GoogleError()
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    return google_error(decoded.get("error")) if isinstance(decoded, Mapping) else GoogleError()


def google_error(error: object) -> GoogleError:
    """Return what the value of an `error` member says."""
    if not isinstance(error, Mapping):
        return GoogleError(message=error if isinstance(error, str) else None)
    found = error.get("details")
    details = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    code = error.get("code")
    return GoogleError(
        message=_text(error.get("message")),
        status=_text(error.get("status")),
        http=code if isinstance(code, int) and 400 <= code <= 599 else None,  # noqa: PLR2004
        reason=next((text for one in details if (text := _text(one.get("reason")))), None),
        retry_s=next((s for one in details if (s := _retry_s(one)) is not None), None),
        daily=any(_is_daily(one) for one in details),
    )


def _error(
    found: GoogleError, text: str, *, http: int | None, retry_s: float | None
) -> UpstreamError:
    kind = _kind_of(found, http)
    code = found.status
    if found.daily and kind is FailureKind.RATE_LIMITED:
        # The delay in such an answer is that of the minute, which would not help.
        kind, code, retry_s = FailureKind.CREDENTIAL, "insufficient_quota", None
    elif kind is FailureKind.CONTEXT_LENGTH:
        code = "context_length_exceeded"
    return UpstreamError(
        kind,
        text,
        status=http,
        retry_after_s=retry_s,
        upstream_code=code,
        upstream_type=found.reason,
    )


def _kind_of(found: GoogleError, http: int | None) -> FailureKind:
    if found.reason in _BAD_KEY:
        return FailureKind.CREDENTIAL
    if http in {400, None} and found.message and _TOO_LONG.search(found.message):
        return FailureKind.CONTEXT_LENGTH
    kind = _KIND_OF_STATUS.get(found.status or "") or _KIND_OF_HTTP.get(http or 0)
    if kind is not None:
        return kind
    if http is None or http >= 500:  # noqa: PLR2004
        return FailureKind.SERVER_ERROR
    return FailureKind.REJECTED if http >= 400 else FailureKind.MALFORMED  # noqa: PLR2004


def _retry_s(detail: dict[str, Any]) -> float | None:
    delay = detail.get("retryDelay")
    return duration_s(delay) if isinstance(delay, str) else None


def _is_daily(detail: dict[str, Any]) -> bool:
    violations = detail.get("violations")
    return isinstance(violations, list) and any(
        isinstance(one, dict) and "PerDay" in str(one.get("quotaId", "")) for one in violations
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
