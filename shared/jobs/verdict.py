"""What becomes of a job whose call did not answer. Pure."""

from datetime import UTC, datetime, timedelta

import msgspec

from shared.errors import (
    CHAIN_CODES,
    BudgetExceeded,
    CallerError,
    ChainFailed,
    FailureKind,
    GatewayError,
    OwnFault,
    RateLimitExceeded,
    StoreUnavailable,
)
from shared.jobs.failure import expired
from shared.jobs.state import FinalStatus
from shared.store.records import OnBudget

MOST_SPENT = 5
"""Runs that failed by the job's own doing, maybe, after which it is given up."""

LONGEST_WAIT_S = 300.0
LEAST_LEFT_S = 0.1
"""With less than this left no further run is tried: it could only be late."""
BUDGET = "budget"
"""What a job waits for whose money is spent."""
_SPENT_BASE_S = 2.0
_DEFERRED_BASE_S = 1.0
_BUDGET_SPREAD_S = 5.0

_PASSING = frozenset(
    {
        "rate_limit_exceeded",
        "overloaded",
        "upstream_unavailable",
        "upstream_timeout",
        "upstream_credential",  # an operator may mend it while the job waits
    }
)
_PASSING_KINDS = frozenset(kind.value for kind, code in CHAIN_CODES.items() if code in _PASSING) - {
    FailureKind.NOT_FOUND.value  # the route names a model that its provider does not have
}
_SPENT = frozenset(
    {"upstream_unavailable", "upstream_malformed", "stream_interrupted", "all_targets_failed"}
)


class Later(msgspec.Struct, frozen=True, kw_only=True):
    """Try again at `not_before`; `waits_for` says why, as a code.

    `spent`: this run counts; otherwise it was a mere deferral.
    """

    not_before: datetime
    spent: bool
    waits_for: str


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The job is over: `status` is `failed` or `expired`."""

    status: FinalStatus
    error: GatewayError


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What a job has behind it, until when it may run, and what a spent budget means to it."""

    deadline: datetime
    attempts_spent: int = 0
    deferrals: int = 0
    on_budget: OnBudget | None = None


def after_failure(past: Past, error: Exception, *, now: datetime, draw: float) -> Later | Ended:
    """Decide about a job whose run raised `error`.

    What passes without the job's doing costs it nothing but time: limits, providers that are away,
    overloaded or refuse our credential, a database that is away. The job waits by the provider's
    hint, or by a growing wait, until its deadline. What may lie in the job itself (an answer that
    nobody can read, a bug of ours) spends one of five tries. All others end it. `draw` from 0 to 1
    spreads the wait, so that jobs that failed together do not return together.
    """
    if isinstance(error, BudgetExceeded) and past.on_budget == "wait":
        return _after_window(past, error, draw)
    failure = error if isinstance(error, GatewayError) else OwnFault("The call broke inside.")
    if isinstance(error, CallerError) and not isinstance(error, RateLimitExceeded):
        return Ended(status="failed", error=failure)
    if now >= past.deadline:
        return Ended(status="expired", error=expired())
    if _passes(failure):
        return _deferred(past, failure, now, draw)
    if not _may_pass(failure) or past.attempts_spent + 1 >= MOST_SPENT:
        return Ended(status="failed", error=failure)
    wait_s = _spread(_SPENT_BASE_S * 3.0**past.attempts_spent, draw)
    not_before = now + timedelta(seconds=wait_s)
    if not_before >= past.deadline:
        return Ended(status="failed", error=failure)
    return Later(not_before=not_before, spent=True, waits_for=failure.code)


def _passes(failure: GatewayError) -> bool:
    if isinstance(failure, ChainFailed) and failure.attempts and failure.code in _SPENT:
        # One target that may come back is enough to wait for.
        return any(one.kind in _PASSING_KINDS for one in failure.attempts)
    return failure.code in _PASSING or isinstance(failure, StoreUnavailable)


def _may_pass(failure: GatewayError) -> bool:
    # A bug of ours may be gone with the next deploy; five tries bound it.
    return failure.code in _SPENT or isinstance(failure, OwnFault)


def _deferred(past: Past, failure: GatewayError, now: datetime, draw: float) -> Later | Ended:
    left_s = (past.deadline - now).total_seconds()
    grown_s = _spread(_DEFERRED_BASE_S * 2.0 ** min(past.deferrals, 20), draw)
    # Never more than half of what is left: an outage that ends just in time must not be slept over.
    wait_s = min(grown_s, left_s / 2)
    if isinstance(failure, ChainFailed | RateLimitExceeded) and failure.retry_after_s is not None:
        wait_s = max(wait_s, failure.retry_after_s * (1.0 + draw / 10))
    if wait_s >= left_s or left_s < LEAST_LEFT_S:
        return Ended(status="expired", error=expired(failure.code, failure.message))
    return Later(not_before=now + timedelta(seconds=wait_s), spent=False, waits_for=failure.code)


def _after_window(past: Past, error: BudgetExceeded, draw: float) -> Later | Ended:
    resets_at = datetime.fromtimestamp(error.resets_at, UTC)
    not_before = resets_at + timedelta(seconds=draw * _BUDGET_SPREAD_S)
    if not_before >= past.deadline:
        return Ended(status="failed", error=error)
    return Later(not_before=not_before, spent=False, waits_for=BUDGET)


def _spread(grown_s: float, draw: float) -> float:
    return min(LONGEST_WAIT_S, grown_s) * (0.5 + draw / 2)
