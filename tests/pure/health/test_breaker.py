"""A breaker opens on what a target does, never on what its callers do, and always closes again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.model import Breaker
from shared.health.breaker import FRESH, BreakerState, Phase, Verdict, admits, begun, ended

RULES = Breaker(failures=3, window_s=30.0, open_s=15.0, half_open_probes=2)
GOOD, BAD, SILENT = Verdict.GOOD, Verdict.BAD, Verdict.SILENT


def after(*verdicts: Verdict, state: BreakerState = FRESH, at_s: float = 0.0) -> BreakerState:
    """The state after calls that ended so, one after the other."""
    for verdict in verdicts:
        state = ended(begun(state, RULES, at_s), RULES, verdict, at_s, "timeout")
    return state


@pytest.mark.parametrize(
    ("verdicts", "phase"),
    [
        ((BAD, BAD), Phase.CLOSED),
        ((BAD, BAD, BAD), Phase.OPEN),
        ((BAD, BAD, GOOD, BAD, BAD), Phase.CLOSED),
        ((BAD, SILENT, BAD, SILENT, BAD), Phase.OPEN),
        ((BAD, SILENT, BAD, SILENT, SILENT), Phase.CLOSED),
        ((GOOD, BAD) * 9 + (GOOD,), Phase.CLOSED),
        ((GOOD, BAD) * 10, Phase.OPEN),
        ((GOOD, GOOD, BAD) * 20, Phase.CLOSED),
    ],
    ids=str,
)
def test_it_opens_after_failures_in_a_row_or_at_half_of_twenty(verdicts, phase):
    assert phase is after(*verdicts).phase


def test_old_failures_are_forgotten_with_their_part_of_the_window():
    state = after(*[GOOD, BAD] * 9)

    assert Phase.CLOSED is after(GOOD, BAD, state=state, at_s=40.0).phase


def test_it_tells_why_and_since_when():
    state = after(BAD, BAD, BAD, at_s=7.0)

    assert (Phase.OPEN, 7.0, "timeout") == (state.phase, state.since_s, state.reason)


def test_it_admits_nothing_until_its_time_is_over():
    state = after(BAD, BAD, BAD)

    assert not admits(state, RULES, 14.9)
    assert admits(state, RULES, 15.0)


def test_a_bounded_number_of_probes_finds_out():
    state = begun(after(BAD, BAD, BAD), RULES, 15.0)
    assert (Phase.HALF_OPEN, True) == (state.phase, admits(state, RULES, 15.0))

    state = begun(state, RULES, 15.0)
    assert not admits(state, RULES, 15.0)

    state = ended(state, RULES, GOOD, 16.0)
    assert (Phase.HALF_OPEN, True) == (state.phase, admits(state, RULES, 16.0))
    assert Phase.CLOSED is ended(state, RULES, GOOD, 16.0).phase


def test_a_failed_probe_opens_it_again_for_the_whole_time():
    state = ended(begun(after(BAD, BAD, BAD), RULES, 15.0), RULES, BAD, 20.0, "connection")

    assert (Phase.OPEN, 20.0, "connection") == (state.phase, state.since_s, state.reason)


def test_a_probe_whose_caller_left_makes_room_for_the_next():
    state = ended(begun(after(BAD, BAD, BAD), RULES, 15.0), RULES, SILENT, 16.0)

    assert (Phase.HALF_OPEN, 0) == (state.phase, state.probes)


def test_what_began_before_it_opened_changes_nothing():
    state = after(BAD, BAD, BAD)

    assert state == ended(state, RULES, GOOD, 1.0) == ended(state, RULES, BAD, 1.0)


events = st.lists(
    st.tuples(st.sampled_from(["begin", GOOD, BAD, SILENT]), st.floats(0, 20)), max_size=60
)


@given(events)
def test_it_always_comes_back(story):
    """Whatever has happened: once its time is over it admits a call, and good calls close it."""
    state, now_s, running = FRESH, 0.0, 0
    for event, later_s in story:
        now_s += later_s
        if event == "begin":
            if admits(state, RULES, now_s):
                state, running = begun(state, RULES, now_s), running + 1
        elif running:
            state, running = ended(state, RULES, event, now_s), running - 1
        assert 0 <= state.probes <= RULES.half_open_probes
    for _ in range(running):
        state = ended(state, RULES, SILENT, now_s)
    now_s += RULES.open_s
    for _ in range(RULES.half_open_probes):
        assert admits(state, RULES, now_s)
        state = ended(begun(state, RULES, now_s), RULES, GOOD, now_s)

    assert Phase.CLOSED is state.phase


@given(st.lists(st.sampled_from([GOOD, SILENT])))
def test_callers_never_open_it(verdicts):
    assert Phase.CLOSED is after(*verdicts).phase
