"""Batches: files of calls, and who is at work on which.

A batch changes only under its lease's token, but for the wish to cancel it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.paging import beyond
from shared.store.records import OnBudget
from shared.store.side_tables import BATCH_OPEN, batch
from shared.store.tables import job

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling",
    "cancelled",
]  # fmt: skip
STATUSES: tuple[BatchStatus, ...] = get_args(BatchStatus)
FINAL: frozenset[BatchStatus] = frozenset({"failed", "completed", "expired", "cancelled"})
"""These are never left."""


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A file of calls to be made until `expires_at`, all of one endpoint."""

    id: str
    tenant_id: str
    key_id: str
    request_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    on_budget: OnBudget | None = None
    metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    user: str | None = None
    output_expires_after_s: int | None = None
    expires_at: datetime


class BatchRow(NewBatch, frozen=True, kw_only=True):
    """A batch as it stands.

    `lines_made` of `lines_total` lines are jobs; the next one begins at byte `input_offset` of the
    input. `completed`, `failed`, `usage` and `cost_nanousd` are filled in when it ends.
    While nobody is at work on it, `lease_until` is when somebody should look again.
    """

    model: str | None = None
    status: BatchStatus
    errors: list[dict[str, object]] | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    lines_total: int = 0
    lines_made: int = 0
    input_offset: int = 0
    created_at: datetime
    in_progress_at: datetime | None = None
    finalizing_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    expired_at: datetime | None = None
    cancelling_at: datetime | None = None
    cancelled_at: datetime | None = None
    completed: int | None = None
    failed: int | None = None
    usage: dict[str, object] | None = None
    cost_nanousd: int | None = None
    lease_owner: str | None = None
    lease_token: int = 0
    lease_until: datetime | None = None


async def insert_batch(tx: Tx, new: NewBatch, at: datetime) -> None:
    """Accept a batch, to be validated."""
    row = BatchRow(**msgspec.structs.asdict(new), status="validating", created_at=at)
    await tx.connection.execute(sa.insert(batch).values(msgspec.structs.asdict(row)))


async def get_batch(tx: Tx, tenant_id: str, batch_id: str) -> BatchRow | None:
    """Return the tenant's batch; None for nobody's and somebody else's."""
    found = await _batches(tx, batch.c.id == batch_id, batch.c.tenant_id == tenant_id)
    return found[0] if found else None


async def list_batches(tx: Tx, tenant_id: str, *, limit: int, after: str | None) -> list[BatchRow]:
    """Return up to `limit` of the tenant's batches, newest first.

    `after` is the id of the batch before the page, which may be deleted by now.
    """
    conditions = [batch.c.tenant_id == tenant_id]
    if after is not None:
        conditions.append(await beyond(tx, batch, after, tenant_id=tenant_id))
    return await _batches(tx, *conditions, limit=limit)


async def ask_cancel(tx: Tx, tenant_id: str, batch_id: str) -> BatchRow | None:
    """Note the wish to cancel a batch that is not over, and let somebody look at it at once.

    Returns it as it stands then: `finalizing` and final ones stay. None when the tenant has no
    such batch.
    """
    now = await tx.now()
    at = sa.literal(now, batch.c.lease_until.type)
    await tx.connection.execute(
        sa.update(batch)
        .where(
            batch.c.id == batch_id,
            batch.c.tenant_id == tenant_id,
            batch.c.status.in_(("validating", "in_progress")),
        )
        .values(
            status="cancelling",
            cancelling_at=now,
            lease_until=sa.case((batch.c.lease_owner.is_(None), at), else_=batch.c.lease_until),
        )
    )
    return await get_batch(tx, tenant_id, batch_id)


async def any_due(tx: Tx) -> bool:
    """Return whether `claim_batches` would find one."""
    found = await tx.connection.execute(sa.select(_due(await tx.now()).exists()))
    return bool(found.scalar_one())


