"""Asking a second target beside a slow first one: the first answer wins, the other call ends.

Only the first call of a chain is hedged, and only before any content: what has been shown to a
caller is never raced.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

from shared.attempts.chain import AttemptFailed, TargetFull, Try
from shared.attempts.remedy import LEAST_ATTEMPT_S
from shared.attempts.retry_budget import Allowance
from shared.clock import Clock
from shared.routing.plan import Plan, Step

Won = TypeVar("Won")

KEPT_WAITS = 200
"""The waits of a route by which the next one is judged; old ones leave one by one."""
LEAST_WAITS = 20
"""With fewer there is no telling what is slow."""
SLOW_SHARE = 0.95


class Waits:
    """How long a route's callers have waited of late for what can be shown: an answer, a token."""

    def __init__(self) -> None:
        self._waits_s: deque[float] = deque(maxlen=KEPT_WAITS)

    def add(self, wait_s: float) -> None:
        """Take note of one."""
        self._waits_s.append(wait_s)

    def slow_s(self) -> float | None:
        """Return the wait that 95 of 100 stay below; None while too few are known."""
        if len(self._waits_s) < LEAST_WAITS:
            return None
        return sorted(self._waits_s)[math.ceil(SLOW_SHARE * len(self._waits_s)) - 1]


class Race(msgspec.Struct, frozen=True, kw_only=True):
    """Who has won a race: `second` says whether it was the second call."""

    second: bool


class Hedged(Generic[Won]):
    """A call for `run_chain` that makes two of its first, when that is slow.

    `lost` is given an answer that came too late to be of use, to end and book it.
    `raced` is told of each race that has ended in an answer.
    """

    def __init__(
        self,
        call: Callable[[Try], Awaitable[Won]],
        second: Step,
        after_s: float,
        *,
        clock: Clock,
        allowance: Allowance,
        lost: Callable[[Won], Awaitable[None]],
        raced: Callable[[Race], None],
    ) -> None:
        self._call = call
        self._second = second
        self._after_s = after_s
        self._clock = clock
        self._allowance = allowance
        self._lost = lost
        self._raced = raced
        self._begun = False
        self._failed: AttemptFailed | TargetFull | None = None

    async def __call__(self, tried: Try) -> Won:
        """Make the call that the chain asks for.

        Raises what that call raises. The second target's failure is kept until its turn comes.
        """
        if not self._begun:
            self._begun = True
            return await self._race(tried)
        failed = self._failed
        if failed is not None and tried.step is self._second:
            self._failed = None
            raise failed
        return await self._call(tried)

    async def _made(self, tried: Try) -> Won:
        return await self._call(tried)

    async def _race(self, tried: Try) -> Won:
        tasks = [asyncio.create_task(self._made(tried))]
        try:
            if await self._is_slow(tasks[0], tried.limit_s):
                left_s = max(LEAST_ATTEMPT_S, tried.limit_s - self._after_s)
                beside = Try(step=self._second, number=tried.number + 1, limit_s=left_s)
                tasks.append(asyncio.create_task(self._made(beside)))
            return await self._first_of(tasks)
        finally:
            await self._end(tasks)

    async def _is_slow(self, first: asyncio.Task[Won], limit_s: float) -> bool:
        """Wait for the first call so long; return whether another is due, and allowed."""
        if self._after_s + LEAST_ATTEMPT_S > limit_s:
            return False
        timer = asyncio.create_task(self._clock.sleep(self._after_s))
        try:
            await asyncio.wait([first, timer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        return not first.done() and self._allowance.again(self._second)

    async def _first_of(self, tasks: list[asyncio.Task[Won]]) -> Won:
        """Return the first answer; where there is none, raise the first call's failure."""
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            won = next((one for one in tasks if one in done and one.exception() is None), None)
            if won is not None:
                if len(tasks) > 1:
                    self._raced(Race(second=won is tasks[1]))
                tasks.remove(won)  # nobody ends it any more
                return won.result()
        if len(tasks) > 1:
            first, second = tasks[0].exception(), tasks[1].exception()
            if isinstance(second, AttemptFailed | TargetFull):
                self._failed = second
            if isinstance(first, AttemptFailed) and isinstance(second, AttemptFailed):
                first.beside = second  # to be told even where the chain ends here
        return tasks[0].result()

    async def _end(self, tasks: list[asyncio.Task[Won]]) -> None:
        """Cancel what still runs, and give back what came too late."""
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(ended, BaseException):
                await self._lost(ended)


def second_of(plan: Plan, is_fit: Callable[[Step], bool]) -> Step | None:
    """Return the target to ask beside the first one; None where there is none that is fit."""
    if len(plan.steps) < 2:  # noqa: PLR2004 (a race needs two)
        return None
    return plan.steps[1] if is_fit(plan.steps[1]) else None
