"""The states of a job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.state import FINAL, LEASED, OPEN, STATES, STEPS, WAITING, may_become


@given(st.lists(st.sampled_from(sorted(STATES)), max_size=30))
def test_a_final_state_is_never_left(wishes):
    """Whatever is asked of a job that is over, it stays as it ended."""
    state, ended = "queued", None
    for wish in wishes:
        if may_become(state, wish):
            state = wish
        if ended is not None:
            assert ended == state
        if state in FINAL:
            ended = state


def test_every_open_state_leads_to_an_end():
    """No job can be caught in a circle without a way out."""
    for state in OPEN:
        reached, waiting = set(), [state]
        while waiting:
            for after in STEPS[waiting.pop()] - reached:
                reached.add(after)
                waiting.append(after)
        assert reached >= FINAL


def test_every_state_stands_in_the_table():
    assert set(STEPS) == STATES
    assert WAITING | LEASED | {"offloaded"} == OPEN
    assert {after for steps in STEPS.values() for after in steps} <= STATES


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        ("queued", "running", True),
        ("running", "queued", True),
        ("running", "scheduled", True),
        ("running", "cancelling", True),
        ("cancelling", "cancelled", True),
        ("cancelling", "queued", False),
        ("queued", "succeeded", False),
        ("succeeded", "failed", False),
        ("cancelled", "queued", False),
    ],
)
def test_steps(before, after, allowed):
    assert allowed == may_become(before, after)
