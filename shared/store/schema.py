"""Bringing a database to the newest schema.

Alembic's configuration is built here, because an installed wheel has no alembic.ini.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from shared.errors import StoreUnavailable
from shared.store.tables import REVISION, revision_of
from shared.store.urls import StoreUrl, parse_store_url

MIGRATIONS = Path(__file__).parent / "migrations"

MIGRATION_LOCK = 7_305_524_412
"""Any number, the same in every version: two `sluiceway migrate` take turns by it."""


def migrate(url: str) -> list[str]:
    """Apply what is missing, all of it or nothing; return the revisions, oldest first.

    Makes the file of a SQLite database and its folder. Run twice at once, the second waits and
    finds nothing to do.

    Raises:
        BadStoreUrl: the URL is not a database's.
        StoreUnavailable: the database is away.
    """
    parsed = parse_store_url(url)
    engine = _engine(parsed)
    if parsed.backend == "sqlite":
        event.listen(engine, "connect", _keep_wal)
    try:
        with _turn(parsed), engine.begin() as connection:
            if parsed.backend == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            return _upgrade(connection)
    except OperationalError as error:
        raise StoreUnavailable(f"the database failed: {error.orig}") from error
    finally:
        engine.dispose()


@contextmanager
def _turn(parsed: StoreUrl) -> Iterator[None]:
    """Make the folder of a SQLite database and hold it, so that one process sets the file up.

    SQLite's own lock is not enough: two connections that turn a new file to WAL together are not
    made to wait for each other, one of them fails at once, whatever the timeout
    (https://sqlite.org/c3ref/busy_handler.html, "would result in a deadlock").
    """
    if parsed.backend != "sqlite" or parsed.url.database is None:
        yield
        return
    folder = Path(parsed.url.database).parent
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def is_current(url: str) -> bool:
    """Return whether `migrate` would have nothing to do.

    Raises:
        BadStoreUrl: the URL is not a database's.
        StoreUnavailable: the database is away.
    """
    parsed = parse_store_url(url)
    if parsed.backend == "sqlite" and not Path(parsed.url.database or "").exists():
        return False  # looking would make the file
    engine = _engine(parsed)
    try:
        with engine.connect() as connection:
            revision = revision_of(connection)
    except OperationalError as error:
        raise StoreUnavailable(f"the database failed: {error.orig}") from error
    finally:
        engine.dispose()
    return revision is not None and revision >= REVISION


def _upgrade(connection: Connection) -> list[str]:
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationInfo

    applied: list[str] = []

    def note(*, step: MigrationInfo, **_: object) -> None:
        applied.append(str(step.up_revision_id))

    before = revision_of(connection)
    if before is not None and before >= REVISION:
        return []  # also for a database that a newer program has taken further
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, on_version_apply=note)
    command.upgrade(config, "head")
    return applied


def _engine(parsed: StoreUrl) -> Engine:
    if parsed.backend == "postgresql":
        return sa.create_engine(parsed.for_blocking())
    engine = sa.create_engine(
        parsed.for_blocking(), connect_args={"isolation_level": None, "timeout": 30}
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # schema changes roll back with the rest

    return engine


def _keep_wal(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()
