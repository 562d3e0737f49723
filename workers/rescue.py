"""The caretaker that takes back the jobs of dead workers."""

from shared.jobs.rescue import AT_ONCE, rescue_jobs
from shared.jobs.run import Desk
from workers.loops import caretaker_period_s, repeat


async def keep_rescuing(desk: Desk, *, lease_s: float, heartbeat_s: float) -> None:
    """Look for ended leases until cancelled.

    After the database was away it waits for two heartbeats first: all leases may have ended
    meanwhile, and their living owners must be able to renew them.
    """
    booked = desk.commits is None or desk.commits.booked

    async def once() -> bool:
        return await rescue_jobs(desk.store, desk.bell, desk.ids, booked=booked) == AT_ONCE

    await repeat(
        "rescue",
        once,
        every_s=caretaker_period_s(lease_s),
        clock=desk.clock,
        after_failure_s=2 * heartbeat_s,
    )
