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

    def patience(self, ends_s: Callable[[], float]) -> "Patience":
        """Return a limit for many waits that moves: `ends_s` tells the monotonic moment anew."""


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
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._wheel = loop, _Wheel(loop)
        return _Timeout(length_s, self._wheel)

    def patience(self, ends_s: Callable[[], float]) -> Patience:
        """Return a limit for many waits that moves: `ends_s` tells the monotonic moment anew."""
        return _Patience(self, ends_s)


TICK_S = 0.05
"""Timeouts that are not precise strike by so much too late, at most twice: a timer of its own for
each would cost the event loop 8 µs, a place among the others costs 1."""
PRECISE_S = 0.1
"""Timeouts below this have a timer of their own."""


class _Wheel:
    """The timeouts of one event loop by the tick in which they strike."""

    __slots__ = ("_done", "_places", "_ticking", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._places: dict[int, set[_Timeout]] = {}
        self._done = 0
        self._ticking = False

    def add(self, timeout: "_Timeout", length_s: float) -> int:
        """Put it in its place and return that."""
        now_s = self.loop.time()
        if not self._ticking:
            self._ticking = True
            self._done = int(now_s / TICK_S)
            self.loop.call_later(TICK_S, self._tick)
        place = int((now_s + length_s) / TICK_S) + 1
        found = self._places.get(place)
        if found is None:
            self._places[place] = {timeout}
        else:
            found.add(timeout)
        return place

    def remove(self, timeout: "_Timeout", place: int) -> None:
        """Take it out, if it has not struck."""
        found = self._places.get(place)
        if found is not None:
            found.discard(timeout)
            if not found:
                del self._places[place]

    def _tick(self) -> None:
        now = int(self.loop.time() / TICK_S)
        for place in range(self._done + 1, now + 1):
            for timeout in self._places.pop(place, ()):
                timeout.strike()
        self._done = now
        self._ticking = bool(self._places)
        if self._ticking:
            self.loop.call_later(TICK_S, self._tick)


class _Timeout:
    """What `asyncio.timeout` does, at a quarter of its cost: every call passes here."""

    __slots__ = ("_cancels", "_length_s", "_place", "_struck", "_task", "_timer", "_wheel")

    def __init__(self, length_s: float, wheel: _Wheel) -> None:
        self._length_s = length_s
        self._wheel = wheel
        self._timer: asyncio.Handle | None = None

    async def __aenter__(self) -> None:
        task = asyncio.current_task(self._wheel.loop)
        if task is None:
            raise RuntimeError("A timeout needs a task to cancel.")
        self._task = task
        self._cancels = task.cancelling()
        self._struck = False
        if self._length_s >= PRECISE_S:
            self._place = self._wheel.add(self, self._length_s)
            return
        loop = asyncio.get_running_loop()
        self._timer = (
            loop.call_later(self._length_s, self.strike)
            if self._length_s > 0
            else loop.call_soon(self.strike)
        )

    async def __aexit__(
        self, _kind: object, error: BaseException | None, _traceback: object
    ) -> None:
        if self._timer is None:
            self._wheel.remove(self, self._place)
        else:
            self._timer.cancel()
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

    __slots__ = ("_clock", "_ends_s", "_struck", "_timer", "_waiting")

    def __init__(self, clock: Clock, ends_s: Callable[[], float]) -> None:
        self._clock = clock
        self._ends_s = ends_s
        self._waiting: asyncio.Task[object] | None = None
        self._timer: asyncio.Handle | None = None
        self._struck = False

    async def wait(self, piece: Awaitable[Waited]) -> Waited:
        """Return what is awaited; a moment long past strikes only where it is not there yet."""
        self._waiting = asyncio.current_task()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_soon(self._look)
        try:
            return await piece
        except asyncio.CancelledError as error:
            if self._struck and self._waiting is not None and self._waiting.uncancel() == 0:
                raise TimeoutError from error
            raise
        finally:
            self._waiting = None

    def end(self) -> None:
        """Need no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._ends_s = _never_s  # that of the stream which has us: no circle of references is left

    def _look(self) -> None:
        left_s = self._ends_s() - self._clock.monotonic()
        if left_s > 0:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._look)
        elif self._waiting is None:
            self._timer = None  # nobody waits; the next who does looks again
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
