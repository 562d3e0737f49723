"""Limits in memory, on a clock of the test's own."""

import pytest

from shared.config.model import Limits
from shared.errors import RateLimitExceeded
from shared.limits.limiter import Scope
from shared.limits.local import LocalLimiter
from shared.limits.rules import State
from tests.fakes.clock import FakeClock


def admitted(limiter, scope, calls, *, tokens=1):
    """Make the calls one after the other and return how many were admitted."""
    passed = 0
    for number in range(calls):
        try:
            limiter.take_now([scope], tokens=tokens, slot=f"{scope.name}-{number}", slot_s=60)
        except RateLimitExceeded:
            continue
        passed += 1
    return passed


def test_four_processes_share_a_limit_exactly():
    """Each lets a quarter of the burst pass, and then a quarter of the rate."""
    clock = FakeClock()
    limiter = LocalLimiter(clock, share=4)
    scope = Scope(name="tenant:acme", limits=Limits(rpm=120))

    at_once = admitted(limiter, scope, 200)
    clock.advance(30)

    assert (30, 15) == (at_once, admitted(limiter, scope, 200))


@pytest.mark.parametrize(
    ("share", "stands_in", "expected"), [(1, False, False), (4, False, True), (1, True, True)]
)
def test_callers_are_told_of_a_share_and_of_a_stand_in(share, stands_in, expected):
    """A process that is alone by choice counts as exactly as Redis would."""
    limiter = LocalLimiter(FakeClock(), share=share, stands_in=stands_in)
    scope = Scope(name="tenant:acme", limits=Limits(rpm=1))

    taken = limiter.take_now([scope], tokens=1, slot="one", slot_s=60)
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.take_now([scope], tokens=1, slot="two", slot_s=60)

    assert [expected, expected] == [taken.standing.local, caught.value.standing.local]


def test_a_share_of_less_than_one_still_gets_its_turn():
    clock = FakeClock()
    limiter = LocalLimiter(clock, share=4)
    scope = Scope(name="tenant:acme", limits=Limits(rpm=1))

    passed = 0
    for _ in range(16):
        passed += admitted(limiter, scope, 1)
        clock.advance(60)

    assert 4 == passed


def test_it_goes_on_from_where_another_stopped():
    """What was left at 1000 s by Redis' clock, and nothing of a fresh burst."""
    clock = FakeClock()
    limiter = LocalLimiter(
        clock, start={"tenant:acme": State(1000.0, (5.0, 9e9, 9e9, 9e9))}, offset_s=1000.0
    )
    scope = Scope(name="tenant:acme", limits=Limits(rpm=60))

    assert 5 == admitted(limiter, scope, 100)


def test_a_slot_that_nobody_gives_back_ends_by_itself():
    clock = FakeClock()
    limiter = LocalLimiter(clock)
    scope = Scope(name="tenant:acme", limits=Limits(concurrency=1))

    limiter.take_now([scope], tokens=1, slot="lost", slot_s=60)
    with pytest.raises(RateLimitExceeded):
        limiter.take_now([scope], tokens=1, slot="next", slot_s=60)
    clock.advance(61)

    assert "next" == limiter.take_now([scope], tokens=1, slot="next", slot_s=60).slot


def test_scopes_that_are_full_again_are_forgotten():
    """A million users in a day cost the memory of those of the last minute."""
    clock = FakeClock()
    limiter = LocalLimiter(clock)

    for number in range(5000):
        scope = Scope(name=f"user:acme/{number}", limits=Limits(rpm=60))
        limiter.take_now([scope], tokens=1, slot="s", slot_s=60)
        clock.advance(0.1)

    assert len(limiter._states) < 50
