"""Error code to HTTP status, headers and body, in the caller's dialect: the only status table."""

import math
from collections.abc import Mapping

import msgspec

from shared.errors import (
    BudgetExceeded,
    ChainFailed,
    GatewayError,
    IdempotencyInProgress,
    MethodNotAllowed,
    Overloaded,
    QueueFull,
    RateLimitExceeded,
    StoreUnavailable,
)
from shared.gateway.failure import failure_of
from shared.limits.headers import rate_headers
from shared.limits.limiter import Standing

STATUSES: Mapping[str, int] = {
    "invalid_request": 400,
    "unsupported_parameter": 400,
    "context_length_exceeded": 400,
    "previous_response_not_found": 400,
    "content_filter": 400,
    "invalid_api_key": 401,
    "permission_denied": 403,
    "model_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "idempotency_in_progress": 409,
    "request_too_large": 413,
    "idempotency_mismatch": 422,
    "rate_limit_exceeded": 429,
    "queue_full": 429,
    "budget_exceeded": 429,
    "internal_error": 500,
    "upstream_unavailable": 502,
    "upstream_credential": 502,
    "upstream_malformed": 502,
    "all_targets_failed": 502,
    "stream_interrupted": 502,
    "overloaded": 503,
    "store_unavailable": 503,
    "upstream_timeout": 504,
    "deadline_exceeded": 504,
    "expired": 504,
    "cancelled": 409,
    "worker_lost": 500,
}

MAX_RETRY_AFTER_S = 120
"""OpenAI's SDK gives up at once on a longer hint (openai 3.52, MAX_RETRY_AFTER_DELAY)."""

STORE_RETRY_S = 2
IN_PROGRESS_RETRY_S = 1

ANTHROPIC = "anthropic"

_ANTHROPIC_OVERLOADED = 529
_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Its own statuses; of others those below 500 are an `invalid_request_error`, else `api_error`."""


_FINAL = frozenset({"content_filter", "deadline_exceeded", "upstream_credential"})
"""Codes of what no second try of the caller can mend."""


def status_of(failure: Mapping[str, object], dialect: str = "openai") -> int:
    """Return the HTTP status of a failure object, as `failure_of` makes and job rows keep it."""
    status = failure.get("upstream_status")
    if isinstance(status, int):
        return status
    code = str(failure.get("code"))
    if dialect == ANTHROPIC and code == "overloaded":
        return _ANTHROPIC_OVERLOADED
    return STATUSES.get(code, 500)


def body_of(
    failure: Mapping[str, object], dialect: str = "openai", request_id: str | None = None
) -> bytes:
    """Return the error body that the dialect's own SDK reads; Anthropic's names the request."""
    shown = {key: value for key, value in failure.items() if key != "upstream_status"}
    if dialect != ANTHROPIC:
        return msgspec.json.encode({"error": shown})
    status = status_of(failure, dialect)
    other = "invalid_request_error" if status < 500 else "api_error"  # noqa: PLR2004 (HTTP)
    shown["type"] = _ANTHROPIC_TYPES.get(status, other)
    shown["details"] = {"error_code": failure.get("code")}
    return msgspec.json.encode({"type": "error", "error": shown, "request_id": request_id})


def headers_of(error: GatewayError) -> dict[str, str]:
    """Return the headers an error brings: when to come back, or that it is of no use."""
    headers: dict[str, str] = {}
    wait_s: float | None = None
    if isinstance(error, RateLimitExceeded | QueueFull | ChainFailed | Overloaded):
        wait_s = error.retry_after_s
    elif isinstance(error, StoreUnavailable):
        wait_s = STORE_RETRY_S
    elif isinstance(error, IdempotencyInProgress):
        wait_s = IN_PROGRESS_RETRY_S
    if wait_s is not None:
        headers["retry-after"] = str(min(MAX_RETRY_AFTER_S, max(1, math.ceil(wait_s))))
    if isinstance(error, BudgetExceeded) or error.code in _FINAL:
        headers["x-should-retry"] = "false"
    if isinstance(error, RateLimitExceeded) and isinstance(error.standing, Standing):
        for name, value in rate_headers(error.standing):
            headers[name.decode()] = value.decode()
    if isinstance(error, MethodNotAllowed) and error.allowed:
        headers["allow"] = ", ".join(error.allowed)
    return headers


def answer_of(
    error: GatewayError, dialect: str = "openai", request_id: str | None = None
) -> tuple[int, bytes, dict[str, str]]:
    """Return status, body and headers of an error."""
    failure = failure_of(error)
    return status_of(failure, dialect), body_of(failure, dialect, request_id), headers_of(error)


def event_of(error: GatewayError, dialect: str = "openai", request_id: str | None = None) -> bytes:
    """Return the server-sent event that ends a broken stream, as the dialect's SDK reads it."""
    name = b"event: error\n" if dialect == ANTHROPIC else b""
    return b"%bdata: %b\n\n" % (name, body_of(failure_of(error), dialect, request_id))
