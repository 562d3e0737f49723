"""The ledger: one row per ended attempt, written once, never changed."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec.structs import astuple
from sqlalchemy.exc import DataError, IntegrityError

from shared.chat.usage import Usage
from shared.store.columns import Moment, Words, micros
from shared.store.engine import Tx
from shared.store.money_tables import ledger
from shared.store.records import LedgerRow, ModelTotals, UsageTotals
from shared.store.urls import Backend

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


Values = tuple[Any, ...]
"""A row by its FIELDS: what many rows are handed over as, a struct for each costs as much again."""


async def insert_ledger(tx: Tx, rows: Iterable[LedgerRow]) -> frozenset[str]:
    """Write the rows; see `insert_values`."""
    return await insert_values(
        tx, [_by_fields((*astuple(row)[:-1], *astuple(row.usage))) for row in rows]
    )


async def insert_values(tx: Tx, rows: Iterable[Values]) -> frozenset[str]:
    """Write the rows; return the ids of the new ones. An attempt that is there stays as it is.

    Windows and budgets may change only by what is new.
    """
    given: dict[str, Values] = {}
    for row in rows:
        given.setdefault(row[0], row)
    if not given:
        return frozenset()
    recorded_at = micros(await tx.now())
    insert = _insert_there if tx.backend == "postgresql" else _insert_here
    return frozenset(await insert(tx, given, recorded_at))


async def _insert_there(tx: Tx, given: Mapping[str, Values], recorded_at: int) -> Iterable[str]:
    """Write the rows; return the ids of the new ones, of which the server tells."""
    whole = [(*own, *common) for common, owns in _alike(given, recorded_at) for own in owns]
    new: list[str] = []
    # In one order for all writers, so that none waits for another in a circle.
    for rows in _parted(sorted(whole)):
        written = await tx.connection.exec_driver_sql(
            _insert(tx.backend, len(rows)), tuple(chain.from_iterable(rows))
        )
        new.extend(written.scalars())
    return new


async def _insert_here(tx: Tx, given: Mapping[str, Values], recorded_at: int) -> Iterable[str]:
    """Write the rows; return the ids of the new ones.

    Nearly always all are new, and to ask for each would cost as much as a tenth of its row. We are
    the one writer, so nobody comes in between where one is not.
    """
    batches = _batches(_alike(given, recorded_at))
    written: list[str] = []

    def write(raw: sqlite3.Connection) -> None:
        for batch in batches:
            raw.execute(batch.statement, batch.values)
            written.extend(batch.names)

    try:
        await tx.on_thread(write)
    except IntegrityError:
        left = [name for batch in batches for name in batch.names][len(written) :]
        known = await _known_of(tx, left)
        if not known:  # that was not the reason
            raise
        again = {name: given[name] for name in left if name not in known}
        if again:
            written.extend(await _insert_here(tx, again, recorded_at))
    return written


async def _known_of(tx: Tx, names: Sequence[str]) -> set[str]:
    """Return those of the attempts that are there."""
    known: set[str] = set()
    for asked in _parted(names):
        # For the driver: SQLAlchemy's own way takes 4 µs of CPU a name.
        found = await tx.connection.exec_driver_sql(_known(len(asked)), tuple(asked))
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


OWN = (
    "attempt_id", "request_id", "user", "started_at",
    "cost_nanousd", "duration_ms", "first_token_ms", "ended_at",
    "input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens",
)  # fmt: skip
"""What differs between calls that are alike: of one caller, to one target, with one outcome."""

_DOCUMENTS = ("tags", "budgets")
_GIVEN = (*LedgerRow.__struct_fields__[:-1], *Usage.__struct_fields__)

FIELDS = (*OWN, *(name for name in _GIVEN if name not in {*OWN, *_DOCUMENTS}), *_DOCUMENTS)
"""Of a row and, in place of its last field, of its usage: first what is its own."""

_COMMON = slice(len(OWN), -len(_DOCUMENTS))
_by_fields = itemgetter(*(_GIVEN.index(name) for name in FIELDS))
_DIALECT = sa.engine.default.DefaultDialect()


def _places(names: Sequence[str], kind: type[sa.TypeDecorator[Any]]) -> list[int]:
    return [place for place, name in enumerate(names) if isinstance(ledger.c[name].type, kind)]


_OWN_MOMENTS = _places(OWN, Moment)
_OWN_WORDS = _places(OWN, Words)
_COMMON_WORDS = _places(FIELDS[_COMMON], Words)

Alike = tuple[Values, list[Values]]
"""What some rows have in common, and of each what is its own."""


def _alike(given: Mapping[str, Values], recorded_at: int) -> list[Alike]:
    """Return the rows as the driver takes them: by OWN, the rest of FIELDS, and `recorded_at`."""
    found: dict[Values, list[Values]] = {}
    texts: dict[int, str] = {}
    rows = given.values()
    for row, own in zip(rows, _own_of(rows), strict=True):
        tags, budgets = row[-2:]
        said = _text(budgets, texts)
        alike = row[_COMMON], _text(tags, texts) if tags else "{}", said
        owns = found.get(alike)
        if owns is None:
            owns = found[alike] = []
        owns.append(own)
    return [
        ((*_clean(common, _COMMON_WORDS), *documents, recorded_at), owns)
        for (common, *documents), owns in found.items()
    ]


def _own_of(rows: Collection[Values]) -> Iterable[Values]:
    """Return what is the rows' own. A column at a time: nearly all of them need nothing."""
    columns: list[Sequence[Any]] = list(zip(*[row[: len(OWN)] for row in rows], strict=True))
    for place in _OWN_MOMENTS:
        columns[place] = [micros(moment) for moment in columns[place]]
    for place in _OWN_WORDS:
        columns[place] = _clean(columns[place])
    return zip(*columns, strict=True)


