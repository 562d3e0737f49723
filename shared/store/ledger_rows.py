"""Rows of the ledger on their way to the driver, those that are alike together."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec.structs import astuple

from shared.chat.usage import Usage
from shared.store.columns import Moment, Words, micros_of
from shared.store.money_tables import ledger
from shared.store.records import BudgetRef, LedgerRow
from shared.store.urls import Backend

T = TypeVar("T")

Values = tuple[Any, ...]

Parts = tuple[Values, Values, Mapping[str, str], tuple[BudgetRef, ...], str | None]
"""A row by its FIELDS: what is its own, what is common, `tags` and `budgets`; then, for no column,
whose grants in them its cost is taken off.

What many rows are handed over as: a struct for each costs as much again.
"""

Columns = list[Sequence[Any]]

Alike = tuple[Values, Columns]
"""What some rows have in common, and what is their own, by column."""

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
_cost = itemgetter(OWN.index("cost_nanousd"))
_DIALECT = sa.engine.default.DefaultDialect()


def _places(names: Sequence[str], kind: type[sa.TypeDecorator[Any]]) -> list[int]:
    return [place for place, name in enumerate(names) if isinstance(ledger.c[name].type, kind)]


_OWN_MOMENTS = _places(OWN, Moment)
_OWN_WORDS = _places(OWN, Words)
_COMMON_WORDS = _places(COMMON, Words)

_OFTEN_ABSENT: tuple[dict[str, int | None], ...] = (
    {"user": None},
    {"first_token_ms": None},
    {"cache_read_tokens": 0, "reasoning_tokens": 0},
)
"""What often no row of a statement has, and what then stands there: it is bound once. SQLite's
driver takes ten times as long for None as for a number. Three sorts of it are eight forms of each
statement, which all stay prepared."""


def parts_of(row: LedgerRow) -> Parts:
    """Return the row in its parts."""
    values = (*astuple(row)[:-1], *astuple(row.usage))
    tags, budgets = _documents(values)
    return _own(values), _common(values), tags, budgets, None


class _Kin:
    """Rows that are alike."""

    __slots__ = ("budgets", "common", "documents", "owner", "owns")

    def __init__(
        self,
        common: Values = (),
        documents: tuple[str, str] = ("", ""),
        budgets: tuple[BudgetRef, ...] | None = None,
        owner: str | None = None,
    ) -> None:
        self.common = common
        self.documents = documents
        self.budgets = budgets
        self.owner = owner
        self.owns: list[Values] = []


class AlikeRows:
    """Rows as the driver takes them: what those that are alike have in common, and their own.

    They are added as they come, a few at a time, as long as what they are made of is in the caches.
    """

    __slots__ = ("_found", "_last", "_texts", "count")

    def __init__(self, rows: Collection[Parts] = ()) -> None:
        self.count = 0
        self._found: dict[object, _Kin] = {}
        self._last = _Kin()
        # With the document itself: as long as it lives, nothing else has its id.
        self._texts: dict[int, tuple[object, str]] = {}
        self.add(rows)

    def add(self, rows: Collection[Parts]) -> None:
        """Take rows of different attempts."""
        last = self._last
        for own, common, tags, budgets, owner in rows:
            # Most are like the one before, and calls of one key share the very tuple of budgets:
            # to compare with it takes half of the time that looking it up does.
            if tags or budgets is not last.budgets or owner != last.owner or common != last.common:
                kin = self._kin(common, tags, budgets, owner)
                if not tags:
                    last = kin
                kin.owns.append(own)
            else:
                last.owns.append(own)
        self._last = last
        self.count += len(rows)

    def _kin(
        self,
        common: Values,
        tags: Mapping[str, str],
        budgets: tuple[BudgetRef, ...],
        owner: str | None,
    ) -> _Kin:
        text = self._texts.get(id(budgets))
        if text is None:
            text = self._texts[id(budgets)] = budgets, _json(budgets)
        documents = _json(tags) if tags else "{}", text[1]
        key = common, documents, owner
        kin = self._found.get(key)
        if kin is None:
            kin = self._found[key] = _Kin(common, documents, budgets, owner)
        return kin

    def at(self, recorded_at: int) -> list[Alike]:
        """Return the rows by OWN, the rest of FIELDS, and `recorded_at`."""
        return [
            (
                (*_clean(kin.common, _COMMON_WORDS), *kin.documents, recorded_at),
                _columns(kin.owns),
            )
            for kin in self._found.values()
        ]

    def spent(self) -> dict[tuple[str | None, tuple[BudgetRef, ...]], int]:
        """Return what the rows with budgets have cost, by whose grants and which budgets."""
        spent: dict[tuple[str | None, tuple[BudgetRef, ...]], int] = {}
        for kin in self._found.values():
            if kin.budgets:
                by = kin.owner, kin.budgets
                spent[by] = spent.get(by, 0) + sum(filter(None, map(_cost, kin.owns)))
        return spent


def _columns(owns: Iterable[Values]) -> Columns:
    """Return what is the rows' own, by column: nearly all of them need nothing."""
    columns: Columns = list(zip(*owns, strict=True))
    for place in _OWN_MOMENTS:
        columns[place] = micros_of(columns[place])
    for place in _OWN_WORDS:
        columns[place] = _clean(columns[place])
    return columns


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
    for common, columns in alike:
        for span in spans(len(columns[0]), ALIKE_AT_ONCE):
            part = [column[span] for column in columns]
            if len(part[0]) < FEW:
                others.extend((*own, *common) for own in zip(*part, strict=True))
            else:
                found.append(_batch(part, common))
    for rows in parted(others):
        statement = insert_statement("sqlite", len(rows))
        values = tuple(chain.from_iterable(rows))
        found.append(Batch(statement, values, [row[0] for row in rows]))
    return found


