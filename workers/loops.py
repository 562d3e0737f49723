"""A task done again and again that outlives every failure of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from shared.clock import Clock
from shared.errors import StoreUnavailable
from shared.telemetry.log import get_logger

LONGEST_SHARE_S = 5.0

DATABASE_S = 2.0
"""For the database to take what a process that stops has to tell it."""

log = get_logger(__name__)


def caretaker_period_s(lease_s: float) -> float:
    """Return how often caretakers look: a sixth of the lease, at most every 5 seconds."""
    return min(LONGEST_SHARE_S, lease_s / 6)


async def repeat(
    name: str,
    task: Callable[[], Awaitable[bool]],
    *,
    every_s: float,
    clock: Clock,
    after_failure_s: float | None = None,
) -> None:
    """Do the task every `every_s` seconds, at once again while it returns True; never returns.

    A failure is logged and followed by a pause of `after_failure_s` seconds (default `every_s`);
    nothing but a cancellation ends the loop.
    """
    while True:
        pause_s = every_s
        try:
            if await task():
                continue
        except StoreUnavailable as error:
            log.warning("caretaker.store_unavailable", task=name, reason=error.message)
            pause_s = every_s if after_failure_s is None else after_failure_s
        except Exception:
            log.exception("caretaker.failed", task=name)
            pause_s = every_s if after_failure_s is None else after_failure_s
        await clock.sleep(pause_s)


async def wait_for_claim(claiming: asyncio.Lock, clock: Clock) -> None:
    """Return when what is being claimed under the lock is known, and its tasks have begun.

    It is ours in the database before we hear of it: a process that is gone by then leaves it
    to the end of its lease. Waits DATABASE_S at most.
    """
    with suppress(TimeoutError):
        async with clock.timeout(DATABASE_S), claiming:
            pass
    await clock.sleep(0)


async def wait_for_ring(rung: asyncio.Event, length_s: float, clock: Clock) -> None:
    """Return when rung, or after `length_s` seconds; the ring is taken."""
    try:
        async with clock.timeout(length_s):
            await rung.wait()
    except TimeoutError:
        pass
    rung.clear()
