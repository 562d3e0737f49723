import asyncio
from pathlib import Path

import pytest

from shared.objects.folder import FolderObjects
from shared.store.engine import open_store
from tests.contract.batches.rig import Rig
from tests.contract.store.makers import StoppedClock


@pytest.fixture
def objects(tmp_path: Path):
    return FolderObjects(tmp_path / "objects")


@pytest.fixture
async def rig(store_url, objects):
    """Batches on a real database and a real folder, in a time of the test's own."""
    clock = StoppedClock()
    store = await open_store(store_url, clock=clock)
    yield Rig(store, objects, clock)
    await asyncio.shield(store.close())
