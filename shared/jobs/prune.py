"""Forgetting jobs and batches that have been over for long enough."""

from datetime import timedelta

from shared.jobs.results import forget
from shared.objects.port import Objects
from shared.store.batches import delete_ended
from shared.store.engine import Store
from shared.store.jobs import delete_kept, kept_until
from shared.telemetry.log import get_logger

AT_ONCE = 100
"""Jobs per transaction, so that none holds the one writer of SQLite for long."""

log = get_logger(__name__)


async def prune_jobs(store: Store, objects: Objects, *, keep_s: float) -> int:
    """Delete up to 100 jobs that ended more than `keep_s` seconds ago; return how many.

    Their contents, attempts, events and stored answers go too; the ledger keeps what they cost.
    Lines stay as long as their batch is open. Harmless twice.

    Raises:
        StoreUnavailable: nothing was deleted but, maybe, answers of jobs that are due to go.
    """
    async with store.read() as tx:
        jobs = await kept_until(tx, await tx.now() - timedelta(seconds=keep_s), AT_ONCE)
    for job in jobs:  # first, because a row that is gone names nothing any more
        await forget(objects, job)
    if jobs:
        async with store.write() as tx:
            await delete_kept(tx, [job.id for job in jobs])
        log.info("job.pruned", count=len(jobs))
    return len(jobs)


async def prune_batches(store: Store, *, keep_s: float) -> int:
    """Delete up to 100 batches that ended more than `keep_s` seconds ago; return how many.

    A batch outlives its lines: as long as any is there, it stays, with the counts and the cost
    that were written down when it ended. Its files have their own time. Harmless twice.

    Raises:
        StoreUnavailable: nothing was deleted.
    """
    async with store.write() as tx:
        before = await tx.now() - timedelta(seconds=keep_s)
        count = await delete_ended(tx, before, AT_ONCE)
    if count:
        log.info("batch.pruned", count=count)
    return count
