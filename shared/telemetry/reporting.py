"""What a process with an event loop does for its logs and metrics while it runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from shared.clock import Clock
from shared.telemetry.lines import LINES
from shared.telemetry.metrics import LOG_LINES_DROPPED, PROCESSES
from shared.telemetry.tally import count_waiting

COUNT_S = 0.25


@asynccontextmanager
async def reporting(role: str, clock: Clock) -> AsyncIterator[None]:
    """Write lines off the event loop and count what was observed, and all of both at the end."""
    LINES.on_drop = LOG_LINES_DROPPED.inc
    LINES.start()
    PROCESSES.labels(role).inc()
    counting = asyncio.create_task(_keep_counting(clock))
    try:
        yield
    finally:
        counting.cancel()
        with suppress(asyncio.CancelledError):
            await counting
        PROCESSES.labels(role).dec()
        count_waiting()
        LINES.stop()


async def _keep_counting(clock: Clock) -> None:
    while True:
        await clock.sleep(COUNT_S)
        count_waiting()
