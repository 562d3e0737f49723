"""Cancelling a job: at once while it waits, with the next heartbeat while it runs."""

from shared.errors import NotFound
from shared.ids import IdMaker
from shared.jobs import failure
from shared.jobs.ending import tell
from shared.jobs.state import WAITING
from shared.queue.bell import Bell
from shared.queue.tasks import DELIVERIES
from shared.store.claims import end_unleased, request_cancel
from shared.store.engine import Store
from shared.store.jobs import get_job
from shared.store.records import Finish, JobRow
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import JOBS_FINISHED

log = get_logger(__name__)


async def cancel(store: Store, bell: Bell, ids: IdMaker, *, tenant_id: str, job_id: str) -> JobRow:
    """Return the job as it stands after the wish to cancel it; asking twice changes nothing.

    A waiting job is `cancelled`, a running one `cancelling` until its worker has ended the call.
    A job that is over stays as it is.

    Raises:
        NotFound: the tenant has no such job.
        StoreUnavailable: nothing was changed.
    """
    told = ended = False
    async with store.write() as tx:
        job = await request_cancel(tx, tenant_id, job_id, await tx.now())
        if job is not None and job.status in WAITING:
            end = Finish(
                status="cancelled", error=failure.ended(failure.cancelled()), at=await tx.now()
            )
            ended = await end_unleased(tx, job.id, end)
            told = ended and await tell(tx, ids, job, end)
        after = await get_job(tx, tenant_id, job_id)
    if after is None:
        raise NotFound(f"No job '{job_id}'.")
    if ended:
        JOBS_FINISHED.labels("cancelled").inc()
    if told:
        bell.ring(DELIVERIES)
    log.info("job.cancel_requested", job_id=job_id, status=after.status)
    return after
