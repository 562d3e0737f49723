"""Anthropic's errors as UpstreamError: by status, by type, and by the code in their details.

Three of its 400s have no code and are known by the sentence Anthropic documents: a prompt that is
too long, an account without credit, and an answer that its filter held back.
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.openai_errors import ErrorBody, read_error
from shared.providers.exchange import HttpResponse
from shared.providers.hiding import hide
from shared.providers.retry_after import http_date, may_repeat, retry_after_s

_KIND_OF_TYPE = {
    "invalid_request_error": FailureKind.REJECTED,
    "authentication_error": FailureKind.CREDENTIAL,
    "billing_error": FailureKind.CREDENTIAL,
    "permission_error": FailureKind.CREDENTIAL,
    "not_found_error": FailureKind.NOT_FOUND,
    # A lock on the provider's side: its own SDK tries again.
    "conflict_error": FailureKind.SERVER_ERROR,
    "request_too_large": FailureKind.REJECTED,
    "rate_limit_error": FailureKind.RATE_LIMITED,
    "timeout_error": FailureKind.TIMEOUT,
    "api_error": FailureKind.SERVER_ERROR,
    "overloaded_error": FailureKind.OVERLOADED,
}

_KIND_OF_STATUS = {
    401: FailureKind.CREDENTIAL,
    402: FailureKind.CREDENTIAL,
    403: FailureKind.CREDENTIAL,
    404: FailureKind.NOT_FOUND,
    408: FailureKind.TIMEOUT,
    409: FailureKind.SERVER_ERROR,
    429: FailureKind.RATE_LIMITED,
    503: FailureKind.OVERLOADED,
    504: FailureKind.TIMEOUT,
    524: FailureKind.TIMEOUT,
    529: FailureKind.OVERLOADED,
}

_SPENT = frozenset({"enforced_spend_limit_reached", "contract_spend_limit_reached"})
"""A limit of money, which waiting does not lift."""

_SENTENCES = (
    ("prompt is too long", FailureKind.CONTEXT_LENGTH),
    ("input length and `max_tokens` exceed context limit", FailureKind.CONTEXT_LENGTH),
    ("your credit balance is too low", FailureKind.CREDENTIAL),
    ("output blocked by content filtering policy", FailureKind.CONTENT_FILTER),
)
"""How the documented messages begin, in small letters; read in `invalid_request_error` only."""

_LIMITS = ("requests", "tokens", "input-tokens", "output-tokens")


class _Details(msgspec.Struct):
    error_code: str | None = None


class _Error(msgspec.Struct):
    type: str | None = None
    message: str | None = None
    details: _Details | None = None


class _Body(msgspec.Struct):
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Body).decode


def error_of(response: HttpResponse, secret: str | None = None) -> UpstreamError:
    """Return what an answer other than 2xx means; `secret` never stands in its message."""
    body = _read(response.body)
    message = body.message or f"The provider answered {response.status} without a text."
    return UpstreamError(
        _kind(response.status, body),
        hide(message, secret),
        status=response.status,
        retry_after_s=_retry_after_s(response.headers),
        again=may_repeat(response.headers),
        upstream_code=body.code,
        upstream_type=body.type,
        param=body.param,
    )


def error_inside(data: bytes, secret: str | None = None) -> UpstreamError:
    """Return what an error event of a stream, or an error in a 200, means."""
    body = _read(data)
    message = body.message or "The provider reported an error without a text."
    return UpstreamError(
        _kind(None, body),
        hide(message, secret),
        upstream_code=body.code,
        upstream_type=body.type,
        param=body.param,
    )


def _read(data: bytes) -> ErrorBody:
    """Return what the body says; one of another vendor's shape (a proxy's) is read as such."""
    try:
        error = _decode(data).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return read_error(data)
    if error is None or error.message is None:
        return read_error(data)
    code = None if error.details is None else error.details.error_code
    return ErrorBody(message=error.message, type=error.type, code=code)


def _kind(status: int | None, body: ErrorBody) -> FailureKind:
    if body.code in _SPENT:
        return FailureKind.CREDENTIAL
    if body.type == "invalid_request_error":
        said = (body.message or "").lower()
        for sentence, kind in _SENTENCES:
            if said.startswith(sentence):
                return kind
    by_type = _KIND_OF_TYPE.get(body.type or "")
    if status is None:
        return by_type or FailureKind.SERVER_ERROR
    if status in _KIND_OF_STATUS:
        return _KIND_OF_STATUS[status]
    if status >= 500:  # noqa: PLR2004
        return by_type or FailureKind.SERVER_ERROR
    return FailureKind.REJECTED if status >= 400 else FailureKind.MALFORMED  # noqa: PLR2004


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the hint, else when the limits that are used up begin again, the last of them."""
    date = http_date(headers.get("date"))
    plain = retry_after_s(headers, date)
    if plain is not None or date is None:
        return plain
    waits = [
        (reset - date).total_seconds()
        for limit in _LIMITS
        if headers.get(f"anthropic-ratelimit-{limit}-remaining", "").strip() == "0"
        and (reset := _moment(headers.get(f"anthropic-ratelimit-{limit}-reset")))
    ]
    return max(0.0, *waits) if waits else None


def _moment(value: str | None) -> datetime | None:
    """Return an RFC 3339 moment, None for anything else."""
    try:
        found = datetime.fromisoformat(value or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
