"""What becomes of a job whose call did not answer. Pure."""

from datetime import datetime, timedelta

import msgspec

from shared.errors import (
    CallerError,
    ChainFailed,
    GatewayError,
    OwnFault,
    RateLimitExceeded,
    StoreUnavailable,
)
from shared.jobs.failure import expired
from shared.jobs.state import FinalStatus

MOST_SPENT = 5
"""Runs that failed at providers after which a job is given up; deferrals do not count."""

LONGEST_WAIT_S = 300.0
_SPENT_BASE_S = 2.0
_DEFERRED_BASE_S = 1.0

_DEFERRED = frozenset({"rate_limit_exceeded", "overloaded"})
_SPENT = frozenset(
    {
        "upstream_unavailable",
        "upstream_timeout",
        "upstream_malformed",
        "upstream_credential",  # an operator may mend it while the job waits
        "stream_interrupted",
        "all_targets_failed",
    }
)


class Later(msgspec.Struct, frozen=True, kw_only=True):
    """Try again at `not_before`. `spent`: this run counts; otherwise it was a mere deferral."""

    not_before: datetime
    spent: bool


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The job is over: `status` is `failed` or `expired`."""

    status: FinalStatus
    error: GatewayError


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What a job has behind it, and until when it may run."""

    deadline: datetime
    attempts_spent: int = 0
    deferrals: int = 0


def after_failure(past: Past, error: Exception, *, now: datetime, draw: float) -> Later | Ended:
    """Decide about a job whose run raised `error`.

    Rate limits, overload and a database that is away cost the job nothing but time: it is
    deferred by the provider's hint, or by a growing wait. Failures that may pass spend one of
    five tries. All others end the job. `draw` from 0 to 1 spreads the wait, so that jobs that
    failed together do not return together.
    """
    failure = error if isinstance(error, GatewayError) else OwnFault("The call broke inside.")
    if isinstance(error, CallerError) and not isinstance(error, RateLimitExceeded):
        return Ended(status="failed", error=failure)
    if now >= past.deadline:
        return Ended(status="expired", error=expired())
    spent = not _defers(failure)
    if spent and not _may_pass(failure):
        return Ended(status="failed", error=failure)
    if spent and past.attempts_spent + 1 >= MOST_SPENT:
        return Ended(status="failed", error=failure)
    not_before = now + timedelta(seconds=_wait_s(past, failure, spent=spent, draw=draw))
    if not_before >= past.deadline:
        return Ended(status="failed", error=failure)
    return Later(not_before=not_before, spent=spent)


def _defers(failure: GatewayError) -> bool:
    return failure.code in _DEFERRED or isinstance(failure, StoreUnavailable)


def _may_pass(failure: GatewayError) -> bool:
    # A bug of ours may be gone with the next deploy; five tries bound it.
    return failure.code in _SPENT or isinstance(failure, OwnFault)


def _wait_s(past: Past, failure: GatewayError, *, spent: bool, draw: float) -> float:
    grown_s: float = (
        _SPENT_BASE_S * 3.0**past.attempts_spent
        if spent
        else _DEFERRED_BASE_S * 2.0 ** min(past.deferrals, 20)
    )
    own_s = min(LONGEST_WAIT_S, grown_s) * (0.5 + draw / 2)
    if isinstance(failure, ChainFailed | RateLimitExceeded) and failure.retry_after_s is not None:
        return max(own_s, failure.retry_after_s * (1.0 + draw / 10))
    return own_s
