"""The last write of a job: its end and the event that tells of it, together."""

from shared.ids import IdMaker
from shared.store.engine import Tx
from shared.store.records import Finish, JobRow
from shared.webhooks.emit import emit
from shared.webhooks.event import job_event


async def tell(tx: Tx, ids: IdMaker, job: JobRow, finish: Finish) -> bool:
    """Put the event of the job's end in the outbox; return whether anybody listens."""
    urls = () if job.webhook_url is None else (job.webhook_url,)
    event = job_event(ids("evt"), job_id=job.id, status=finish.status, at=finish.at)
    await emit(tx, event, tenant_id=job.tenant_id, urls=urls, ids=ids, at=finish.at)
    return bool(urls)
