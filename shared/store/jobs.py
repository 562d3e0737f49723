"""Jobs as callers see them: put in, looked at, counted."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.paging import beyond
from shared.store.records import AttemptRow, JobRow, NewJob
from shared.store.rows import JOBS, JOBS_WITH_BODY, attempt_of, job_of
from shared.store.side_tables import BATCH_OPEN, batch
from shared.store.tables import OPEN, attempt, job, job_content


async def insert_job(tx: Tx, new: NewJob, at: datetime) -> None:
    """Accept a job: `queued`, or `scheduled` when its `not_before` is still to come."""
    scheduled = new.not_before is not None and new.not_before > at
    values = msgspec.structs.asdict(new)
    body = values.pop("body")
    await tx.connection.execute(
        sa.insert(job).values(
            **values,
            status="scheduled" if scheduled else "queued",
            created_at=at,
            queued_at=at,
            attempts_spent=0,
            deferrals=0,
            recoveries=0,
            lease_token=0,
        )
    )
    await tx.connection.execute(sa.insert(job_content).values(job_id=new.id, body=body))


async def get_job(tx: Tx, tenant_id: str, job_id: str) -> JobRow | None:
    """Return the tenant's job with its body; None for nobody's and somebody else's."""
    found = await tx.connection.execute(
        JOBS_WITH_BODY.where(job.c.id == job_id, job.c.tenant_id == tenant_id)
    )
    row = found.one_or_none()
    return None if row is None else job_of(row)


async def list_jobs(
    tx: Tx,
    tenant_id: str,
    *,
    limit: int,
    after: str | None,
    status: str | None = None,
    batch_id: str | None = None,
) -> list[JobRow]:
    """Return up to `limit` of the tenant's jobs, newest first, without their bodies.

    `after` is the id of the job before the page, which may be deleted by now. Lines of batches are
    left out, unless it is those of `batch_id` that are asked for.
    """
    query = JOBS.where(job.c.tenant_id == tenant_id, job.c.batch_id.is_not_distinct_from(batch_id))
    if status is not None:
        query = query.where(job.c.status == status)
    if after is not None:
        query = query.where(await beyond(tx, job, after, tenant_id=tenant_id))
    rows = await tx.connection.execute(
        query.order_by(job.c.created_at.desc(), job.c.id.desc()).limit(limit)
    )
    return [job_of(row) for row in rows]


async def keep_position(tx: Tx, job_id: str, position: dict[str, object] | None) -> None:
    """Note where the chain of a job goes on; in a transaction that knows that it holds the job."""
    await tx.connection.execute(sa.update(job).where(job.c.id == job_id).values(position=position))


async def delete_job(tx: Tx, tenant_id: str, job_id: str) -> bool:
    """Delete a job that is over, with its attempts; the ledger keeps what it cost.

    False when the tenant has no such job or it is still open.
    """
    deleted = await tx.connection.execute(
        sa.delete(job).where(job.c.id == job_id, job.c.tenant_id == tenant_id, sa.not_(OPEN))
    )
    return deleted.rowcount > 0


async def attempts_of(tx: Tx, job_id: str, *, last: int | None = None) -> list[AttemptRow]:
    """Return a job's attempts, or the `last` so many of them, oldest first."""
    newest_first = (
        sa.select(attempt)
        .where(attempt.c.job_id == job_id)
        .order_by(attempt.c.started_at.desc(), attempt.c.id.desc())
        .limit(last)
    )
    return [attempt_of(row) for row in await tx.connection.execute(newest_first)][::-1]


async def count_attempts(tx: Tx, job_id: str) -> int:
    """Return how many attempts a job has made, those under way included."""
    counted = await tx.connection.execute(
        sa.select(sa.func.count()).select_from(attempt).where(attempt.c.job_id == job_id)
    )
    return counted.scalar_one()


async def kept_until(tx: Tx, moment: datetime, limit: int) -> list[JobRow]:
    """Return up to `limit` jobs that ended before the moment, the oldest first, without bodies.

    Lines of batches that are still open are left out.
    """
    open_batches = sa.select(batch.c.id).where(BATCH_OPEN)
    rows = await tx.connection.execute(
        sa.select(*job.c)
        .where(
            job.c.finished_at < moment,
            sa.or_(job.c.batch_id.is_(None), job.c.batch_id.not_in(open_batches)),
        )
        .order_by(job.c.finished_at)
        .limit(limit)
    )
    return [job_of(row) for row in rows]


async def delete_kept(tx: Tx, job_ids: Sequence[str]) -> None:
    """Delete jobs that are over, with their contents, attempts and events.

    Those that somebody else is deleting are left to him.
    """
    theirs = (
        sa.select(job.c.id)
        .where(job.c.id.in_(job_ids), sa.not_(OPEN))
        .with_for_update(skip_locked=True)
    )
    await tx.connection.execute(sa.delete(job).where(job.c.id.in_(theirs.scalar_subquery())))
