"""How connections are made: a lane is an engine and as many permits as it has connections."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from threading import Thread

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from typing_extensions import override

from shared.store.sqlite import Connection as SqliteConnection
from shared.store.urls import StoreUrl

POSTGRESQL_CONNECTIONS = 10
SQLITE_READERS = 4
PERMIT_S = 5.0
"""Seconds to wait for a connection, connecting included."""

# A checkpoint of 16 MB: the pages that each flush of the books changes again are copied less often,
# and readers find theirs as fast, since 4,062 have room in one hash table.
SQLITE_WRITER = (
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "foreign_keys=ON",
    "wal_autocheckpoint=4000",
    "temp_store=MEMORY",  # what a statement may have to undo; else a file for each transaction
)
SQLITE_READER = ("query_only=ON",)


class Lane:
    """An engine whose connections are never more than its permits."""

    def __init__(
        self, engine: AsyncEngine, size: int, *, ended: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.engine = engine
        self.permits = asyncio.Semaphore(size)
        self._size = size
        self._ended = ended

    async def let_go(self) -> None:
        """Return when a connection that was cut off in a transaction holds no lock any more.

        Called before a permit is given back. Cancelling again does not shorten it: the next
        writer would wait for a lock that only dies with the old connection's thread.
        """
        pool = self.engine.pool
        kept = isinstance(pool, AsyncAdaptedQueuePool) and pool.checkedin() > 0
        if kept or self._ended is None or self._size > 1:
            return
        ended = asyncio.ensure_future(self._ended())
        cancelled: asyncio.CancelledError | None = None
        while not ended.done():
            try:
                await asyncio.shield(ended)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def close(self) -> None:
        """Wait up to 5 s until nothing is under way, then close every connection."""
        with suppress(TimeoutError):  # what still runs loses its connection and says so itself
            async with asyncio.timeout(PERMIT_S):
                for _ in range(self._size):
                    await self.permits.acquire()
        await self.engine.dispose()
        if self._ended is not None:
            await self._ended()


def postgresql_lane(url: StoreUrl) -> Lane:
    """Return the one lane of a PostgreSQL store."""
    from shared.store.postgresql import PromptConnection  # heavy, and SQLite has no use for it

    engine = create_async_engine(
        url.for_asyncio(),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=POSTGRESQL_CONNECTIONS,
        max_overflow=0,
        pool_timeout=PERMIT_S,
        pool_pre_ping=True,  # after a restart of the server nobody meets a dead connection
        pool_recycle=1800,
        connect_args={"async_creator_fn": PromptConnection.connect},
        use_native_hstore=False,  # saves a query on every new connection
        hide_parameters=True,  # bodies and secrets stay out of error texts
    )
    return Lane(engine, POSTGRESQL_CONNECTIONS)


def sqlite_reader(url: StoreUrl) -> Lane:
    """Return the lane of a SQLite store's readers, who see the last committed state."""
    return _sqlite_lane(url, SQLITE_READERS, begin="BEGIN", pragmas=SQLITE_READER)


def sqlite_writer(url: StoreUrl) -> Lane:
    """Return the lane of a SQLite store's writer: one per process, its lock taken at the start."""
    return _sqlite_lane(url, 1, begin="BEGIN IMMEDIATE", pragmas=SQLITE_WRITER)


def _sqlite_lane(url: StoreUrl, size: int, *, begin: str, pragmas: tuple[str, ...]) -> Lane:
    files = _SqliteFile(url)
    engine = create_async_engine(
        url.for_asyncio(),
        async_creator=files.connect,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=PERMIT_S,
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return Lane(engine, size, ended=files.wait_for_threads)


class _SqliteFile:
    """Opens one file as often as asked, and knows the threads that aiosqlite makes for it.

    aiosqlite does not wait for the thread of a connection that failed or was cut off; one that
    outlives the event loop ends with a traceback. Nor does it always close the connection itself,
    which then holds its lock until the garbage collector finds it.
    """

    def __init__(self, url: StoreUrl) -> None:
        dialect = sa.create_engine(url.for_blocking()).dialect
        (self._path,), self._options = dialect.create_connect_args(url.for_asyncio())
        self._opened: list[_Opened] = []

    async def connect(self) -> SqliteConnection:
        # No isolation level: the driver's own BEGIN comes too late and is never IMMEDIATE.
        opened = _Opened()
        options = {**self._options, "isolation_level": None, "check_same_thread": False}

        def connect() -> sqlite3.Connection:
            opened.raw = sqlite3.connect(self._path, factory=_RollingBack, **options)
            return opened.raw

        connection = SqliteConnection(connect, iter_chunk_size=64)
        thread = connection._thread  # noqa: SLF001 (nothing public leads to it)
        thread.daemon = True  # as SQLAlchemy does: a hanging disk must not keep the process
        opened.thread = thread
        self._opened = [*(old for old in self._opened if not old.ended()), opened]
        await connection
        return connection

    async def wait_for_threads(self) -> None:
        """Return when they have ended, or after 2 s; what they left open is closed then."""
        await asyncio.to_thread(_join, self._opened)


class _RollingBack(sqlite3.Connection):
    """Ends its transaction when it is closed.

    SQLite itself keeps a closed connection, and its lock, for as long as a cursor of it lives:
    https://www.sqlite.org/c3ref/close.html
    """

    @override
    def close(self) -> None:
        with suppress(sqlite3.Error):
            if self.in_transaction:
                self.rollback()
        super().close()


class _Opened:
    """A connection's thread, and what the thread opened."""

    def __init__(self) -> None:
        self.thread: Thread | None = None
        self.raw: sqlite3.Connection | None = None

    def ended(self) -> bool:
        """Close the connection if its thread has ended, and say whether it has."""
        if self.thread is None or self.thread.is_alive():
            return False
        if self.raw is not None:
            self.raw.close()
        return True


def _join(opened: list[_Opened]) -> None:
    for one in opened:
        if one.thread is not None and not one.ended():
            one.thread.join(2.0 / len(opened))
            one.ended()
