"""Events of streamed jobs: appended under a lease, read by whoever follows.

Several events make a row. One job never has those of two generations: a run appends only to what
it told itself, and two runs that began at once would begin with the same number, of which the
table takes one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.side_tables import job_event
from shared.store.tables import LEASED, job

ACCEPTED = 0
"""The token of events that were told before any worker had the job."""


class EventRows(msgspec.Struct, frozen=True, kw_only=True):
    """Events `first_no` to `last_no` of a job, as they go out; made under the lease `token`."""

    job_id: str
    token: int
    first_no: int
    last_no: int
    events: bytes


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job's events have got. `by_worker`: a run has told some of them already."""

    last_no: int = -1
    by_worker: bool = False


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of which no event was kept: their lease is gone, or they are to be cancelled."""

    lost: frozenset[str] = frozenset()
    cancelling: frozenset[str] = frozenset()


async def append_events(tx: Tx, rows: Sequence[EventRows], at: datetime) -> Refused:
    """Append events of running jobs; return those of which none is kept.

    The same rows a second time change nothing, so a write whose outcome is unknown is repeated.
    """
    if not rows:
        return Refused()
    leases = {row.job_id: row.token for row in rows}
    found = await tx.connection.execute(
        sa.select(job.c.id, job.c.status).where(
            sa.tuple_(job.c.id, job.c.lease_token).in_(list(leases.items())), LEASED
        )
    )
    held = {row.id: row.status for row in found}
    running = [row for row in rows if held.get(row.job_id) == "running"]
    taken = await _insert(tx, running, at)
    return Refused(
        lost=frozenset(leases.keys() - held.keys()) | taken,
        cancelling=frozenset(name for name, status in held.items() if status == "cancelling"),
    )


async def insert_events(tx: Tx, row: EventRows, at: datetime) -> bool:
    """Add events in the transaction that decides about the job; False when others are there."""
    return not await _insert(tx, [row], at)


async def begun(tx: Tx, job_id: str) -> Begun:
    """Return how far a job's events have got."""
    found = await tx.connection.execute(
        sa.select(sa.func.max(job_event.c.last_no), sa.func.max(job_event.c.token)).where(
            job_event.c.job_id == job_id
        )
    )
    last_no, token = found.one()
    return Begun() if last_no is None else Begun(last_no=last_no, by_worker=token > ACCEPTED)


async def events_after(tx: Tx, job_id: str, after: int, *, limit: int) -> list[EventRows]:
    """Return up to `limit` rows that hold events numbered above `after`, in order."""
    rows = await tx.connection.execute(
        sa.select(*_COLUMNS)
        .where(job_event.c.job_id == job_id, job_event.c.last_no > after)
        .order_by(job_event.c.first_no)
        .limit(limit)
    )
    return [_row_of(row) for row in rows]


async def status_of(tx: Tx, job_id: str) -> str | None:
    """Return a job's status; None when it has been deleted."""
    found = await tx.connection.execute(sa.select(job.c.status).where(job.c.id == job_id))
    return found.scalar_one_or_none()


async def accepted_at(tx: Tx, job_id: str) -> datetime:
    """Return when a job was accepted."""
    found = await tx.connection.execute(sa.select(job.c.created_at).where(job.c.id == job_id))
    moment: datetime = found.scalar_one()
    return moment


async def is_cancelling(tx: Tx, job_id: str) -> bool:
    """Return whether the job is to be cancelled; that stays so until this transaction ends."""
    found = await tx.connection.execute(
        sa.select(job.c.status).where(job.c.id == job_id).with_for_update()
    )
    return found.scalar_one_or_none() == "cancelling"


async def _insert(tx: Tx, rows: Sequence[EventRows], at: datetime) -> frozenset[str]:
    """Insert rows; return the jobs where another generation has taken the place of one."""
    if not rows:
        return frozenset()
    places = sa.tuple_(job_event.c.job_id, job_event.c.first_no)
    await tx.connection.execute(
        tx.insert(job_event)
        .values([{**msgspec.structs.asdict(row), "created_at": at} for row in rows])
        .on_conflict_do_nothing(index_elements=["job_id", "first_no"])
    )
    kept = await tx.connection.execute(
        sa.select(job_event.c.job_id, job_event.c.first_no, job_event.c.token).where(
            places.in_([(row.job_id, row.first_no) for row in rows])
        )
    )
    tokens = {(row.job_id, row.first_no): row.token for row in kept}
    return frozenset(
        row.job_id for row in rows if tokens.get((row.job_id, row.first_no)) != row.token
    )


_COLUMNS = (
    job_event.c.job_id,
    job_event.c.token,
    job_event.c.first_no,
    job_event.c.last_no,
    job_event.c.events,
)


def _row_of(row: sa.Row[*tuple[Any, ...]]) -> EventRows:
    return EventRows(**row._asdict())
