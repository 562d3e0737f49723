"""The error tree: stable codes, typed facts, and what an attempt's failure means.

GatewayError                 code (stable, lower_snake, documented in docs/reference/errors.md)
├─ CallerError               the caller can fix it; never retried
├─ UpstreamError             one attempt failed; the chain consumes it
├─ ChainFailed               what the caller sees when no target answered
├─ JobEnded                  how a job ended without an answer
└─ OwnFault                  ours: storage away, overloaded, a bug

The HTTP status of a code stands only in `api/errors.py`: the same code also lies in job rows,
webhooks and metrics, where no status exists.
"""

import enum
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec


class GatewayError(Exception):
    """The root. `message` is for people, `code` for programs; neither ever holds a secret."""

    code: ClassVar[str] = "internal_error"
    spent_nanousd: int = 0
    """What its attempts cost all the same."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class CallerError(GatewayError):
    """The request cannot be served as it is; sending it again unchanged will not help."""

    code = "invalid_request"


class InvalidRequest(CallerError):
    """The body, a header or a parameter is wrong; `param` names it."""

    code = "invalid_request"


def too_deep() -> InvalidRequest:
    """Return the refusal of a body that is nested deeper than what reads it can go."""
    return InvalidRequest("The body is nested too deeply.")


class UnsupportedParameter(CallerError):
    """The parameter is known but the target cannot do it."""

    code = "unsupported_parameter"


class InvalidApiKey(CallerError):
    """No key, or one that is unknown, revoked or expired."""

    code = "invalid_api_key"


class PermissionDenied(CallerError):
    """The key is fine but may not do this."""

    code = "permission_denied"


class ModelNotFound(CallerError):
    """No route of that name is visible to this key."""

    code = "model_not_found"


class NotFound(CallerError):
    """No such object for this tenant."""

    code = "not_found"


class PreviousResponseNotFound(CallerError):
    """The tenant has no response of the id that this one is to go on from."""

    code = "previous_response_not_found"


class MethodNotAllowed(CallerError):
    """The path exists, the method does not; `allowed` lists what does."""

    code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class Conflict(CallerError):
    """The object's state does not allow it."""

    code = "conflict"


class IdempotencyInProgress(CallerError):
    """The first request with this Idempotency-Key has not ended yet."""

    code = "idempotency_in_progress"


class IdempotencyMismatch(CallerError):
    """The Idempotency-Key was used with another body."""

    code = "idempotency_mismatch"


class RequestTooLarge(CallerError):
    """The body exceeds `server.max_body_mb`."""

    code = "request_too_large"


class RateLimitExceeded(CallerError):
    """A rate or concurrency limit of ours; may pass after `retry_after_s` seconds.

    `limit_source` names the limit (`tenant:acme/rpm`), empty where several or none can be named.
    `standing` is the limiter's, for the `x-ratelimit-*` headers; None when there is none.
    """

    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float,
        limit_source: str = "",
        standing: object | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.limit_source = limit_source
        self.standing = standing


class QueueFull(CallerError):
    """The tenant has as many waiting jobs as it may; retry after `retry_after_s` seconds."""

    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BudgetExceeded(CallerError):
    """The money of this window is spent or held; `resets_at` is epoch seconds."""

    code = "budget_exceeded"

    def __init__(self, message: str, *, limit_source: str, resets_at: int) -> None:
        super().__init__(message)
        self.limit_source = limit_source
        self.resets_at = resets_at


class FailureKind(enum.Enum):
    """Why an attempt failed, as far as statuses and typed bodies tell."""

    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    MALFORMED = "malformed"
    CREDENTIAL = "credential"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    NOT_FOUND = "not_found"
    REJECTED = "rejected"