def _clean(values: Sequence[Any], places: Iterable[int] | None = None) -> Sequence[Any]:
    """Return the values with the words among them as databases take them: all are, or `places`."""
    places = range(len(values)) if places is None else places
    said = "".join([value for place in places if (value := values[place])])
    if said.isascii() and "\x00" not in said:
        return values
    clean = list(values)
    for place in places:
        clean[place] = Words().process_bind_param(clean[place], _DIALECT)
    return clean


def _text(document: object, texts: dict[int, str]) -> str:
    """Return the document as JSON.

    `texts` are those of rows before: calls of one key share the very tuple of budgets.
    """
    text = texts.get(id(document))
    if text is None:
        text = texts[id(document)] = msgspec.json.encode(document).decode()
    return text


class _Batch(NamedTuple):
    """A statement for SQLite's driver, and the attempts it writes."""

    statement: str
    values: Values
    names: list[str]


AT_ONCE = 256
"""Rows of one statement. One statement, not one for each row: on SQLite each would give up the
interpreter's lock and wait for it again, for as long as calls keep the event loop busy."""

FEW = 16
"""Fewer rows that are alike are written together with others, for the same reason."""


def _batches(alike: Iterable[Alike]) -> list[_Batch]:
    """Return the statements that write the rows."""
    batches = []
    others: list[Values] = []
    for common, owns in alike:
        for rows in _parted(sorted(owns)):
            if len(rows) < FEW:
                others.extend((*own, *common) for own in rows)
            else:
                batches.append(_batch(_insert_alike(len(rows)), rows, common))
    rest = [_batch(_insert("sqlite", len(rows)), rows) for rows in _parted(sorted(others))]
    return batches + rest


def _batch(statement: str, rows: Sequence[Values], common: Values = ()) -> _Batch:
    values = (*common, *chain.from_iterable(rows))
    return _Batch(statement, values, [row[0] for row in rows])


def _parted(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the rows of each statement: AT_ONCE, and of the rest powers of two.

    To prepare a statement takes SQLite twice as long as to run it: these few stay prepared.
    """
    start = 0
    while left := len(rows) - start:
        length = min(AT_ONCE, 1 << (left.bit_length() - 1))
        yield rows[start : start + length]
        start += length


_COLUMNS = (*FIELDS, "recorded_at")
_NAMES = ", ".join(f'"{ledger.c[name].name}"' for name in _COLUMNS)


@lru_cache(maxsize=32)
def _insert(backend: Backend, rows: int) -> str:
    """Return the statement, for the driver: SQLAlchemy's own way takes 45 µs of CPU a row."""
    values = _rows("?" if backend == "sqlite" else "%s", len(_COLUMNS), rows)
    known = "" if backend == "sqlite" else " ON CONFLICT DO NOTHING RETURNING attempt_id"
    return f"INSERT INTO ledger ({_NAMES}) VALUES {values}{known}"  # noqa: S608 (names of our own columns)


@lru_cache(maxsize=8)
def _insert_alike(rows: int) -> str:
    """Return the statement for SQLite's driver that is given once what the rows have in common.

    Less than half of the work: most of a row's columns are.
    """
    own = [f"column{number}" for number in range(1, len(OWN) + 1)]
    common = [f"?{number}" for number in range(1, len(_COLUMNS) - len(OWN) + 1)]
    values = _rows("?", len(OWN), rows)
    return f"INSERT INTO ledger ({_NAMES}) SELECT {', '.join(own + common)} FROM (VALUES {values})"  # noqa: S608 (no values)


def _rows(mark: str, columns: int, rows: int) -> str:
    row = "(" + ", ".join([mark] * columns) + ")"
    return ", ".join([row] * rows)


@lru_cache(maxsize=16)
def _known(names: int) -> str:
    """Return the query for those of so many attempts that are there, for SQLite's driver."""
    marks = ", ".join("?" * names)
    return f"SELECT attempt_id FROM ledger WHERE attempt_id IN ({marks})"  # noqa: S608 (no values)
