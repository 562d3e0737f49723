"""Time as an argument. The only module that reads a clock."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Protocol

import msgspec


class Clock(Protocol):
    """Wall time for records, monotonic time for lengths."""

    def now(self) -> datetime:
        """Return the moment, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards; only differences mean anything."""

    async def sleep(self, length_s: float) -> None:
        """Return after `length_s` seconds."""

    def timeout(self, length_s: float) -> AbstractAsyncContextManager[object]:
        """Cancel what runs inside after `length_s` seconds and raise TimeoutError."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the moment, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()

    async def sleep(self, length_s: float) -> None:
        """Return after `length_s` seconds."""
        await asyncio.sleep(length_s)

    def timeout(self, length_s: float) -> AbstractAsyncContextManager[object]:
        """Cancel what runs inside after `length_s` seconds and raise TimeoutError."""
        return asyncio.timeout(max(0.0, length_s))


def blocking_sleep(length_s: float) -> None:
    """Hold the calling thread; for commands and tests without an event loop."""
    time.sleep(length_s)


class Deadline(msgspec.Struct, frozen=True):
    """A moment on the monotonic clock by which everything must have ended."""

    at_s: float

    @classmethod
    def after(cls, length_s: float, clock: Clock) -> "Deadline":
        """Return the deadline `length_s` seconds from now."""
        return cls(clock.monotonic() + length_s)

    def left_s(self, clock: Clock) -> float:
        """Return the seconds left, never negative."""
        return max(0.0, self.at_s - clock.monotonic())


def wall_ms() -> int:
    """Return milliseconds since the epoch; for ids."""
    return time.time_ns() // 1_000_000
