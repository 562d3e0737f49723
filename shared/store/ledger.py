"""The ledger: one row per ended attempt, written once, never changed."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DataError

from shared.store.engine import Tx
from shared.store.records import LedgerRow, ModelTotals, UsageTotals
from shared.store.tables import ledger

SUMS: tuple[sa.ColumnElement[Any], ...] = (
    sa.func.count(sa.distinct(ledger.c.request_id)).label("requests"),
    sa.func.count().label("attempts"),
    sa.func.sum(ledger.c.input_tokens).label("input_tokens"),
    sa.func.sum(ledger.c.output_tokens).label("output_tokens"),
    sa.func.sum(ledger.c.cache_read_tokens).label("cache_read_tokens"),
    sa.func.sum(ledger.c.reasoning_tokens).label("reasoning_tokens"),
    sa.func.sum(ledger.c.cost_nanousd).label("cost_nanousd"),
    sa.func.count().filter(ledger.c.cost_nanousd.is_(None)).label("unpriced_attempts"),
    sa.func.count().filter(ledger.c.estimated).label("estimated_attempts"),
)
"""What is counted about any group of rows; the names are those of UsageTotals."""

REFUSALS = (DataError, OverflowError)
"""What writing a row raises whose values the database can never take; trying again is no use."""

COUNTED = tuple(column.key for column in SUMS if column.key is not None)


async def insert_ledger(tx: Tx, rows: Iterable[LedgerRow]) -> int:
    """Write the rows; return how many were new. An attempt that is there already stays as it is.

    Windows and budgets may change only by what is new.
    """
    new = list(rows)
    if not new:
        return 0
    recorded_at = await tx.now()
    statement = tx.insert(ledger).on_conflict_do_nothing(index_elements=["attempt_id"])
    inserted = await tx.connection.execute(
        statement.returning(ledger.c.attempt_id), [_values(row, recorded_at) for row in new]
    )
    return len(inserted.all())


async def job_cost(tx: Tx, job_id: str) -> int | None:
    """Return the known costs of a job's attempts so far, in nano-dollars; None when none is."""
    total = sa.select(sa.func.sum(ledger.c.cost_nanousd)).where(ledger.c.job_id == job_id)
    known = (await tx.connection.execute(total)).scalar_one()
    return None if known is None else int(known)


async def usage_totals(tx: Tx, tenant_id: str, since: datetime, until: datetime) -> UsageTotals:
    """Return what the tenant used in attempts that ended from `since` to just before `until`."""
    mine = (
        ledger.c.tenant_id == tenant_id,
        ledger.c.ended_at >= since,
        ledger.c.ended_at < until,
    )
    whole = (await tx.connection.execute(sa.select(*SUMS).where(*mine))).one()
    each = await tx.connection.execute(
        sa.select(ledger.c.provider, ledger.c.model, *SUMS)
        .where(*mine)
        .group_by(ledger.c.provider, ledger.c.model)
        .order_by(ledger.c.provider, ledger.c.model)
    )
    models = tuple(
        ModelTotals(provider=row.provider, model=row.model, **counted(row)) for row in each
    )
    return UsageTotals(**counted(whole), by_model=models)


def counted(row: sa.Row[Any]) -> dict[str, int]:
    """Return the row's `SUMS` as integers; the sum of no rows is 0."""
    values = row._asdict()
    return {name: int(values[name] or 0) for name in COUNTED}


def _values(row: LedgerRow, recorded_at: datetime) -> dict[str, object]:
    flat = msgspec.structs.asdict(row)
    usage = flat.pop("usage")
    return {**flat, **msgspec.structs.asdict(usage), "recorded_at": recorded_at}
