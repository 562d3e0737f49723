"""Connections and transactions, on SQLite and on PostgreSQL.

A store never opens more connections than it has permits, and waits for a permit only so long: a
slow database turns into `StoreUnavailable`, never into a queue of callers.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.clock import Clock, SystemClock
from shared.errors import OwnFault, StoreUnavailable
from shared.store.lanes import PERMIT_S, Lane, postgresql_lane, sqlite_reader, sqlite_writer
from shared.store.sqlite import Connection as SqliteConnection
from shared.store.tables import REVISION, revision_of
from shared.store.urls import Backend, parse_store_url
from shared.telemetry.metrics import STORE_FAILURES

T = TypeVar("T")

TRANSACTION_S = 15.0
"""Seconds one transaction may last; above the server's own statement and lock timeouts."""

SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)
POSTGRESQL_AWAY = ("08", "25006", "25P03", "40", "53", "55P03", "57", "58")
"""SQLSTATE beginnings: connection, read-only, idle, rollback, resources, lock, operator, system."""


Run = Callable[[str, Sequence[object]], Sequence[Any]]
"""Runs a statement for the driver, with `?` for each of the values, and returns its rows."""


class SchemaBehind(OwnFault):
    """The database is older than this program; `sluiceway migrate` brings it up."""


class Tx:
    """One transaction. Everything in `shared.store` takes it as its first argument."""

    def __init__(self, connection: AsyncConnection, backend: Backend, clock: Clock | None) -> None:
        self.connection = connection
        self.backend = backend
        self._clock = clock
        self._asked: tuple[datetime, float] | None = None

    async def now(self) -> datetime:
        """Return the moment on the one clock all processes share, in UTC.

        That is PostgreSQL's own, asked once in a transaction and then counted on, or on SQLite
        the host's. A clock given to `open_store` wins.
        """
        if self._clock is not None:
            return self._clock.now()
        if self._asked is not None:
            moment, at_s = self._asked
            return moment + timedelta(seconds=SystemClock.monotonic() - at_s)
        asked: datetime = (
            await self.connection.execute(sa.select(sa.func.clock_timestamp()))
        ).scalar_one()
        self._asked = asked.astimezone(UTC), SystemClock.monotonic()
        return self._asked[0]

    async def on_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work of several statements on the thread of SQLite's connection; only there.

        One way there and back for all of them, and nothing of SQLAlchemy, which takes 0.1 ms of
        the event loop a statement; its errors are the same.
        """
        pooled = await self.connection.get_raw_connection()
        driver = cast("SqliteConnection", pooled.driver_connection)
        try:
            return await driver.work(work)
        except sqlite3.Error as error:
            raise DBAPIError.instance(
                None, None, error, sqlite3.Error, hide_parameters=True
            ) from error
        except asyncio.CancelledError as error:  # the thread goes on with it
            await self.connection.invalidate(error)
            raise

    async def together(self, work: Callable[[Run], T]) -> T:
        """Do work of several statements for the driver, on SQLite on its thread, in one go.

        `work` is given what runs them, and touches nothing else.
        """
        if self.backend == "sqlite":
            return await self.on_thread(lambda raw: work(partial(_run_here, raw)))
        return await self.connection.run_sync(lambda there: work(partial(_run_there, there)))

    def insert(self, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
        """Return an insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return postgresql.insert(table) if self.backend == "postgresql" else sqlite.insert(table)


_PROOFS: Mapping[Backend, str] = {
    "postgresql": "SELECT 1",
    # Without a table SQLite does not even look into its file.
    "sqlite": "SELECT 1 FROM sqlite_master LIMIT 1",
}


