"""Jobs as operators see them: everybody's, and which of them are stuck."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.paging import beyond
from shared.store.records import JobRow
from shared.store.rows import JOBS, JOBS_WITH_BODY
from shared.store.tables import LEASED, OPEN, QUEUED, SCHEDULED, WAITING, job

LATE = timedelta(seconds=60)
"""What caretakers do within seconds was not done for so long."""
LONG = timedelta(minutes=10)
"""A job that has been queued for longer is looked at; one of class batch has time."""
DEADLY = 2
"""A job under which so many workers died may be what kills them."""

STUCK = ("lease_ended", "past_deadline", "kills_workers", "queued_long")
"""Why a job counts as stuck; the first that holds is told."""


class Overseen(msgspec.Struct, frozen=True, kw_only=True):
    """A job of any tenant; `stuck` is one of STUCK, None while it does as it should."""

    job: JobRow
    stuck: str | None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs are wanted: all that are given must hold. `after` is the page's end before it."""

    tenant_id: str | None = None
    status: str | None = None
    priority: str | None = None
    stuck: bool = False
    after: str | None = None
    limit: int = 20


async def find_job(tx: Tx, job_id: str) -> Overseen | None:
    """Return a job with its body, whosever it is."""
    found = await tx.connection.execute(
        JOBS_WITH_BODY.add_columns(_stuck(await tx.now())).where(job.c.id == job_id)
    )
    row = found.one_or_none()
    return None if row is None else _overseen(row)


async def list_overseen(tx: Tx, wanted: Wanted) -> list[Overseen]:
    """Return a page of jobs, newest first, without their bodies."""
    stuck = _stuck(await tx.now())
    query = JOBS.add_columns(stuck)
    for column, value in (
        (job.c.tenant_id, wanted.tenant_id),
        (job.c.status, wanted.status),
        (job.c.priority, wanted.priority),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.stuck:
        query = query.where(OPEN, stuck.is_not(None))
    if wanted.after is not None:
        query = query.where(await beyond(tx, job, wanted.after, tenant_id=None))
    rows = await tx.connection.execute(
        query.order_by(job.c.created_at.desc(), job.c.id.desc()).limit(wanted.limit)
    )
    return [_overseen(row) for row in rows]


async def count_stuck(tx: Tx) -> dict[str, int]:
    """Return how many open jobs are stuck, by why; what does not occur is absent."""
    why = _stuck(await tx.now())
    counted = await tx.connection.execute(
        sa.select(why, sa.func.count().label("jobs"))
        .where(OPEN, why.is_not(None))
        .group_by(sa.literal_column("stuck"))
    )
    return {row.stuck: row.jobs for row in counted}


async def count_by_status(tx: Tx) -> Mapping[tuple[str, str], int]:
    """Return how many open jobs there are, by class and status."""
    counted = await tx.connection.execute(
        sa.select(job.c.priority, job.c.status, sa.func.count().label("jobs"))
        .where(OPEN)
        .group_by(job.c.priority, job.c.status)
    )
    return {(row.priority, row.status): row.jobs for row in counted}


async def queue_now(tx: Tx, job_id: str) -> bool:
    """Queue a scheduled job, whatever it waits for; False when it is not scheduled any more."""
    changed = await tx.connection.execute(
        sa.update(job)
        .where(job.c.id == job_id, SCHEDULED)
        .values(status="queued", queued_at=await tx.now(), not_before=None, waits_for=None)
    )
    return changed.rowcount > 0


async def queue_waiting(tx: Tx, waits_for: str, tenant_id: str | None, limit: int) -> int:
    """Queue scheduled jobs that wait for this, of one tenant or of all, oldest first; how many."""
    theirs = () if tenant_id is None else (job.c.tenant_id == tenant_id,)
    oldest = (
        sa.select(job.c.id)
        .where(SCHEDULED, job.c.waits_for == waits_for, *theirs)
        .order_by(job.c.created_at)
        .limit(limit)
    )
    changed = await tx.connection.execute(
        sa.update(job)
        .where(job.c.id.in_(oldest), SCHEDULED)
        .values(status="queued", queued_at=await tx.now(), not_before=None, waits_for=None)
    )
    return changed.rowcount


def _stuck(now: datetime) -> sa.Label[str | None]:
    def before(moment: datetime) -> sa.BindParameter[datetime]:
        return sa.literal(moment, job.c.created_at.type)

    return sa.case(
        (sa.and_(LEASED, job.c.lease_until < before(now - LATE)), "lease_ended"),
        (sa.and_(WAITING, job.c.deadline < before(now - LATE)), "past_deadline"),
        (sa.and_(OPEN, job.c.recoveries >= DEADLY), "kills_workers"),
        (
            sa.and_(QUEUED, job.c.priority != "batch", job.c.queued_at < before(now - LONG)),
            "queued_long",
        ),
        else_=sa.null(),
    ).label("stuck")


def _overseen(row: sa.Row[Any]) -> Overseen:
    fields = row._asdict()
    stuck = fields.pop("stuck")
    return Overseen(job=JobRow(**{"body": b"", **fields}), stuck=stuck)
