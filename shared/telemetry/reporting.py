"""What a process with an event loop does for its logs and metrics while it runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.clock import Clock
from shared.telemetry.lag import LoopLag
from shared.telemetry.lines import LINES
from shared.telemetry.metrics import LOG_LINES_DROPPED, PROCESSES
from shared.telemetry.tally import count_waiting

COUNT_S = 0.25


@asynccontextmanager
async def reporting(role: str, clock: Clock) -> AsyncIterator[LoopLag]:
    """Write lines off the event loop and count what was observed, and all of both at the end.

    Yields the lag of the event loop, which is watched meanwhile.
    """
    LINES.on_drop = LOG_LINES_DROPPED.inc
    LINES.start()
    PROCESSES.labels(role).inc()
    lag = LoopLag(role)
    tasks = [asyncio.create_task(_keep_counting(clock)), asyncio.create_task(lag.watch(clock))]
    try:
        yield lag
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        PROCESSES.labels(role).dec()
        count_waiting()
        LINES.stop()


async def _keep_counting(clock: Clock) -> None:
    while True:
        await clock.sleep(COUNT_S)
        count_waiting()
