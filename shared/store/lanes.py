"""How connections are made: a lane is an engine and as many permits as it has connections."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from threading import Thread

import aiosqlite
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from shared.store.urls import StoreUrl

POSTGRESQL_CONNECTIONS = 10
SQLITE_READERS = 4
PERMIT_S = 5.0
"""Seconds to wait for a connection, connecting included."""

SQLITE_WRITER = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")
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
    engine = create_async_engine(
        url.for_asyncio(),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=POSTGRESQL_CONNECTIONS,
        max_overflow=0,
        pool_timeout=PERMIT_S,
        pool_pre_ping=True,  # after a restart of the server nobody meets a dead connection
        pool_recycle=1800,
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
    outlives the event loop ends with a traceback.
    """

    def __init__(self, url: StoreUrl) -> None:
        dialect = sa.create_engine(url.for_blocking()).dialect
        (self._path,), self._options = dialect.create_connect_args(url.for_asyncio())
        self._threads: list[Thread] = []

    async def connect(self) -> aiosqlite.Connection:
        # No isolation level: the driver's own BEGIN comes too late and is never IMMEDIATE.
        connection = aiosqlite.connect(self._path, isolation_level=None, **self._options)
        thread = connection._thread  # noqa: SLF001 (nothing public leads to it)
        thread.daemon = True  # as SQLAlchemy does: a hanging disk must not keep the process
        self._threads = [*(old for old in self._threads if old.is_alive()), thread]
        return await connection

    async def wait_for_threads(self) -> None:
        """Return when they have ended, or after 2 s."""
        await asyncio.to_thread(_join, self._threads)


def _join(threads: list[Thread]) -> None:
    for thread in threads:
        if thread.is_alive():
            thread.join(2.0 / len(threads))