async def claim_batches(tx: Tx, *, owner: str, lease_s: float, limit: int) -> list[BatchRow]:
    """Take up to `limit` open batches that nobody works on, the one looked at longest ago first.

    No two claimers get the same one; its token has grown by one.
    """
    now = await tx.now()
    order = (batch.c.lease_until.asc().nulls_first(), batch.c.created_at)
    due = _due(now).order_by(*order).limit(limit).with_for_update(skip_locked=True)
    ids = list(await tx.connection.scalars(due))
    if not ids:
        return []
    taken = await tx.connection.execute(
        sa.update(batch)
        .where(batch.c.id.in_(ids))
        .values(
            lease_owner=owner,
            lease_token=batch.c.lease_token + 1,
            lease_until=now + timedelta(seconds=lease_s),
        )
        .returning(*batch.c)
    )
    return [_batch_of(row) for row in taken]


async def renew_batch(tx: Tx, row: BatchRow, lease_s: float) -> bool:
    """Prolong the lease to `lease_s` seconds from now; False when the batch is somebody else's."""
    until = await tx.now() + timedelta(seconds=lease_s)
    return await _change(tx, row, {"lease_until": until})


async def change_batch(tx: Tx, row: BatchRow, changes: Mapping[str, object]) -> bool:
    """Write the columns; False when it is somebody else's, or no longer in the row's status."""
    return await _change(tx, row, changes, batch.c.status == row.status)


async def leave_batch(tx: Tx, row: BatchRow, again_s: float) -> bool:
    """Give the batch back, to be looked at again in so many seconds; False when it is gone.

    One whose cancel was asked for meanwhile is due at once.
    """
    now = await tx.now()
    later = sa.literal(now + timedelta(seconds=again_s), batch.c.lease_until.type)
    soon = sa.literal(now, batch.c.lease_until.type)
    look_at = sa.case((batch.c.status == row.status, later), else_=soon)
    return await _change(tx, row, {"lease_owner": None, "lease_until": look_at})


async def release_batches(tx: Tx, owner: str) -> int:
    """End every lease of a process that is known to be dead; return how many."""
    released = await tx.connection.execute(
        sa.update(batch)
        .where(BATCH_OPEN, batch.c.lease_owner == owner)
        .values(lease_owner=None, lease_until=await tx.now())
    )
    return released.rowcount


async def delete_ended(tx: Tx, before: datetime, limit: int) -> int:
    """Delete up to `limit` batches that ended before the moment and have no lines any more."""
    columns = batch.c
    ended_at = sa.func.coalesce(
        columns.completed_at, columns.failed_at, columns.expired_at, columns.cancelled_at
    )
    has_lines = sa.exists().where(job.c.batch_id == columns.id)
    some = sa.select(columns.id).where(sa.not_(BATCH_OPEN), ended_at < before, ~has_lines)
    deleted = await tx.connection.execute(
        sa.delete(batch).where(columns.id.in_(some.limit(limit).scalar_subquery()))
    )
    return deleted.rowcount


async def is_read(tx: Tx, file_id: str) -> bool:
    """Return whether a batch that is not over has this file as its input."""
    reading = sa.select(batch.c.id).where(BATCH_OPEN, batch.c.input_file_id == file_id)
    return bool((await tx.connection.execute(sa.select(reading.exists()))).scalar_one())


def _due(now: datetime) -> sa.Select[tuple[str]]:
    free = sa.or_(batch.c.lease_until.is_(None), batch.c.lease_until <= now)
    return sa.select(batch.c.id).where(BATCH_OPEN, free)


async def _change(
    tx: Tx, row: BatchRow, changes: Mapping[str, object], *conditions: sa.ColumnElement[bool]
) -> bool:
    changed = await tx.connection.execute(
        sa.update(batch)
        .where(
            batch.c.id == row.id, batch.c.lease_token == row.lease_token, BATCH_OPEN, *conditions
        )
        .values(**changes)
    )
    return changed.rowcount > 0


async def _batches(
    tx: Tx, *conditions: sa.ColumnElement[bool], limit: int | None = None
) -> list[BatchRow]:
    rows = await tx.connection.execute(
        sa.select(batch)
        .where(*conditions)
        .order_by(batch.c.created_at.desc(), batch.c.id.desc())
        .limit(limit)
    )
    return [_batch_of(row) for row in rows]


def _batch_of(row: sa.Row[Any]) -> BatchRow:
    return BatchRow(**row._asdict())
