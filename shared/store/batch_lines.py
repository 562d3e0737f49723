"""The lines of batches: jobs that are made, counted, ended and read out in their hundreds."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from shared.chat.usage import Usage
from shared.store.engine import Tx
from shared.store.money_tables import ledger
from shared.store.records import JobStatus, NewJob
from shared.store.tables import OPEN, WAITING, in_status, job, job_content

_SUCCEEDED = in_status(job, "succeeded")
_NEW = {
    "status": "queued",
    "attempts_spent": 0,
    "deferrals": 0,
    "recoveries": 0,
    "lease_token": 0,
}


class LineCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that are over, and what they cost so far. `failed` are all without an answer."""

    completed: int = 0
    failed: int = 0
    expired: int = 0
    cost_nanousd: int = 0


class LineRow(msgspec.Struct, frozen=True, kw_only=True):
    """A line that is over: its answer (in `body`, or in the object store) or its error."""

    id: str
    line_no: int
    custom_id: str | None
    request_id: str
    status: JobStatus
    response_status: int | None
    error: dict[str, object] | None
    result_key: str | None
    usage: Usage | None = None
    body: bytes | None = None


async def insert_lines(tx: Tx, lines: Sequence[NewJob], at: datetime) -> None:
    """Queue these jobs. The caller changes their batch under its lease in this transaction."""
    if not lines:
        return
    rows, contents = [], []
    for new in lines:
        values = msgspec.structs.asdict(new)
        contents.append({"job_id": new.id, "body": values.pop("body")})
        rows.append({**values, **_NEW, "created_at": at, "queued_at": at})
    await tx.connection.execute(sa.insert(job), rows)
    await tx.connection.execute(sa.insert(job_content), contents)


async def count_open_lines(tx: Tx, tenant_id: str, batch_id: str) -> int:
    """Return how many lines of the batch are jobs that are not over."""
    counted = await tx.connection.execute(
        sa.select(sa.func.count())
        .select_from(job)
        .where(OPEN, job.c.tenant_id == tenant_id, job.c.batch_id == batch_id)
    )
    return counted.scalar_one()


async def line_counts(tx: Tx, batch_ids: Iterable[str]) -> dict[str, LineCounts]:
    """Return the counts of each batch, from its lines' own rows."""
    asked = list(batch_ids)
    if not asked:
        return {}
    over = sa.not_(OPEN)
    rows = await tx.connection.execute(
        sa.select(
            job.c.batch_id,
            sa.func.count().filter(_SUCCEEDED).label("completed"),
            sa.func.count().filter(over, sa.not_(_SUCCEEDED)).label("failed"),
            sa.func.count().filter(in_status(job, "expired")).label("expired"),
            sa.func.coalesce(sa.func.sum(job.c.cost_nanousd), 0).label("cost_nanousd"),
        )
        .where(job.c.batch_id.in_(asked))
        .group_by(job.c.batch_id)
    )
    found = {
        row.batch_id: LineCounts(
            completed=row.completed,
            failed=row.failed,
            expired=row.expired,
            cost_nanousd=int(row.cost_nanousd),
        )
        for row in rows
    }
    return {batch_id: found.get(batch_id, LineCounts()) for batch_id in asked}


async def cancel_waiting_lines(
    tx: Tx, batch_id: str, *, error: Mapping[str, object], at: datetime, limit: int
) -> int:
    """Cancel up to `limit` lines that nobody holds; return how many."""
    waiting = (
        sa.select(job.c.id)
        .where(WAITING, job.c.batch_id == batch_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    paid = sa.select(sa.func.sum(ledger.c.cost_nanousd)).where(ledger.c.job_id == job.c.id)
    ended = await tx.connection.execute(
        sa.update(job)
        .where(job.c.id.in_(waiting.scalar_subquery()), WAITING)
        .values(
            status="cancelled",
            error=dict(error),
            finished_at=at,
            cost_nanousd=sa.cast(paid.scalar_subquery(), sa.BigInteger),
        )
    )
    return ended.rowcount


async def cancel_running_lines(tx: Tx, batch_id: str, at: datetime) -> int:
    """Let those who hold lines of the batch end their calls; return how many were told now."""
    told = await tx.connection.execute(
        sa.update(job)
        .where(in_status(job, "running"), job.c.batch_id == batch_id)
        .values(status="cancelling", cancelling_at=at)
    )
    return told.rowcount


async def lines_after(
    tx: Tx, batch_id: str, line_no: int, *, succeeded: bool, limit: int
) -> list[LineRow]:
    """Return the next `limit` lines that are over, in the input's order.

    Either those that succeeded, with their answers, or the others.
    """
    answer = job_content.c.response_body if succeeded else sa.null()
    rows = await tx.connection.execute(
        sa.select(
            *(job.c[name] for name in LineRow.__struct_fields__ if name != "body"),
            answer.label("body"),
        )
        .select_from(job.outerjoin(job_content, job_content.c.job_id == job.c.id))
        .where(
            job.c.batch_id == batch_id,
            job.c.line_no > line_no,
            _SUCCEEDED if succeeded else sa.and_(sa.not_(OPEN), sa.not_(_SUCCEEDED)),
        )
        .order_by(job.c.line_no)
        .limit(limit)
    )
    return [LineRow(**row._asdict()) for row in rows]


async def cost_of(tx: Tx, batch_id: str) -> int | None:
    """Return what all calls of a batch cost in nano-dollars, lost and failed ones included.

    None where no cost is known.
    """
    summed = await tx.connection.execute(
        sa.select(sa.func.sum(ledger.c.cost_nanousd))
        .select_from(job.join(ledger, ledger.c.job_id == job.c.id))
        .where(job.c.batch_id == batch_id)
    )
    total = summed.scalar_one()
    return None if total is None else int(total)


async def drop_contents(tx: Tx, batch_id: str, first: int, last: int) -> list[str]:
    """Forget questions and answers of the lines `first` to `last`; they stand in files now.

    Returns the keys of the answers in the object store, for the caller to delete.
    """
    theirs = (job.c.batch_id == batch_id, job.c.line_no.between(first, last))
    stored = await tx.connection.scalars(
        sa.select(job.c.result_key).where(*theirs, job.c.result_key.is_not(None))
    )
    keys = list(stored)
    if keys:
        await tx.connection.execute(
            sa.update(job).where(*theirs, job.c.result_key.is_not(None)).values(result_key=None)
        )
    await tx.connection.execute(
        sa.delete(job_content).where(job_content.c.job_id.in_(sa.select(job.c.id).where(*theirs)))
    )
    return keys
