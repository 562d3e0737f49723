import asyncio

import pytest

from shared.store.engine import open_store
from tests.contract.store.makers import StoppedClock


@pytest.fixture
def clock():
    """The clock of `store`."""
    return StoppedClock()


@pytest.fixture
async def store(store_url, clock):
    """A store whose time is the test's own, on each kind of database."""
    opened = await open_store(store_url, clock=clock)
    yield opened
    await asyncio.shield(opened.close())
