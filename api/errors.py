"""Error code to HTTP status, headers and body: the only status table."""

import math
from collections.abc import Mapping

import msgspec

from shared.errors import (
    BudgetExceeded,
    ChainFailed,
    GatewayError,
    MethodNotAllowed,
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


def status_of(failure: Mapping[str, object]) -> int:
    """Return the HTTP status of a failure object, as `failure_of` makes and job rows keep it."""
    status = failure.get("upstream_status")
    if isinstance(status, int):
        return status
    return STATUSES.get(str(failure.get("code")), 500)


def body_of(failure: Mapping[str, object]) -> bytes:
    """Return OpenAI's error body."""
    shown = {key: value for key, value in failure.items() if key != "upstream_status"}
    return msgspec.json.encode({"error": shown})


def headers_of(error: GatewayError) -> dict[str, str]:
    """Return the headers an error brings: when to come back, or that it is of no use."""
    headers: dict[str, str] = {}
    wait_s: float | None = None
    if isinstance(error, RateLimitExceeded | QueueFull | ChainFailed):
        wait_s = error.retry_after_s
    elif isinstance(error, StoreUnavailable):
        wait_s = STORE_RETRY_S
    if wait_s is not None:
        headers["retry-after"] = str(min(MAX_RETRY_AFTER_S, max(1, math.ceil(wait_s))))
    if isinstance(error, BudgetExceeded) or error.code in {"content_filter", "deadline_exceeded"}:
        headers["x-should-retry"] = "false"
    if isinstance(error, RateLimitExceeded) and isinstance(error.standing, Standing):
        for name, value in rate_headers(error.standing):
            headers[name.decode()] = value.decode()
    if isinstance(error, MethodNotAllowed) and error.allowed:
        headers["allow"] = ", ".join(error.allowed)
    return headers


def answer_of(error: GatewayError) -> tuple[int, bytes, dict[str, str]]:
    """Return status, body and headers of an error."""
    failure = failure_of(error)
    return status_of(failure), body_of(failure), headers_of(error)


def event_of(error: GatewayError) -> bytes:
    """Return the server-sent event that ends a broken stream, as OpenAI's SDK reads it."""
    return b"data: " + body_of(failure_of(error)) + b"\n\n"
