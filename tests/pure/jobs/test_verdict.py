"""What becomes of a job whose call did not answer."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from shared.errors import (
    BudgetExceeded,
    ChainFailed,
    FailedAttempt,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    OwnFault,
    RateLimitExceeded,
    StoreUnavailable,
)
from shared.jobs.verdict import LEAST_LEFT_S, MOST_SPENT, Ended, Later, Past, after_failure

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)


def past(*, left_s=86_400.0, **counts):
    return Past(deadline=NOW + timedelta(seconds=left_s), **counts)


def chain(code, **facts):
    return ChainFailed(code, "nobody answered", **{"attempts": (), **facts})


def decided(error, *, behind=None, draw=0.0):
    return after_failure(behind or past(), error, now=NOW, draw=draw)


def tries(*kinds):
    """Attempts that failed in these ways."""
    return tuple(
        FailedAttempt(id=f"att_{number}", provider="p", model="m", outcome="failed", kind=kind)
        for number, kind in enumerate(kinds)
    )


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        (chain("rate_limit_exceeded"), False),
        (chain("overloaded"), False),
        (RateLimitExceeded("ours", retry_after_s=1.0), False),
        (Overloaded("ours"), False),
        (StoreUnavailable("away"), False),
        (chain("upstream_unavailable", attempts=tries("connection", "server_error")), False),
        (chain("upstream_timeout"), False),
        (chain("upstream_credential"), False),
        (chain("all_targets_failed", attempts=tries("malformed", "timeout")), False),
        (chain("upstream_unavailable", attempts=tries("not_found")), True),
        (chain("upstream_malformed"), True),
        (chain("stream_interrupted"), True),
        (chain("all_targets_failed", attempts=tries("malformed", "not_found")), True),
        (OwnFault("a bug"), True),
        (RuntimeError("a bug"), True),
    ],
)
def test_what_may_pass_is_tried_again(error, spent):
    """An outage costs time; only what may lie in the job itself costs one of its tries."""
    later = decided(error)

    assert isinstance(later, Later)
    assert (spent, getattr(error, "code", "internal_error")) == (later.spent, later.waits_for)


@pytest.mark.parametrize(
    "error",
    [
        chain("invalid_request", attempts=tries("server_error", "rejected")),
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
    error = chain("upstream_malformed")
    behind = past(attempts_spent=MOST_SPENT - 1)

    assert Ended(status="failed", error=error) == decided(error, behind=behind)


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "upstream_unavailable"])
def test_an_outage_is_bounded_by_the_deadline_only(code):
    behind = past(deferrals=10_000, attempts_spent=MOST_SPENT - 1)

    assert isinstance(decided(chain(code), behind=behind), Later)


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


def test_a_hint_that_is_told_again_and_again_is_asked_about_more_and_more_rarely():
    """A provider that says `retry-after: 5` for ever is asked seven times in the first minute."""
    error, moments = chain("rate_limit_exceeded", retry_after_s=5.0), [0.0]
    while moments[-1] < 86_400.0:
        behind = past(left_s=2 * 86_400.0, deferrals=len(moments) - 1)
        later = decided(error, behind=behind)
        moments.append(moments[-1] + (later.not_before - NOW).total_seconds())
    waits = [after - before for before, after in pairwise(moments)]

    assert [5.0, 5.0, 5.0, 5.0, 8.0, 16.0, 32.0, 64.0, 128.0, 150.0, 150.0] == waits[:11]
    assert sorted(waits) == waits


def test_a_hint_beyond_the_deadline_expires_the_job_and_says_what_it_waited_for():
    error = chain("rate_limit_exceeded", retry_after_s=60.0)

    ended = decided(error, behind=past(left_s=59.0))

    assert ("expired", "expired") == (ended.status, ended.error.code)
    assert "rate_limit_exceeded: nobody answered" in ended.error.message


def test_an_outage_is_asked_about_until_shortly_before_the_deadline():
    """A wait takes at most half of what is left, so the last run begins just before the end."""
    left_s, waits = 300.0, []
    while isinstance(
        later := decided(
            chain("upstream_unavailable"), behind=past(left_s=left_s, deferrals=20), draw=1.0
        ),
        Later,
    ):
        waits.append((later.not_before - NOW).total_seconds())
        left_s -= waits[-1]

    assert [150.0, 75.0, 37.5] == waits[:3]
    assert "expired" == later.status
    assert 0 < left_s < LEAST_LEFT_S


def test_a_wait_for_a_try_of_its_own_that_would_pass_the_deadline_ends_the_job():
    error = chain("upstream_malformed")

    assert Ended(status="failed", error=error) == decided(error, behind=past(left_s=0.5))


RESETS_AT = NOW + timedelta(hours=3)
SPENT = BudgetExceeded("no money", limit_source="t", resets_at=int(RESETS_AT.timestamp()))


@pytest.mark.parametrize("on_budget", [None, "fail"])
def test_a_spent_budget_ends_a_job_that_does_not_say_otherwise(on_budget):
    assert Ended(status="failed", error=SPENT) == decided(SPENT, behind=past(on_budget=on_budget))


def test_a_job_that_waits_for_its_budget_runs_again_in_the_next_window():
    later = decided(SPENT, behind=past(on_budget="wait"))

    assert Later(not_before=RESETS_AT, spent=False, waits_for="budget") == later


def test_a_window_that_begins_after_the_deadline_is_not_waited_for():
    behind = past(on_budget="wait", left_s=3600.0)

    assert Ended(status="failed", error=SPENT) == decided(SPENT, behind=behind)


def test_a_job_past_its_deadline_has_expired():
    ended = decided(chain("upstream_timeout"), behind=past(left_s=0.0))

    assert ("expired", "expired") == (ended.status, ended.error.code)


def test_a_bug_says_nothing_of_itself_to_the_caller():
    ended = decided(RuntimeError("secret"), behind=past(attempts_spent=MOST_SPENT - 1))

    assert "internal_error" == ended.error.code
    assert "secret" not in ended.error.message
