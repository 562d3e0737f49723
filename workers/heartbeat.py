"""Keeps the leases of the jobs that run here, and learns which calls must end."""

from shared.clock import Clock
from shared.jobs.lease import Reason
from shared.store.claims import renew
from shared.store.engine import Store
from workers.loops import repeat
from workers.supply import Supply

AFTER_FAILURE_S = 1.0
"""A renewal that failed is tried again soon: the leases run on."""


async def beat(supply: Supply, store: Store, *, owner: str, lease_s: float) -> None:
    """Renew all leases in one transaction; end the calls whose lease is lost or job cancelled.

    Raises:
        StoreUnavailable: nothing was learnt; the calls go on, the tokens still fence them.
    """
    held = supply.leases()
    if not held:
        return
    async with store.write() as tx:
        renewed = await renew(tx, owner=owner, held=held, lease_s=lease_s)
    supply.interrupt(renewed.lost, Reason.LEASE_LOST)
    supply.interrupt(renewed.cancelling, Reason.CANCELLED)


async def keep_beating(
    supply: Supply, store: Store, *, owner: str, lease_s: float, heartbeat_s: float, clock: Clock
) -> None:
    """Beat every `heartbeat_s` seconds until cancelled."""

    async def once() -> bool:
        await beat(supply, store, owner=owner, lease_s=lease_s)
        return False

    await repeat(
        "heartbeat",
        once,
        every_s=heartbeat_s,
        clock=clock,
        after_failure_s=min(AFTER_FAILURE_S, heartbeat_s),
    )
