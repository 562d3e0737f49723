"""The ledger: one row per ended attempt, written once, never changed."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, cast

import sqlalchemy as sa
from msgspec.structs import astuple
from sqlalchemy.exc import DataError, IntegrityError

from shared.chat.usage import Usage
from shared.store.columns import Document, Moment, Words, micros
from shared.store.engine import Tx
from shared.store.money_tables import ledger
from shared.store.records import LedgerRow, ModelTotals, UsageTotals
from shared.store.urls import Backend

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


Values = tuple[object, ...]
"""A row by its FIELDS: what many rows are handed over as, a struct for each costs as much again."""


async def insert_ledger(tx: Tx, rows: Iterable[LedgerRow]) -> frozenset[str]:
    """Write the rows; see `insert_values`."""
    return await insert_values(tx, [(*astuple(row)[:-1], *astuple(row.usage)) for row in rows])


async def insert_values(tx: Tx, rows: Iterable[Values]) -> frozenset[str]:
    """Write the rows; return the ids of the new ones. An attempt that is there stays as it is.

    Windows and budgets may change only by what is new.
    """
    given: dict[str, Values] = {}
    for row in rows:
        given.setdefault(cast("str", row[0]), row)
    if not given:
        return frozenset()
    recorded_at = micros(await tx.now())
    # In one order for all writers, so that none waits for another in a circle.
    ordered = sorted(given)
    new: set[str] = set()
    texts: dict[int, str | None] = {}
    start = 0
    for length in _lengths(len(ordered)):
        names = ordered[start : start + length]
        start += length
        stored = {name: _stored(given[name], recorded_at, texts) for name in names}
        insert = _insert_there if tx.backend == "postgresql" else _insert_here
        new.update(await insert(tx, stored))
    return frozenset(new)


async def _insert_there(tx: Tx, values: Mapping[str, Values]) -> Iterable[str]:
    """Write the rows; return the ids of the new ones, of which the server tells."""
    written = await tx.connection.exec_driver_sql(
        _insert(tx.backend, len(values)), tuple(chain.from_iterable(values.values()))
    )
    return written.scalars()


async def _insert_here(tx: Tx, values: Mapping[str, Values]) -> Iterable[str]:
    """Write the rows; return the ids of the new ones.

    Nearly always all are new, and to ask for each would cost as much as a tenth of its row. We are
    the one writer, so nobody comes in between where one is not.
    """
    statement = _insert(tx.backend, len(values))
    try:
        await tx.connection.exec_driver_sql(statement, tuple(chain.from_iterable(values.values())))
    except IntegrityError:
        asked = tuple(values)
        # For the driver: SQLAlchemy's own way takes 4 µs of CPU a name.
        found = await tx.connection.exec_driver_sql(_known(len(asked)), asked)
        known = {row[0] for row in found}
        if not known:  # that was not the reason
            raise
        left = {name: one for name, one in values.items() if name not in known}
        return await _insert_here(tx, left) if left else ()
    return values


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


FIELDS = (*LedgerRow.__struct_fields__[:-1], *Usage.__struct_fields__)
"""Of a row and, in place of its last field, of its usage."""

_COLUMNS = [ledger.c[name] for name in FIELDS]
_MOMENTS = [place for place, one in enumerate(_COLUMNS) if isinstance(one.type, Moment)]
_DOCUMENTS = [
    (place, one.type) for place, one in enumerate(_COLUMNS) if isinstance(one.type, Document)
]
_WORDS = [place for place, column in enumerate(_COLUMNS) if isinstance(column.type, Words)]
_words = itemgetter(*_WORDS)
_DIALECT = sa.engine.default.DefaultDialect()


AT_ONCE = 256
"""Rows of one statement. One statement, not one for each row: on SQLite each would give up the
interpreter's lock and wait for it again, for as long as calls keep the event loop busy."""


def _lengths(rows: int) -> Iterator[int]:
    """Yield how many rows each statement has: AT_ONCE, and for the rest powers of two.

    To prepare a statement takes SQLite twice as long as to run it: these few stay prepared.
    """
    while rows:
        length = min(AT_ONCE, 1 << (rows.bit_length() - 1))
        yield length
        rows -= length


@lru_cache(maxsize=32)
def _insert(backend: Backend, rows: int) -> str:
    """Return the statement, for the driver: SQLAlchemy's own way takes 45 µs of CPU a row."""
    mark = "?" if backend == "sqlite" else "%s"
    names = ", ".join(f'"{name}"' for name in (*(one.name for one in _COLUMNS), "recorded_at"))
    row = "(" + ", ".join([mark] * len(ledger.columns)) + ")"
    known = "" if backend == "sqlite" else " ON CONFLICT DO NOTHING RETURNING attempt_id"
    values = ", ".join([row] * rows)
    return f"INSERT INTO ledger ({names}) VALUES {values}{known}"  # noqa: S608 (names of our own columns)


@lru_cache(maxsize=8)
def _known(names: int) -> str:
    """Return the query for those of so many attempts that are there, for SQLite's driver."""
    marks = ", ".join("?" * names)
    return f"SELECT attempt_id FROM ledger WHERE attempt_id IN ({marks})"  # noqa: S608 (no values)


def _stored(row: Values, recorded_at: int, texts: dict[int, str | None]) -> Values:
    """Return the row as the driver takes it.

    `texts` are the documents of rows before: calls of one key share the very tuple of budgets.
    """
    values: list[Any] = [*row, recorded_at]
    for place in _MOMENTS:
        values[place] = micros(values[place])
    for place, kind in _DOCUMENTS:
        value = values[place]
        text = texts.get(id(value))
        if text is None:
            text = texts[id(value)] = kind.process_bind_param(value, _DIALECT)
        values[place] = text
    said = "".join(filter(None, _words(values)))
    if not said.isascii() or "\x00" in said:
        for place in _WORDS:
            values[place] = Words().process_bind_param(values[place], _DIALECT)
    return tuple(values)
