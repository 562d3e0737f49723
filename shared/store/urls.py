"""Database URLs: from the one in the settings to the ones the drivers want."""

from typing import Literal

import msgspec
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from shared.errors import OwnFault

Backend = Literal["sqlite", "postgresql"]

CONNECT_S = 5
"""Seconds until a PostgreSQL that does not answer counts as away."""

BUSY_S = 5.0
"""Seconds SQLite waits for another process's write."""

STATEMENT_MS = 5000
LOCK_MS = 2000
IDLE_MS = 30_000
"""A process that hangs inside a transaction must not hold its locks for ever."""
SESSION = (
    f"-c statement_timeout={STATEMENT_MS} -c lock_timeout={LOCK_MS} "
    f"-c idle_in_transaction_session_timeout={IDLE_MS}"
)


class BadStoreUrl(OwnFault):
    """The database URL is not one we can use."""


class StoreUrl(msgspec.Struct, frozen=True, kw_only=True):
    """A checked database URL."""

    backend: Backend
    url: URL

    def for_asyncio(self) -> URL:
        """Return the URL with its asyncio driver, bounded in time by the server and the socket."""
        if self.backend == "sqlite":
            busy = {} if "timeout" in self.url.query else {"timeout": str(BUSY_S)}
            return self.url.set(drivername="sqlite+aiosqlite").update_query_dict(busy)
        asked = self.url.query.get("options", "")
        options = f"{SESSION} {asked if isinstance(asked, str) else ' '.join(asked)}".strip()
        return self._postgresql().update_query_dict({"options": options})

    def for_blocking(self) -> URL:
        """Return the URL with its blocking driver, for commands."""
        if self.backend == "sqlite":
            return self.url.set(drivername="sqlite+pysqlite")
        return self._postgresql()

    def _postgresql(self) -> URL:
        bounds = {
            "connect_timeout": str(CONNECT_S),
            "tcp_user_timeout": "5000",  # a peer that vanished is noticed while data is unconfirmed
            "keepalives_idle": "30",
            "application_name": "sluiceway",
        }
        missing = {name: value for name, value in bounds.items() if name not in self.url.query}
        return self.url.set(drivername="postgresql+psycopg").update_query_dict(missing)


def parse_store_url(text: str) -> StoreUrl:
    """Return the checked URL.

    Raises:
        BadStoreUrl: neither `sqlite:///path` nor `postgresql://…`. The message holds no password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise BadStoreUrl("the database URL cannot be read") from error
    scheme = url.drivername.partition("+")[0]
    if scheme == "sqlite":
        if url.database in {None, "", ":memory:"}:
            raise BadStoreUrl("a SQLite database needs a file: sqlite:///path")
        return StoreUrl(backend="sqlite", url=url)
    if scheme in {"postgresql", "postgres"}:
        return StoreUrl(backend="postgresql", url=url)
    raise BadStoreUrl(f"unknown kind of database: {scheme}; use sqlite:/// or postgresql://")
