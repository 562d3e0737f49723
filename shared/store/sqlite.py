"""SQLite connections whose statements go to their thread and come back once.

aiosqlite alone goes four times for a query: to make the cursor, to run it, to fetch, to close. On
a busy event loop each way back waits for the interpreter's lock, up to 5 ms.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypeVar

import aiosqlite
from typing_extensions import override

Row = tuple[Any, ...]
T = TypeVar("T")


class Connection(aiosqlite.Connection):
    """A connection with cursors of that kind, for SQLAlchemy."""

    @override
    def cursor(self) -> "Cursor":  # type: ignore[override]
        return Cursor(self)

    async def run(self, sql: str, values: Sequence[Any]) -> "Ran":
        """Run a statement, with all of its rows."""
        ran: Ran = await self._execute(_run, self._conn, sql, values)  # type: ignore[no-untyped-call]
        return ran

    async def run_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> "Ran":
        """Run a statement once for each row of values."""
        ran: Ran = await self._execute(_run_many, self._conn, sql, rows)  # type: ignore[no-untyped-call]
        return ran

    async def work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work of several statements there."""
        done: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]
        return done


class Ran:
    """What a statement came to."""

    __slots__ = ("description", "lastrowid", "rowcount", "rows")

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self.description = cursor.description
        self.rows: list[Row] = [] if self.description is None else cursor.fetchall()
        self.rowcount = cursor.rowcount
        self.lastrowid = cursor.lastrowid
        cursor.close()


class Cursor:
    """As much of aiosqlite's cursor as SQLAlchemy asks for; its rows are all there already."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1
        self._rows: list[Row] = []

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, values: Sequence[Any] = ()) -> Self:
        """Run a statement."""
        return self._became(await self._connection.run(sql, values))

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Self:
        """Run a statement once for each row of values."""
        return self._became(await self._connection.run_many(sql, rows))

    async def fetchall(self) -> list[Row]:
        """Return the rows; once."""
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """Forget the rows."""
        self._rows = []

    def _became(self, ran: Ran) -> Self:
        self.description = ran.description
        self.rowcount = ran.rowcount
        self.lastrowid = ran.lastrowid
        self._rows = ran.rows
        return self


def _run(raw: sqlite3.Connection, sql: str, values: Sequence[Any]) -> Ran:
    return Ran(raw.execute(sql, values))


def _run_many(raw: sqlite3.Connection, sql: str, rows: Iterable[Sequence[Any]]) -> Ran:
    return Ran(raw.executemany(sql, rows))
