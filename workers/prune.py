"""The caretaker that forgets jobs and batches which have been over for long enough."""

from shared.jobs.prune import AT_ONCE, prune_batches, prune_jobs
from shared.jobs.run import Desk
from workers.loops import repeat

EVERY_S = 60.0


async def keep_pruning(desk: Desk, *, keep_s: float) -> None:
    """Look for jobs, and for batches without any, to forget until cancelled."""

    async def once() -> bool:
        jobs = await prune_jobs(desk.store, desk.objects, keep_s=keep_s)
        batches = await prune_batches(desk.store, keep_s=keep_s)
        return AT_ONCE in (jobs, batches)

    await repeat("prune_jobs", once, every_s=min(EVERY_S, keep_s), clock=desk.clock)
