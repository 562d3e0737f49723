"""What becomes of a job whose call did not answer."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import (
    BudgetExceeded,
    ChainFailed,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    OwnFault,
    RateLimitExceeded,
    StoreUnavailable,
)
from shared.jobs.verdict import MOST_SPENT, Ended, Later, Past, after_failure

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)


def past(*, left_s=86_400.0, **counts):
    return Past(deadline=NOW + timedelta(seconds=left_s), **counts)


def chain(code, **facts):
    return ChainFailed(code, "nobody answered", attempts=(), **facts)


def decided(error, *, behind=None, draw=0.0):
    return after_failure(behind or past(), error, now=NOW, draw=draw)


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        (chain("rate_limit_exceeded"), False),
        (chain("overloaded"), False),
        (RateLimitExceeded("ours", retry_after_s=1.0), False),
        (Overloaded("ours"), False),
        (StoreUnavailable("away"), False),
        (chain("upstream_unavailable"), True),
        (chain("upstream_timeout"), True),
        (chain("upstream_malformed"), True),
        (chain("upstream_credential"), True),
        (chain("all_targets_failed"), True),
        (OwnFault("a bug"), True),
        (RuntimeError("a bug"), True),
    ],
)
def test_what_may_pass_is_tried_again(error, spent):
    """Only a provider that failed, or a bug, costs the job one of its tries."""
    later = decided(error)

    assert isinstance(later, Later)
    assert spent == later.spent


@pytest.mark.parametrize(
    "error",
    [
        chain("invalid_request"),
        chain("context_length_exceeded"),
        chain("content_filter"),
        InvalidRequest("no"),
        ModelNotFound("no"),
        BudgetExceeded("no", limit_source="tenant", resets_at=0),
    ],
)
def test_what_will_not_pass_ends_the_job(error):
    assert Ended(status="failed", error=error) == decided(error)


def test_the_last_try_ends_the_job():
    error = chain("upstream_timeout")
    behind = past(attempts_spent=MOST_SPENT - 1)

    assert Ended(status="failed", error=error) == decided(error, behind=behind)


def test_deferrals_are_bounded_by_the_deadline_only():
    behind = past(deferrals=10_000, attempts_spent=MOST_SPENT - 1)

    assert isinstance(decided(chain("rate_limit_exceeded"), behind=behind), Later)


@pytest.mark.parametrize("draw", [0.0, 1.0])
def test_a_hint_is_waited_for_and_at_most_a_tenth_longer(draw):
    later = decided(chain("rate_limit_exceeded", retry_after_s=60.0), draw=draw)

    assert NOW + timedelta(seconds=60 + 6 * draw) == later.not_before


def test_without_a_hint_the_waits_grow_up_to_five_minutes():
    waits = [
        (decided(chain("overloaded"), behind=past(deferrals=tries), draw=1.0).not_before - NOW)
        for tries in (0, 1, 2, 8, 9, 1000)
    ]

    assert [1, 2, 4, 256, 300, 300] == [wait.total_seconds() for wait in waits]


def test_a_wait_that_would_pass_the_deadline_ends_the_job():
    error = chain("rate_limit_exceeded", retry_after_s=60.0)

    assert Ended(status="failed", error=error) == decided(error, behind=past(left_s=59.0))


def test_a_job_past_its_deadline_has_expired():
    ended = decided(chain("upstream_timeout"), behind=past(left_s=0.0))

    assert ("expired", "expired") == (ended.status, ended.error.code)


def test_a_bug_says_nothing_of_itself_to_the_caller():
    ended = decided(RuntimeError("secret"), behind=past(attempts_spent=MOST_SPENT - 1))

    assert "internal_error" == ended.error.code
    assert "secret" not in ended.error.message
