"""A request that needs the database ends soon, also when the database does not answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.clock import Clock
from shared.errors import StoreUnavailable

STORE_S = 5.0
"""How long the database may take over what one request needs of it."""


@asynccontextmanager
async def in_time(clock: Clock, length_s: float = STORE_S) -> AsyncIterator[None]:
    """Give up on what runs inside after `length_s` seconds.

    Raises:
        StoreUnavailable: it took too long. Something that was being written may be there or not.
    """
    try:
        async with clock.timeout(length_s):
            yield
    except TimeoutError as error:
        raise StoreUnavailable(f"The database did not answer within {length_s:g} s.") from error
