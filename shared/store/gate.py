"""The look at the database before several processes are started on it."""

import asyncio

from shared.errors import StoreUnavailable
from shared.store.engine import open_store
from shared.telemetry.log import get_logger

log = get_logger("store")


def refuse_old_schema(url: str) -> None:
    """Return if processes may be started on this database; on one that is away they may.

    Leaves no connection and no thread behind: it is safe to fork afterwards. Not for a running
    event loop.

    Raises:
        BadStoreUrl: the URL is not a database's.
        SchemaBehind: `sluiceway migrate` has to run first.
    """
    asyncio.run(_look(url))


async def _look(url: str) -> None:
    store = await open_store(url)
    try:
        await store.check_schema()
    except StoreUnavailable as error:
        log.warning("store.away", why=str(error))
    finally:
        await store.close()
