"""Time as an argument. The only module that reads a clock."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

import msgspec

Waited = TypeVar("Waited")


class Clock(Protocol):
    """Wall time for records, monotonic time for lengths."""

    def now(self) -> datetime:
        """Return the moment, aware, in UTC."""

    def wall_s(self) -> float:
        """Return the same moment as seconds since the epoch, at a tenth of its cost."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards; only differences mean anything."""

    async def sleep(self, length_s: float) -> None:
        """Return after `length_s` seconds."""

    def timeout(self, length_s: float) -> AbstractAsyncContextManager[object]:
        """Cancel what runs inside after `length_s` seconds and raise TimeoutError."""

    def later(self, length_s: float, ring: Callable[[], None]) -> "Alarm":
        """Call `ring` in the running event loop, after `length_s` seconds."""

    def patience(self, ends_s: Callable[[], float]) -> "Patience":
        """Return a limit for many waits that moves: `ends_s` tells the monotonic moment anew."""


class Alarm(Protocol):
    """What is to ring once."""

    def cancel(self) -> None:
        """Need no ring any more; safe to call twice, and after it."""


class Patience(Protocol):
    """How long a stream may go on saying nothing."""

    async def wait(self, piece: Awaitable[Waited]) -> Waited:
        """Return what is awaited.

        Raises:
            TimeoutError: the moment came first; what was awaited is cancelled.
        """

    def end(self) -> None:
        """Need no more; safe to call twice."""


