"""Ending jobs whose deadline passed while they waited."""

from shared.ids import IdMaker
from shared.jobs import failure
from shared.jobs.ending import tell
from shared.queue.bell import Bell
from shared.queue.tasks import DELIVERIES
from shared.store.claims import end_unleased, past_deadline
from shared.store.engine import Store
from shared.store.records import Finish
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import JOBS_FINISHED

AT_ONCE = 100
"""Jobs per transaction, so that none holds the one writer of SQLite for long."""

log = get_logger(__name__)


async def expire_waiting(store: Store, bell: Bell, ids: IdMaker) -> int:
    """Expire up to 100 waiting jobs past their deadline; return how many. Harmless twice."""
    count, told = 0, False
    async with store.write() as tx:
        now = await tx.now()
        for job in await past_deadline(tx, now, AT_ONCE):
            error = failure.ended(failure.expired(job.waits_for))
            end = Finish(status="expired", error=error, at=now)
            if await end_unleased(tx, job.id, end):
                count += 1
                told = await tell(tx, ids, job, end) or told
    if told:
        bell.ring(DELIVERIES)
    if count:
        JOBS_FINISHED.labels("expired").inc(count)
        log.info("job.expired", count=count)
    return count
