"""The caretaker that ends waiting jobs whose deadline has passed."""

from shared.jobs.expire import AT_ONCE, expire_waiting
from shared.jobs.run import Desk
from workers.loops import caretaker_period_s, repeat


async def keep_expiring(desk: Desk, *, lease_s: float) -> None:
    """Look for passed deadlines until cancelled."""

    async def once() -> bool:
        return await expire_waiting(desk.store, desk.bell, desk.ids) == AT_ONCE

    await repeat("expire", once, every_s=caretaker_period_s(lease_s), clock=desk.clock)