class Store:
    """The database, for as long as a process lives. Made by `open_store`."""

    def __init__(
        self, *, backend: Backend, reader: Lane, writer: Lane, clock: Clock | None
    ) -> None:
        self.backend = backend
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._closed = False

    def read(self) -> AbstractAsyncContextManager[Tx]:
        """Open a transaction that cannot write.

        Raises:
            StoreUnavailable: the database is away, too slow or this store is closed.
        """
        return self._transaction(self._reader, readonly=True)

    def write(self) -> AbstractAsyncContextManager[Tx]:
        """Open a transaction; it commits at the end of the block, an error rolls it back.

        On SQLite it has the only write lock from its start, so keep it short. A cancellation
        while it commits leaves open whether it did.

        Raises:
            StoreUnavailable: the database is away, too slow, chose this transaction as a
                deadlock's victim, or this store is closed.
        """
        return self._transaction(self._writer, readonly=False)

    async def ping(self, timeout_s: float) -> None:
        """Return if the database answers within `timeout_s` seconds.

        Raises:
            StoreUnavailable: it does not.
        """
        try:
            async with asyncio.timeout(timeout_s), self.read() as tx:
                await tx.connection.execute(sa.text(_PROOFS[self.backend]))
        except TimeoutError as error:
            raise StoreUnavailable(f"the database did not answer in {timeout_s} s") from error

    async def check_schema(self) -> None:
        """Return if the schema is the one this program was written for, or a newer one.

        Raises:
            SchemaBehind: `sluiceway migrate` has to run first.
            StoreUnavailable: the database is away.
        """
        async with self.read() as tx:
            revision = await tx.connection.run_sync(revision_of)
        if revision is None or revision < REVISION:
            found = "no schema" if revision is None else f"schema {revision}"
            raise SchemaBehind(
                f"the database has {found}, this program needs {REVISION}; run: sluiceway migrate"
            )

    async def close(self) -> None:
        """Refuse new transactions, let those under way end (up to 5 s), close every connection."""
        if self._closed:
            return
        self._closed = True
        for lane in {self._reader, self._writer}:
            await lane.close()

    @asynccontextmanager
    async def _transaction(self, lane: Lane, *, readonly: bool) -> AsyncIterator[Tx]:
        with _translated():
            async with AsyncExitStack() as stack:
                connection = await self._connect(lane, stack, readonly=readonly)
                limit = asyncio.timeout(TRANSACTION_S)
                try:
                    async with limit, connection.begin():
                        yield Tx(connection, self.backend, self._clock)
                except TimeoutError as error:
                    if limit.expired():
                        raise StoreUnavailable("the transaction took too long") from error
                    raise

    async def _connect(
        self, lane: Lane, stack: AsyncExitStack, *, readonly: bool
    ) -> AsyncConnection:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            async with asyncio.timeout(PERMIT_S):
                await stack.enter_async_context(lane.permits)
                stack.push_async_callback(lane.let_go)
                connection = await stack.enter_async_context(lane.engine.connect())
        except TimeoutError as error:
            raise StoreUnavailable("no database connection was free in time") from error
        if readonly and self.backend == "postgresql":
            await connection.execution_options(postgresql_readonly=True)
        return connection


async def open_store(url: str, *, clock: Clock | None = None) -> Store:
    """Return the store at that URL; it connects only when used.

    Args:
        url: `sqlite:///path` or `postgresql://…`.
        clock: what `Tx.now` reads instead of the database's own clock; for tests.

    Raises:
        BadStoreUrl: the URL is not one of these.
    """
    parsed = parse_store_url(url)
    if parsed.backend == "postgresql":
        lane = postgresql_lane(parsed)
        return Store(backend="postgresql", reader=lane, writer=lane, clock=clock)
    return Store(
        backend="sqlite",
        reader=sqlite_reader(parsed),
        writer=sqlite_writer(parsed),
        clock=clock or SystemClock(),
    )


def _run_here(raw: sqlite3.Connection, statement: str, values: Sequence[object]) -> list[Any]:
    return raw.execute(statement, values).fetchall()


def _run_there(
    connection: sa.Connection, statement: str, values: Sequence[object]
) -> Sequence[Any]:
    done = connection.exec_driver_sql(statement.replace("?", "%s"), tuple(values))
    return done.all() if done.returns_rows else ()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what means "the database is away" into StoreUnavailable; a bug stays what it is."""
    try:
        with _told():
            yield
    except StoreUnavailable:
        STORE_FAILURES.inc()
        raise


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailable("no database connection was free in time") from error
    except DBAPIError as error:
        if not _is_away(error):
            raise
        raise StoreUnavailable(f"the database failed: {error.orig}") from error


def _is_away(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0)  # absent when the module itself complains
        return (code & 0xFF) in SQLITE_AWAY
    state = getattr(cause, "sqlstate", None)
    if state is None:  # not the server's answer: there is no server
        return isinstance(error, OperationalError | InterfaceError)
    return str(state).startswith(POSTGRESQL_AWAY)
