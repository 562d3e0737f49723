"""An error as callers read it: the `error` object of an OpenAI body, of a job row, of an event."""

import msgspec

from shared.errors import (
    BudgetExceeded,
    ChainFailed,
    DeadlineExceeded,
    FailureKind,
    GatewayError,
    ModelNotFound,
    RateLimitExceeded,
    StoreUnavailable,
    StreamInterrupted,
    UpstreamError,
)

_KEPT = frozenset({FailureKind.REJECTED, FailureKind.CONTEXT_LENGTH, FailureKind.CONTENT_FILTER})
"""The provider's own words about the caller's request are kept: status, message, string code."""

_KEPT_STATUSES = frozenset({400, 413, 422})
"""Statuses that mean the request itself; any other of a kept refusal would mislead clients."""

_TYPES = {
    "invalid_api_key": "authentication_error",
    "permission_denied": "permission_error",
    "conflict": "conflict",
    "idempotency_in_progress": "conflict",
    "rate_limit_exceeded": "rate_limit_error",
    "queue_full": "rate_limit_error",
    "budget_exceeded": "insufficient_quota",
    "internal_error": "server_error",
    "upstream_unavailable": "server_error",
    "upstream_credential": "server_error",
    "upstream_malformed": "server_error",
    "all_targets_failed": "server_error",
    "overloaded": "server_error",
    "store_unavailable": "server_error",
    "upstream_timeout": "server_error",
    "deadline_exceeded": "server_error",
    "stream_interrupted": "server_error",
    "expired": "server_error",
    "cancelled": "server_error",
    "worker_lost": "server_error",
}


def kept(error: GatewayError) -> UpstreamError | None:
    """Return the provider's refusal that is to be shown as it came, if that is what it is."""
    if isinstance(error, ChainFailed | StreamInterrupted):
        refusal = error.error
        if refusal is not None and refusal.kind in _KEPT:
            return refusal
    return None


def _shown(error: GatewayError) -> str:
    """Return what callers are told; a driver's own words, with addresses and files, are not."""
    said, colon, _ = error.message.partition(":")
    return f"{said}." if colon and isinstance(error, StoreUnavailable) else error.message


def failure_of(error: GatewayError) -> dict[str, object]:
    """Return `{message, type, param, code}`, with `attempts` and budget facts where there are any.

    `upstream_status` stands beside a provider's refusal; it decides the HTTP status at the edge.
    """
    body: dict[str, object] = {
        "message": _shown(error),
        "type": _TYPES.get(error.code, "invalid_request_error"),
        "param": error.param,
        "code": error.code,
    }
    if (refusal := kept(error)) is not None:
        body["code"] = refusal.upstream_code or error.code
        body["type"] = refusal.upstream_type or body["type"]
        body |= {name: value for name, value in refusal.details.items() if name not in body}
        # An error inside a 200, or in a stream's first event, may name no status of its own.
        known = refusal.status in _KEPT_STATUSES
        body["upstream_status"] = refusal.status if known else 400
    if isinstance(error, ChainFailed) and refusal is None:
        # A provider's `param` is about the provider's own request.
        body["param"] = "model" if error.code == ModelNotFound.code else None
    if isinstance(error, ChainFailed | DeadlineExceeded):
        body["attempts"] = [msgspec.to_builtins(one) for one in error.attempts]
    if isinstance(error, BudgetExceeded):
        body["limit_source"] = error.limit_source
        body["resets_at"] = error.resets_at
    if isinstance(error, RateLimitExceeded) and error.limit_source:
        body["limit_source"] = error.limit_source
    return body