class UpstreamError(GatewayError):
    """One attempt failed. A value as much as an exception: the chain decides from its fields.

    `status` is the provider's HTTP status, None when there was none. `retry_after_s` is the
    provider's hint. `upstream_code` and `upstream_type` are the strings of its error body.
    `sent` is False when the request cannot have left: nothing can have been billed. `billed` is
    True when part of the work had been done, which the provider will charge. `again` is False when
    asking the same target once more is of no use, by its own word or by the nature of the failure.
    `details` are further members of its error body that callers act on.
    """

    code = "upstream_unavailable"

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        upstream_code: str | None = None,
        upstream_type: str | None = None,
        param: str | None = None,
        sent: bool = True,
        billed: bool = False,
        again: bool = True,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.kind = kind
        self.again = again
        self.details = details or {}
        self.sent = sent
        self.billed = billed
        self.status = status
        self.retry_after_s = retry_after_s
        self.upstream_code = upstream_code
        self.upstream_type = upstream_type


class FailedAttempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One try as callers see it in `error.attempts` and in a job's `attempts`."""

    id: str
    provider: str
    model: str
    outcome: str
    kind: str | None = None
    status_code: int | None = None
    duration_ms: int = 0
    message: str | None = None


class ChainFailed(GatewayError):
    """No target answered. `code` is that of the one kind of failure, or `all_targets_failed`.

    `error` is the attempt's failure to show when all failed alike (the provider's status,
    message and string code of a 400, 413 or 422 are kept); None when they were mixed.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        attempts: Sequence[FailedAttempt],
        error: UpstreamError | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, param=None if error is None else error.param)
        self.code = code  # type: ignore[misc]  # the only error whose code is decided at run time
        self.attempts = tuple(attempts)
        self.error = error
        self.retry_after_s = retry_after_s


class StreamInterrupted(GatewayError):
    """The upstream stream broke after content had been sent; no other target may continue it.

    `error` is the provider's own word, where it gave one.
    """

    code = "stream_interrupted"

    def __init__(self, message: str, *, error: UpstreamError | None = None) -> None:
        super().__init__(message)
        self.error = error


class DeadlineExceeded(GatewayError):
    """The caller's own time ran out before an answer; `attempts` were made until then."""

    code = "deadline_exceeded"

    def __init__(self, message: str, *, attempts: Sequence[FailedAttempt] = ()) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)


class OwnFault(GatewayError):
    """Not the caller's and not a provider's fault."""

    code = "internal_error"


class Overloaded(OwnFault):
    """This process has as much in flight as it may; may pass after `retry_after_s` seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreUnavailable(OwnFault):
    """The database did not answer in time, or a disk refused; nothing was recorded.

    What its message says after a colon is for the log alone. `billed`: a part of the call had been
    answered before.
    """

    code = "store_unavailable"
    billed: bool = False


class ObjectsUnavailable(StoreUnavailable):
    """The object store did not answer in time; nothing was stored."""


class JobEnded(GatewayError):
    """How a job ended without an answer."""


class JobExpired(JobEnded):
    """The deadline passed first."""

    code = "expired"


class JobCancelled(JobEnded):
    """The caller cancelled it."""

    code = "cancelled"


class WorkerLost(JobEnded):
    """Its workers died more often than `recoveries` allow."""

    code = "worker_lost"


CHAIN_CODES = {
    FailureKind.RATE_LIMITED: "rate_limit_exceeded",
    FailureKind.OVERLOADED: "overloaded",
    FailureKind.SERVER_ERROR: "upstream_unavailable",
    FailureKind.TIMEOUT: "upstream_timeout",
    FailureKind.CONNECTION: "upstream_unavailable",
    FailureKind.MALFORMED: "upstream_malformed",
    FailureKind.CREDENTIAL: "upstream_credential",
    FailureKind.CONTEXT_LENGTH: "context_length_exceeded",
    FailureKind.CONTENT_FILTER: "content_filter",
    FailureKind.NOT_FOUND: "upstream_unavailable",
    FailureKind.REJECTED: "invalid_request",
}
"""What callers see when every attempt failed in one way."""


def all_codes() -> frozenset[str]:
    """Return every code that can reach a caller, a job row, a webhook or a metric."""
    own = {"internal_error", "all_targets_failed", *CHAIN_CODES.values()}
    waiting = [GatewayError]
    while waiting:
        found = waiting.pop()
        own.add(found.code)
        waiting.extend(found.__subclasses__())
    return frozenset(own)
