"""The ledger: one row per ended attempt, written once, never changed."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from operator import itemgetter
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError

from shared.store.columns import micros
from shared.store.engine import Tx
from shared.store.ledger_rows import (
    Alike,
    AlikeRows,
    Parts,
    batches,
    insert_statement,
    known_statement,
    parted,
    parts_of,
)
from shared.store.money_tables import ledger
from shared.store.records import LedgerRow, ModelTotals, UsageTotals

T = TypeVar("T")

SUMS: tuple[sa.ColumnElement[Any], ...] = (
    sa.func.count(sa.distinct(ledger.c.request_id)).label("requests"),
    sa.func.count().filter(ledger.c.adjusts.is_(None)).label("attempts"),
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


async def insert_ledger(tx: Tx, rows: Iterable[LedgerRow]) -> frozenset[str]:
    """Write the rows; see `insert_values`."""
    return await insert_values(tx, map(parts_of, rows))


async def insert_values(tx: Tx, rows: Iterable[Parts]) -> frozenset[str]:
    """Write the rows; return the ids of the new ones. An attempt that is there stays as it is.

    Windows and budgets may change only by what is new.
    """
    given: dict[str, Parts] = {}
    for row in rows:
        given.setdefault(row[0][0], row)
    if not given:
        return frozenset()
    insert = _insert_there if tx.backend == "postgresql" else _insert_here
    return frozenset(await insert(tx, given, micros(await tx.now())))


async def insert_new(tx: Tx, rows: AlikeRows) -> None:
    """Write rows of attempts that are not there, at least as far as is known.

    Raises:
        AlreadyThere: some are; the transaction must be rolled back.
    """
    if not rows.count:
        return
    recorded_at = micros(await tx.now())
    if tx.backend == "postgresql":
        if len(await _write_there(tx, rows.at(recorded_at))) != rows.count:
            raise AlreadyThere
        return
    try:
        await _write_here(tx, rows, recorded_at, [])
    except IntegrityError as error:
        raise AlreadyThere from error


class AlreadyThere(Exception):
    """An attempt was in the ledger before."""


async def _insert_there(tx: Tx, given: Mapping[str, Parts], recorded_at: int) -> Iterable[str]:
    """Write the rows; return the ids of the new ones, of which the server tells."""
    return await _write_there(tx, AlikeRows(given.values()).at(recorded_at))


async def _write_there(tx: Tx, alike: Iterable[Alike]) -> list[str]:
    whole = [(*own, *common) for common, columns in alike for own in zip(*columns, strict=True)]
    new: list[str] = []
    # In one order for all writers, so that none waits for another in a circle.
    for rows in parted(sorted(whole, key=itemgetter(0))):
        written = await tx.connection.exec_driver_sql(
            insert_statement(tx.backend, len(rows)), tuple(chain.from_iterable(rows))
        )
        new.extend(written.scalars())
    return new


async def _insert_here(tx: Tx, given: Mapping[str, Parts], recorded_at: int) -> Iterable[str]:
    """Write the rows; return the ids of the new ones.

    Nearly always all are new, and to ask for each would cost as much as a tenth of its row. We are
    the one writer, so nobody comes in between where one is not.
    """
    written: list[str] = []
    try:
        await _write_here(tx, AlikeRows(given.values()), recorded_at, written)
    except IntegrityError:
        done = frozenset(written)
        known = await _known_of(tx, [name for name in given if name not in done])
        if not known:  # that was not the reason
            raise
        known.update(done)
        again = {name: row for name, row in given.items() if name not in known}
        if again:
            written.extend(await _insert_here(tx, again, recorded_at))
    return written


async def _write_here(tx: Tx, rows: AlikeRows, recorded_at: int, written: list[str]) -> None:
    """Write the rows; `written` grows by the ids of those that are, as far as it comes."""

    def write(raw: sqlite3.Connection) -> None:
        for batch in batches(rows.at(recorded_at)):
            raw.execute(batch.statement, batch.values)
            written.extend(batch.names)

    await tx.on_thread(write)


async def _known_of(tx: Tx, names: Sequence[str]) -> set[str]:
    """Return those of the attempts that are there."""
    known: set[str] = set()
    for asked in parted(names):
        # For the driver: SQLAlchemy's own way takes 4 µs of CPU a name.
        found = await tx.connection.exec_driver_sql(known_statement(len(asked)), tuple(asked))
        known.update(row[0] for row in found)
    return known


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
