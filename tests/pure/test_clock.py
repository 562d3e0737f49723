"""Alarms of one event loop, many by one timer: each rings once, and in time."""

import asyncio
import heapq
import itertools
import math
from asyncio import events

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import TICK_S, SystemClock


class Timer:
    def __init__(self, call):
        self.call = call
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


class Loop:
    """An event loop whose time only moves when told; the running one inside of `with`."""

    def __init__(self):
        self.now_s = 1000.0
        self.failed = []
        self._due = []
        self._count = itertools.count()

    def __enter__(self):
        events._set_running_loop(self)
        return self

    def __exit__(self, *_):
        events._set_running_loop(None)

    def time(self):
        return self.now_s

    def call_at(self, when_s, call, *args):
        timer = Timer(lambda: call(*args))
        heapq.heappush(self._due, (when_s, next(self._count), timer))
        return timer

    def call_later(self, length_s, call, *args):
        return self.call_at(self.now_s + length_s, call, *args)

    def call_soon(self, call, *args):
        return self.call_at(self.now_s, call, *args)

    def call_exception_handler(self, told):
        self.failed.append(str(told["exception"]))

    def advance(self, length_s):
        ends_s = self.now_s + length_s
        while self._due and self._due[0][0] <= ends_s:
            when_s, _, timer = heapq.heappop(self._due)
            self.now_s = max(self.now_s, when_s)
            if not timer.cancelled:
                timer.call()
        self.now_s = ends_s

    @property
    def timers(self):
        return [timer for _, _, timer in self._due if not timer.cancelled]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.floats(-1, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.floats(0.001, 5)),
    )
)


@given(STEPS)
def test_each_rings_once_in_time_unless_it_is_cancelled(steps):
    clock, rung, due, alarms = SystemClock(), {}, [], []
    with Loop() as loop:

        def ring(number):
            assert number not in rung
            rung[number] = loop.now_s

        for what, value in steps:
            match what:
                case "set":
                    number = len(alarms)
                    due.append(loop.now_s + max(0.0, value))
                    alarms.append(clock.later(value, lambda number=number: ring(number)))
                case "cancel" if value < len(alarms):
                    alarms[value].cancel()
                    if value not in rung:
                        rung[value] = None
                case "wait":
                    loop.advance(value)
        loop.advance(31)

        assert [*range(len(alarms))] == sorted(rung)
        for number, at_s in rung.items():
            if at_s is not None:
                assert due[number] <= at_s <= due[number] + 1.1 * TICK_S
        assert not loop.timers


def test_all_have_one_timer_and_far_ones_wake_nobody():
    clock = SystemClock()
    with Loop() as loop:
        alarms = [clock.later(length_s, lambda: None) for length_s in (60, 30, 45, 30)]
        assert 1 == len(loop.timers)
        alarms[1].cancel()
        alarms[3].cancel()
        loop.advance(44)

        assert 1 == len(loop.timers)


def test_what_has_no_end_never_rings():
    clock = SystemClock()
    with Loop() as loop:
        alarm = clock.later(math.inf, lambda: None)
        assert not loop.timers
        alarm.cancel()


async def waited():
    patience = SystemClock().patience(lambda: math.inf)
    try:
        return await patience.wait(asyncio.sleep(0, "piece"))
    finally:
        patience.end()


def test_a_patience_without_end_waits():
    assert "piece" == asyncio.run(waited())


def test_one_that_fails_takes_nothing_from_the_others():
    clock, rung = SystemClock(), []

    def fail():
        raise RuntimeError("no")

    with Loop() as loop:
        for ring in (fail, lambda: rung.append(1), fail, lambda: rung.append(2)):
            clock.later(1, ring)
        clock.later(2, lambda: rung.append(3))
        loop.advance(5)

    assert {1, 2, 3} == set(rung)
    assert ["no", "no"] == loop.failed


@pytest.mark.parametrize("length_s", [0.0, 0.01, 0.15])
def test_a_timeout_strikes_what_runs_inside(length_s):
    async def wait():
        async with SystemClock().timeout(length_s):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(wait())
