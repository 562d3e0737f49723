"""A clock that only moves when told: sleeping takes no time but the clock's own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta

from shared.clock import Waited


class FakeClock:
    """Starts at a given moment; `sleep` moves it, `timeout` fires when a sleep passes it."""

    def __init__(self, start: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        self.start = start
        self.elapsed_s = 0.0
        self.slept: list[float] = []
        self._limits: list[float] = []

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.elapsed_s)

    def wall_s(self) -> float:
        return self.now().timestamp()

    def monotonic(self) -> float:
        return self.elapsed_s

    def advance(self, length_s: float) -> None:
        self.elapsed_s += length_s

    async def sleep(self, length_s: float) -> None:
        """Move the clock; a limit that lies in between strikes at its moment."""
        self.slept.append(length_s)
        wakes_s = self.elapsed_s + length_s
        if self._limits and min(self._limits) < wakes_s:
            self.elapsed_s = min(self._limits)
            raise TimeoutError
        self.elapsed_s = wakes_s
        await asyncio.sleep(0)

    def timeout(self, length_s: float) -> AbstractAsyncContextManager[object]:
        return self._timeout(length_s)

    def patience(self, ends_s: Callable[[], float]) -> "FakePatience":
        return FakePatience(self, ends_s)

    @asynccontextmanager
    async def _timeout(self, length_s: float) -> AsyncIterator[None]:
        limit_s = self.elapsed_s + length_s
        self._limits.append(limit_s)
        try:
            yield
        finally:
            self._limits.remove(limit_s)


class FakePatience:
    """Strikes when a sleep of the clock passes its moment."""

    def __init__(self, clock: FakeClock, ends_s: Callable[[], float]) -> None:
        self._clock = clock
        self._ends_s = ends_s

    async def wait(self, piece: Awaitable[Waited]) -> Waited:
        async with self._clock.timeout(self._ends_s() - self._clock.elapsed_s):
            return await piece

    def end(self) -> None:
        pass
