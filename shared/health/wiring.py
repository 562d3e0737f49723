"""The sharing of facts in a process: over Redis when there is one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from shared.clock import Clock
from shared.health.facts import FactBook


@asynccontextmanager
async def open_sharing(redis_url: str | None, facts: FactBook, clock: Clock) -> AsyncIterator[None]:
    """Share the facts in the background; without a URL each process keeps its own."""
    if redis_url is None:
        yield
        return
    # A process without Redis does without its client, too.
    from shared.health.redis import FactSharer

    sharer = FactSharer(redis_url, facts, clock)
    running = asyncio.create_task(sharer.run())
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await sharer.aclose()
