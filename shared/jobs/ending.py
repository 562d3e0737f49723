"""The last write of a job: its end and the event that tells of it, together."""

from shared.ids import IdMaker
from shared.jobs.background import conclude
from shared.store.engine import Tx
from shared.store.records import Finish, JobRow
from shared.webhooks.emit import emit
from shared.webhooks.event import job_event


async def tell(
    tx: Tx, ids: IdMaker, job: JobRow, finish: Finish, answer: bytes | None = None
) -> bool:
    """Put the event of the job's end in the outbox; return whether anybody listens.

    `answer` is the whole answer, also one that is too large for the row. A job that makes a
    response in the background tells the URL it was given of that one only.
    """
    if job.batch_id is not None:  # of a batch, its own end is told
        return False
    responded = await conclude(tx, ids, job, finish, answer)
    url = None if job.response_id is not None else job.webhook_url
    urls = () if url is None else (url,)
    event = job_event(ids("evt"), job_id=job.id, status=finish.status, at=finish.at)
    listened = await emit(tx, event, tenant_id=job.tenant_id, urls=urls, ids=ids, at=finish.at)
    return responded or listened