class SystemClock:
    """The machine's clocks; one for each event loop that sets timeouts by it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wheel: _Wheel

    # No methods around them: a call asks for the time more than ten times.
    now = staticmethod(partial(datetime.now, UTC))
    wall_s = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, length_s: float) -> None:
        """Return after `length_s` seconds."""
        await asyncio.sleep(length_s)

    def timeout(self, length_s: float) -> AbstractAsyncContextManager[object]:
        """Cancel what runs inside after `length_s` seconds and raise TimeoutError."""
        return _Timeout(length_s, self._running())

    def later(self, length_s: float, ring: Callable[[], None]) -> Alarm:
        """Call `ring` in the running event loop, after `length_s` seconds."""
        return _Alarm(length_s, ring, self._running())

    def _running(self) -> "_Wheel":
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._wheel = loop, _Wheel(loop)
        return self._wheel

    def patience(self, ends_s: Callable[[], float]) -> Patience:
        """Return a limit for many waits that moves: `ends_s` tells the monotonic moment anew."""
        return _Patience(self, ends_s)


TICK_S = 0.05
"""What is not precise strikes by so much too late, or little more: a timer of its own for each
would cost the event loop 8 µs, a place among the others costs 1."""
PRECISE_S = 0.1
"""Lengths below this have a timer of their own."""


_NEVER = -1


class _Striker(Protocol):
    def strike(self) -> None: ...


class _Wheel:
    """What is to strike in one event loop, by the tick in which it does; one timer for the next."""

    __slots__ = ("_places", "_precise", "_rings", "_timer", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._places: dict[int, set[_Striker]] = {}
        self._precise: dict[_Striker, asyncio.Handle] = {}
        self._rings = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def add(self, striker: _Striker, length_s: float) -> int:
        """Put it in its place and return that: a tick, or 0 where it has a timer of its own.

        One of infinite length strikes never.
        """
        if length_s < PRECISE_S:
            self._precise[striker] = (
                self.loop.call_later(length_s, self._strike, striker)
                if length_s > 0
                else self.loop.call_soon(self._strike, striker)
            )
            return 0
        if length_s == math.inf:
            return _NEVER
        place = int((self.loop.time() + length_s) / TICK_S) + 1
        found = self._places.get(place)
        if found is None:
            self._places[place] = {striker}
            if place < self._rings:
                self._ring_at(place)
        else:
            found.add(striker)
        return place

    def remove(self, striker: _Striker, place: int) -> None:
        """Take it out, if it has not struck."""
        found = self._places.get(place)
        if found is not None:
            found.discard(striker)
            if not found:
                del self._places[place]
        elif not place and (timer := self._precise.pop(striker, None)) is not None:
            timer.cancel()

    def _ring_at(self, place: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = place
        # A little later: the loop counts in milliseconds, and may be one early.
        self._timer = self.loop.call_at(place * TICK_S + 0.002, self._ring)

    def _ring(self) -> None:
        now = int(self.loop.time() / TICK_S)
        due = [self._places.pop(place) for place in sorted(self._places) if place <= now]
        self._rings, self._timer = math.inf, None
        if self._places:
            self._ring_at(min(self._places))
        for strikers in due:
            for striker in strikers:
                try:
                    striker.strike()
                except Exception as error:  # noqa: BLE001 (the others must strike, too)
                    self.loop.call_exception_handler(
                        {"message": "what a timer called has failed", "exception": error}
                    )

    def _strike(self, striker: _Striker) -> None:
        del self._precise[striker]
        striker.strike()


class _Alarm:
    __slots__ = ("_place", "_ring", "_wheel")

    def __init__(self, length_s: float, ring: Callable[[], None], wheel: _Wheel) -> None:
        self._ring: Callable[[], None] | None = ring
        self._wheel = wheel
        self._place = wheel.add(self, length_s)

    def cancel(self) -> None:
        """Need no ring any more."""
        if self._ring is not None:
            self._ring = None
            self._wheel.remove(self, self._place)

    def strike(self) -> None:
        """Ring."""
        if (ring := self._ring) is not None:
            self._ring = None
            ring()


class _Timeout:
    """What `asyncio.timeout` does, at a quarter of its cost: every call passes here."""

    __slots__ = ("_cancels", "_length_s", "_place", "_struck", "_task", "_wheel")

    def __init__(self, length_s: float, wheel: _Wheel) -> None:
        self._length_s = length_s
        self._wheel = wheel

    async def __aenter__(self) -> None:
        task = asyncio.current_task(self._wheel.loop)
        if task is None:
            raise RuntimeError("A timeout needs a task to cancel.")
        self._task = task
        self._cancels = task.cancelling()
        self._struck = False
        self._place = self._wheel.add(self, self._length_s)

    async def __aexit__(
        self, _kind: object, error: BaseException | None, _traceback: object
    ) -> None:
        self._wheel.remove(self, self._place)
        if not self._struck:
            return
        # A cancel by somebody else at the same time goes before ours.
        if self._task.uncancel() <= self._cancels and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def strike(self) -> None:
        """Cancel what runs inside."""
        self._struck = True
        self._task.cancel()


def _never_s() -> float:
    return math.inf


class _Patience:
    """One timer for all waits of a stream, looked at when it rings; per event it costs nothing."""

    __slots__ = ("_alarm", "_clock", "_ends_s", "_struck", "_waiting")

    def __init__(self, clock: Clock, ends_s: Callable[[], float]) -> None:
        self._clock = clock
        self._ends_s = ends_s
        self._waiting: asyncio.Task[object] | None = None
        self._alarm: Alarm | None = None
        self._struck = False

    async def wait(self, piece: Awaitable[Waited]) -> Waited:
        """Return what is awaited; a moment long past strikes only where it is not there yet."""
        self._waiting = asyncio.current_task()
        try:
            if self._alarm is None:
                left_s = self._ends_s() - self._clock.monotonic()
                self._alarm = self._clock.later(left_s, self._look)
            return await piece
        except asyncio.CancelledError as error:
            if self._struck and self._waiting is not None and self._waiting.uncancel() == 0:
                raise TimeoutError from error
            raise
        finally:
            self._waiting = None

    def end(self) -> None:
        """Need no more."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._ends_s = _never_s  # that of the stream which has us: no circle of references is left

    def _look(self) -> None:
        left_s = self._ends_s() - self._clock.monotonic()
        if left_s > 0:
            self._alarm = self._clock.later(left_s, self._look)
        elif self._waiting is None:
            self._alarm = None  # nobody waits; the next who does looks again
        else:
            self._struck = True
            self._waiting.cancel()


def blocking_sleep(length_s: float) -> None:
    """Hold the calling thread; for commands and tests without an event loop."""
    time.sleep(length_s)


class Deadline(msgspec.Struct, frozen=True, gc=False):
    """A moment on the monotonic clock by which everything must have ended."""

    at_s: float

    @classmethod
    def after(cls, length_s: float, clock: Clock) -> "Deadline":
        """Return the deadline `length_s` seconds from now."""
        return cls(clock.monotonic() + length_s)

    def left_s(self, clock: Clock) -> float:
        """Return the seconds left, never negative."""
        left_s = self.at_s - clock.monotonic()
        return left_s if left_s > 0.0 else 0.0  # noqa: FURB136 (a call of max costs more)


def wall_ms() -> int:
    """Return milliseconds since the epoch; for ids."""
    return time.time_ns() // 1_000_000
