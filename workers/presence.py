"""Says that this worker lives and how busy it is, and hears whether it is to drain."""

import asyncio
import socket
from contextlib import suppress
from datetime import datetime

import msgspec

from shared.errors import StoreUnavailable
from shared.jobs.run import Desk
from shared.store.engine import Store
from shared.store.workers import Presence, be_seen, leave
from shared.telemetry.log import get_logger
from workers.loops import repeat
from workers.supply import Supply

GOODBYE_S = 2.0

log = get_logger(__name__)


class Berth(msgspec.Struct, frozen=True):
    """What a worker is: the name of its process, and how many jobs it may hold."""

    owner: str
    slots: int


async def show(supply: Supply, store: Store, berth: Berth, started_at: datetime) -> None:
    """Tell the database of this worker once, and the supply whether to claim.

    Raises:
        StoreUnavailable: the supply goes on as it was told last.
    """
    present = Presence(
        owner=berth.owner,
        host=socket.gethostname(),
        started_at=started_at,
        slots=berth.slots,
        running=len(supply.leases()),
    )
    async with store.write() as tx:
        drains = await be_seen(tx, present)
    if drains != supply.draining:
        supply.draining = drains
        if drains:
            log.info("worker.told_to_drain", owner=berth.owner)
        else:
            log.info("worker.told_to_work", owner=berth.owner)
        supply.ring()


async def keep_present(supply: Supply, desk: Desk, berth: Berth, *, heartbeat_s: float) -> None:
    """Show it every `heartbeat_s` seconds until cancelled; then say goodbye."""
    started_at = desk.clock.now()

    async def once() -> bool:
        await show(supply, desk.store, berth, started_at)
        return False

    try:
        await repeat("presence", once, every_s=heartbeat_s, clock=desk.clock)
    except asyncio.CancelledError:
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(GOODBYE_S), desk.store.write() as tx:
                await leave(tx, berth.owner)
        raise
