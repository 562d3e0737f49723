"""Reading a database beside the processes that write it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from shared.store.urls import parse_store_url
from tests.chaos.laws import Rows


@contextmanager
def looking_at(database_url: str) -> Iterator[Rows]:
    """Yield what runs a query on the database and returns its rows, each on what is committed."""
    engine = sa.create_engine(parse_store_url(database_url).for_blocking())
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

        def rows(statement: str) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.execute(sa.text(statement)).mappings()]

        yield rows
    engine.dispose()
