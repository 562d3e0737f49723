"""Jobs as callers see them: put in, looked at, counted."""

from datetime import datetime

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.records import AttemptRow, JobRow, NewJob
from shared.store.rows import JOBS, JOBS_WITH_BODY, attempt_of, attempts_where, job_of
from shared.store.tables import OPEN, QUEUED, attempt, job, job_content


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
    tx: Tx, tenant_id: str, *, limit: int, after: str | None, status: str | None
) -> list[JobRow]:
    """Return up to `limit` of the tenant's jobs, newest first, without their bodies.

    `after` is the id of the job before the page; an unknown one gives an empty page.
    """
    query = JOBS.where(job.c.tenant_id == tenant_id)
    if status is not None:
        query = query.where(job.c.status == status)
    if after is not None:
        last = sa.select(job.c.created_at, job.c.id).where(
            job.c.id == after, job.c.tenant_id == tenant_id
        )
        query = query.where(sa.tuple_(job.c.created_at, job.c.id) < last.scalar_subquery())
    rows = await tx.connection.execute(
        query.order_by(job.c.created_at.desc(), job.c.id.desc()).limit(limit)
    )
    return [job_of(row) for row in rows]


async def delete_job(tx: Tx, tenant_id: str, job_id: str) -> bool:
    """Delete a job that is over, with its attempts; the ledger keeps what it cost.

    False when the tenant has no such job or it is still open.
    """
    deleted = await tx.connection.execute(
        sa.delete(job).where(job.c.id == job_id, job.c.tenant_id == tenant_id, sa.not_(OPEN))
    )
    return deleted.rowcount > 0


async def attempts_of(tx: Tx, job_id: str) -> list[AttemptRow]:
    """Return a job's attempts, oldest first."""
    rows = await tx.connection.execute(attempts_where(attempt.c.job_id == job_id))
    return [attempt_of(row) for row in rows]


async def queue_position(tx: Tx, row: JobRow) -> int | None:
    """Return about how many claims it takes until this job's, 1 for the next; None if not queued.

    Tenants take turns: of every other tenant as many jobs come first as of this one, or all.
    """
    if row.status != "queued":
        return None
    queued = (QUEUED, job.c.priority == row.priority)
    order = sa.tuple_(job.c.deadline, job.c.created_at, job.c.id)
    mine = sa.tuple_(
        sa.literal(row.deadline, job.c.deadline.type),
        sa.literal(row.created_at, job.c.created_at.type),
        sa.literal(row.id, job.c.id.type),
    )
    ahead = await tx.connection.execute(
        sa.select(sa.func.count())
        .select_from(job)
        .where(*queued, job.c.tenant_id == row.tenant_id, order < mine)
    )
    own = ahead.scalar_one()
    others = await tx.connection.execute(
        sa.select(sa.func.count())
        .select_from(job)
        .where(*queued, job.c.tenant_id != row.tenant_id)
        .group_by(job.c.tenant_id)
    )
    return 1 + own + sum(min(own, count) for count in others.scalars())


async def count_open(tx: Tx, tenant_id: str) -> int:
    """Return how many of the tenant's jobs are not final."""
    counted = await tx.connection.execute(
        sa.select(sa.func.count()).select_from(job).where(OPEN, job.c.tenant_id == tenant_id)
    )
    return counted.scalar_one()


async def queue_depths(tx: Tx) -> dict[str, int]:
    """Return how many jobs are queued per class; a class without any is absent."""
    counted = await tx.connection.execute(
        sa.select(job.c.priority, sa.func.count().label("depth"))
        .where(QUEUED)
        .group_by(job.c.priority)
    )
    return {row.priority: row.depth for row in counted}