def _batch(columns: Columns, common: Values) -> Batch:
    own = dict(zip(OWN, columns, strict=True))
    count = len(columns[0])
    absent: dict[str, int | None] = {}
    for sort in _OFTEN_ABSENT:
        if all(own[name].count(value) == count for name, value in sort.items()):
            absent |= sort
    rows = zip(*(own[name] for name in OWN if name not in absent), strict=True)
    shared = (*common, *absent.values())
    statement = _insert_alike(count, tuple(absent))
    return Batch(statement, (*shared, *chain.from_iterable(rows)), list(columns[0]))


def parted(rows: Sequence[T], most: int = AT_ONCE) -> Iterator[Sequence[T]]:
    """Yield the rows of each statement."""
    for span in spans(len(rows), most):
        yield rows[span]


def spans(count: int, most: int) -> Iterator[slice]:
    """Yield which rows are each statement's: as many as go at once, of the rest powers of two.

    To prepare a statement takes SQLite twice as long as to run it: these few stay prepared.
    """
    start = 0
    while left := count - start:
        length = min(most, 1 << (left.bit_length() - 1))
        yield slice(start, start + length)
        start += length


_COLUMNS = (*FIELDS, "recorded_at")
_NAMES = ", ".join(f'"{ledger.c[name].name}"' for name in _COLUMNS)


@lru_cache(maxsize=32)
def insert_statement(backend: Backend, rows: int) -> str:
    """Return the statement, for the driver: SQLAlchemy's own way takes 45 µs of CPU a row."""
    values = _rows("?" if backend == "sqlite" else "%s", len(_COLUMNS), rows)
    known = "" if backend == "sqlite" else " ON CONFLICT DO NOTHING RETURNING attempt_id"
    return f"INSERT INTO ledger ({_NAMES}) VALUES {values}{known}"  # noqa: S608 (names of our own columns)


@lru_cache(maxsize=64)
def _insert_alike(rows: int, absent: tuple[str, ...]) -> str:
    """Return the statement for SQLite's driver that is given once what the rows have in common.

    Less than half of the work: most of a row's columns are. `absent` are those of OWN that no row
    has.
    """
    own = [name for name in OWN if name not in absent]
    common = [*_COLUMNS[len(OWN) :], *absent]
    terms = {name: f"column{number}" for number, name in enumerate(own, start=1)}
    terms |= {name: f"?{number}" for number, name in enumerate(common, start=1)}
    # In the table's own order: then SQLite writes each value where the row is made up.
    ordered = [column.name for column in ledger.c]
    names = ", ".join(f'"{name}"' for name in ordered)
    selected = ", ".join(terms[name] for name in ordered)
    values = _rows("?", len(own), rows)
    return f"INSERT INTO ledger ({names}) SELECT {selected} FROM (VALUES {values})"  # noqa: S608 (no values)


def _rows(mark: str, columns: int, rows: int) -> str:
    row = "(" + ", ".join([mark] * columns) + ")"
    return ", ".join([row] * rows)


@lru_cache(maxsize=16)
def known_statement(names: int) -> str:
    """Return the query for those of so many attempts that are there, for SQLite's driver."""
    marks = ", ".join("?" * names)
    return f"SELECT attempt_id FROM ledger WHERE attempt_id IN ({marks})"  # noqa: S608 (no values)
