"""When a delivery is tried again."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.webhooks.schedule import (
    STEPS_S,
    Outcome,
    Verdict,
    disabled_for,
    judge,
    next_wait_s,
)

HOUR = 3600


def test_the_steps_are_the_specification_s():
    hours = (2, 5, 10, 14, 20, 24)

    assert (0, 5, 300, 1800, *(hour * HOUR for hour in hours)) == STEPS_S
    assert 75 == sum(STEPS_S) // HOUR


@given(st.integers(0, 9), st.floats(0, 1))
def test_a_wait_is_its_step_give_or_take_a_tenth(made, draw):
    wait_s = next_wait_s(made, draw)

    assert STEPS_S[made] * 0.9 <= wait_s <= STEPS_S[made] * 1.1


def test_after_the_last_step_there_is_none():
    assert next_wait_s(10, 0.5) is None
    assert next_wait_s(10, 0.5, 60.0) is None


@pytest.mark.parametrize(
    ("hint_s", "wait_s"), [(1.0, 5.0), (60.0, 60.0), (10 * 24 * HOUR, 24 * HOUR)]
)
def test_a_hint_makes_it_longer_up_to_a_day(hint_s, wait_s):
    assert wait_s == next_wait_s(1, 0.5, hint_s)


@pytest.mark.parametrize(
    ("outcome", "made", "verdict"),
    [
        (Outcome(status_code=200), 1, Verdict(status="succeeded")),
        (Outcome(status_code=204), 10, Verdict(status="succeeded")),
        (Outcome(status_code=302), 1, Verdict(status="pending", wait_s=5.0)),
        (Outcome(status_code=400), 1, Verdict(status="pending", wait_s=5.0)),
        (Outcome(status_code=500), 2, Verdict(status="pending", wait_s=300.0)),
        (
            Outcome(status_code=429, retry_after_s=30.0),
            1,
            Verdict(status="pending", wait_s=30.0),
        ),
        (Outcome(error="timeout"), 9, Verdict(status="pending", wait_s=24.0 * HOUR)),
        (Outcome(error="timeout"), 10, Verdict(status="failed")),
        (Outcome(status_code=410), 1, Verdict(status="failed")),
    ],
)
def test_verdicts(outcome, made, verdict):
    assert verdict == judge(outcome, made=made, draw=0.5)


@pytest.mark.parametrize(
    ("status", "failing", "events", "why"),
    [
        (410, timedelta(0), 1, "it answered 410"),
        (500, timedelta(days=5), 10, "it has taken nothing for 5 days"),
        (500, timedelta(days=5), 9, None),
        (500, timedelta(days=4, hours=23), 1000, None),
        (404, timedelta(0), 1, None),
    ],
)
def test_when_an_endpoint_is_given_up(status, failing, events, why):
    """One bad minute, or one bad event, says nothing."""
    assert why == disabled_for(Outcome(status_code=status), failing, events)
