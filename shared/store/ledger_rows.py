"""Rows of the ledger on their way to the driver, those that are alike together."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec.structs import astuple

from shared.chat.usage import Usage
from shared.store.columns import Moment, Words, micros
from shared.store.money_tables import ledger
from shared.store.records import LedgerRow
from shared.store.urls import Backend

T = TypeVar("T")

Values = tuple[Any, ...]

Parts = tuple[Values, Values, Any, Any]
"""A row by its FIELDS: what is its own, what is common, `tags` and `budgets`.

What many rows are handed over as: a struct for each costs as much again.
"""

Alike = tuple[Values, list[Values]]
"""What some rows have in common, and of each what is its own."""

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

COMMON = FIELDS[len(OWN) : -len(_DOCUMENTS)]

_own = itemgetter(*(_GIVEN.index(name) for name in OWN))
_common = itemgetter(*(_GIVEN.index(name) for name in COMMON))
_documents = itemgetter(*(_GIVEN.index(name) for name in _DOCUMENTS))
_DIALECT = sa.engine.default.DefaultDialect()


def _places(names: Sequence[str], kind: type[sa.TypeDecorator[Any]]) -> list[int]:
    return [place for place, name in enumerate(names) if isinstance(ledger.c[name].type, kind)]


_OWN_MOMENTS = _places(OWN, Moment)
_OWN_WORDS = _places(OWN, Words)
_COMMON_WORDS = _places(COMMON, Words)


def parts_of(row: LedgerRow) -> Parts:
    """Return the row in its parts."""
    values = (*astuple(row)[:-1], *astuple(row.usage))
    tags, budgets = _documents(values)
    return _own(values), _common(values), tags, budgets


class AlikeRows:
    """Rows as the driver takes them: what those that are alike have in common, and their own.

    They are added as they come, a few at a time, as long as what they are made of is in the caches.
    """

    __slots__ = ("_found", "_texts", "count")

    def __init__(self, rows: Collection[Parts] = ()) -> None:
        self.count = 0
        self._found: dict[Values, list[Values]] = {}
        # With the document itself: as long as it lives, nothing else has its id.
        self._texts: dict[int, tuple[object, str]] = {}
        self.add(rows)

    def add(self, rows: Collection[Parts]) -> None:
        """Take rows of different attempts."""
        found, texts = self._found, self._texts
        for (_, common, tags, budgets), own in zip(rows, _own_of(rows), strict=True):
            # Calls of one key share the very tuple of budgets.
            text = texts.get(id(budgets))
            if text is None:
                text = texts[id(budgets)] = budgets, _json(budgets)
            alike = common, _json(tags) if tags else "{}", text[1]
            owns = found.get(alike)
            if owns is None:
                owns = found[alike] = []
            owns.append(own)
        self.count += len(rows)

    def at(self, recorded_at: int) -> list[Alike]:
        """Return the rows by OWN, the rest of FIELDS, and `recorded_at`."""
        return [
            ((*_clean(common, _COMMON_WORDS), *documents, recorded_at), owns)
            for (common, *documents), owns in self._found.items()
        ]


def _own_of(rows: Iterable[Parts]) -> Iterable[Values]:
    """Return what is the rows' own. A column at a time: nearly all of them need nothing."""
    columns: list[Sequence[Any]] = list(zip(*[row[0] for row in rows], strict=True))
    if not columns:
        return ()
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


def _json(document: object) -> str:
    return msgspec.json.encode(document).decode()


class Batch(NamedTuple):
    """A statement for SQLite's driver, and the attempts it writes."""

    statement: str
    values: Values
    names: list[str]


AT_ONCE = 256
"""Rows of one statement. One statement, not one for each row: on SQLite each would give up the
interpreter's lock and wait for it again, for as long as calls keep the event loop busy."""

ALIKE_AT_ONCE = 1_024
"""The same for rows that are alike, which take 12 values each: SQLite takes 32,766 at once."""

FEW = 16
"""Fewer rows that are alike are written together with others, for the same reason."""


def batches(alike: Iterable[Alike]) -> list[Batch]:
    """Return the statements that write the rows."""
    found = []
    others: list[Values] = []
    for common, owns in alike:
        for rows in parted(owns, ALIKE_AT_ONCE):
            if len(rows) < FEW:
                others.extend((*own, *common) for own in rows)
            else:
                found.append(_batch(_insert_alike(len(rows)), rows, common))
    rest = [_batch(insert_statement("sqlite", len(rows)), rows) for rows in parted(others)]
    return found + rest


def _batch(statement: str, rows: Sequence[Values], common: Values = ()) -> Batch:
    values = (*common, *chain.from_iterable(rows))
    return Batch(statement, values, [row[0] for row in rows])


def parted(rows: Sequence[T], most: int = AT_ONCE) -> Iterator[Sequence[T]]:
    """Yield the rows of each statement: as many as go at once, and of the rest powers of two.

    To prepare a statement takes SQLite twice as long as to run it: these few stay prepared.
    """
    start = 0
    while left := len(rows) - start:
        length = min(most, 1 << (left.bit_length() - 1))
        yield rows[start : start + length]
        start += length


_COLUMNS = (*FIELDS, "recorded_at")
_NAMES = ", ".join(f'"{ledger.c[name].name}"' for name in _COLUMNS)


@lru_cache(maxsize=32)
def insert_statement(backend: Backend, rows: int) -> str:
    """Return the statement, for the driver: SQLAlchemy's own way takes 45 µs of CPU a row."""
    values = _rows("?" if backend == "sqlite" else "%s", len(_COLUMNS), rows)
    known = "" if backend == "sqlite" else " ON CONFLICT DO NOTHING RETURNING attempt_id"
    return f"INSERT INTO ledger ({_NAMES}) VALUES {values}{known}"  # noqa: S608 (names of our own columns)


@lru_cache(maxsize=16)
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
def known_statement(names: int) -> str:
    """Return the query for those of so many attempts that are there, for SQLite's driver."""
    marks = ", ".join("?" * names)
    return f"SELECT attempt_id FROM ledger WHERE attempt_id IN ({marks})"  # noqa: S608 (no values)
