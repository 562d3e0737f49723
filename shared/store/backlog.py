"""What waits in the queue, and how fast it gets shorter."""

from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.records import JobRow
from shared.store.tables import OPEN, QUEUED, job

DRAIN_WINDOW_S = 60.0
"""The time that a drain rate looks back over."""
MOST_COUNTED = 10_000
"""Jobs that a place in the queue is counted over: it is told with every answer."""


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """The queue of a class: its jobs, since when the oldest waits, and jobs done per second."""

    queued: int = 0
    oldest_at: datetime | None = None
    drained_per_s: float = 0.0


async def backlogs(tx: Tx, now: datetime) -> dict[str, Backlog]:
    """Return the backlog of each class; one without jobs, queued or lately done, is absent."""
    oldest = sa.func.min(job.c.queued_at, type_=job.c.queued_at.type)
    waiting = await tx.connection.execute(
        sa.select(job.c.priority, sa.func.count().label("queued"), oldest.label("oldest_at"))
        .where(QUEUED)
        .group_by(job.c.priority)
    )
    found = {row.priority: (row.queued, row.oldest_at) for row in waiting}
    rates = await drain_rates(tx, now)
    return {
        name: Backlog(
            queued=found.get(name, (0, None))[0],
            oldest_at=found.get(name, (0, None))[1],
            drained_per_s=rates.get(name, 0.0),
        )
        for name in {*found, *rates}
    }


async def drain_rates(tx: Tx, now: datetime) -> dict[str, float]:
    """Return the jobs per second that ended in the last minute, by class."""
    ended = await tx.connection.execute(
        sa.select(job.c.priority, sa.func.count().label("ended"))
        .where(job.c.finished_at > now - timedelta(seconds=DRAIN_WINDOW_S))
        .group_by(job.c.priority)
    )
    return {row.priority: row.ended / DRAIN_WINDOW_S for row in ended}


async def count_queued(tx: Tx, priority: str) -> int:
    """Return how many jobs of a class wait for a worker."""
    counted = await tx.connection.execute(
        sa.select(sa.func.count()).select_from(job).where(QUEUED, job.c.priority == priority)
    )
    return counted.scalar_one()


async def count_open(tx: Tx, tenant_id: str) -> int:
    """Return how many of the tenant's jobs are not final, lines of batches left out."""
    counted = await tx.connection.execute(
        sa.select(sa.func.count())
        .select_from(job)
        .where(OPEN, job.c.tenant_id == tenant_id, job.c.batch_id.is_(None))
    )
    return counted.scalar_one()


async def queue_position(tx: Tx, row: JobRow) -> int | None:
    """Return about how many claims it takes until this job's, 1 for the next; None if not queued.

    Tenants take turns: of every other tenant as many jobs come first as of this one, or all. Of
    very long queues only the first 10,000 are counted.
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
    ahead = (
        sa.select(job.c.id)
        .where(*queued, job.c.tenant_id == row.tenant_id, order < mine)
        .limit(MOST_COUNTED)
        .subquery()
    )
    own = await tx.connection.scalar(sa.select(sa.func.count()).select_from(ahead)) or 0
    if own == 0:
        return 1
    strangers = (
        sa.select(job.c.tenant_id)
        .where(*queued, job.c.tenant_id != row.tenant_id)
        .limit(MOST_COUNTED)
        .subquery()
    )
    others = await tx.connection.execute(
        sa.select(sa.func.count()).select_from(strangers).group_by(strangers.c.tenant_id)
    )
    return 1 + own + sum(min(own, count) for count in others.scalars())
