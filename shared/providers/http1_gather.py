"""When fast streams are read again: some sixty times a second, and not for each of their events.

Most of what an event costs is its way: a wake of the loop, a read, a walk through the call, a send
and a wake of the reader. Events that come faster than a screen is drawn can share it.
"""

import asyncio
from collections.abc import Callable

ALONE = 2
"""So many quick pieces in a row go on by themselves first: an answer begins so, and a slow
provider's burst may be no more."""


class Gathering:
    """The instants at which the fast streams of a loop are read, at most `every_s` apart."""

    def __init__(self, loop: asyncio.AbstractEventLoop, every_s: float) -> None:
        self.every_s = every_s
        self.now_s = loop.time
        self._loop = loop
        self._waiting: list[Callable[[], None]] = []

    def wait(self, read_on: Callable[[], None]) -> None:
        """Call that at the next instant; all who wait for it are read in one turn of the loop."""
        if not self._waiting:
            self._loop.call_later(self.every_s, self._end)
        self._waiting.append(read_on)

    def _end(self) -> None:
        waiting, self._waiting = self._waiting, []
        for read_on in waiting:
            self._loop.call_soon(read_on)  # one that fails leaves the others reading


class Pace:
    """How fast the pieces of one connection come."""

    __slots__ = ("_gathering", "_last_s", "_quick")

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        self._last_s = 0.0
        self._quick = 0

    def begin(self) -> None:
        """Forget the pieces of the call before."""
        self._quick = 0

    def is_fast(self, pieces: int) -> bool:
        """Count what has been read at once; return whether it is worth while to gather the next.

        That is when two or more are to be expected until the next instant.
        """
        gathering = self._gathering
        now_s = gathering.now_s()
        gap_s, self._last_s = now_s - self._last_s, now_s
        if gap_s * 2 >= gathering.every_s * pieces:
            self._quick = 0
            return False
        self._quick += pieces
        return self._quick >= ALONE
