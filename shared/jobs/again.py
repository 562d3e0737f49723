"""Running a job again by an operator's word: a final state is never left, so a copy runs."""

from datetime import datetime

import msgspec

from shared.errors import Conflict, NotFound
from shared.ids import IdMaker
from shared.jobs.state import FINAL
from shared.queue.bell import Bell
from shared.queue.tasks import jobs_topic
from shared.store.engine import Store, Tx
from shared.store.jobs import insert_job
from shared.store.oversight import find_job, queue_now
from shared.store.records import JobRow, NewJob
from shared.telemetry.log import get_logger

RETRY_OF = "retry_of"
"""The metadata by which a copy names the job it was made from."""

log = get_logger(__name__)


async def run_again(store: Store, bell: Bell, ids: IdMaker, job_id: str) -> str:
    """Queue a scheduled job at once, or a copy of one that ended in vain; return the id to watch.

    The copy has as much time as the job had. Limits of the queue do not hold it up.

    Raises:
        NotFound: there is no such job.
        Conflict: it has succeeded, is under way already, or its body is no longer there.
    """
    async with store.write() as tx:
        found = await find_job(tx, job_id)
        if found is None:
            raise NotFound(f"No job '{job_id}'.")
        job = found.job
        own_id = await _queued(tx, ids, job)
    bell.ring(jobs_topic(job.priority))
    log.info("job.retried", job_id=job_id, retry_id=own_id)
    return own_id


async def _queued(tx: Tx, ids: IdMaker, job: JobRow) -> str:
    if job.status == "scheduled" and await queue_now(tx, job.id):
        return job.id
    if job.status not in FINAL:
        raise Conflict(f"Job '{job.id}' is {job.status}; there is nothing to be retried.")
    if job.status == "succeeded":
        raise Conflict(f"Job '{job.id}' has succeeded; to run it once more submit it anew.")
    if not job.body:
        raise Conflict(f"The body of job '{job.id}' is no longer kept.")
    now = await tx.now()
    copy = _copy(job, ids, now)
    await insert_job(tx, copy, now)
    return copy.id


def _copy(job: JobRow, ids: IdMaker, now: datetime) -> NewJob:
    given = {name: getattr(job, name) for name in NewJob.__struct_fields__}
    fresh = NewJob(**given)
    return msgspec.structs.replace(
        fresh,
        id=ids("job"),
        request_id=ids("req"),
        metadata={**job.metadata, RETRY_OF: job.id},
        deadline=now + (job.deadline - job.created_at),
        not_before=None,
        batch_id=None,
        line_no=None,
        custom_id=None,
        response_id=None,
        streamed=False,
    )
