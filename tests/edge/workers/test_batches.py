"""The caretaker of batches, with real tasks on a real database."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from shared.clock import SystemClock
from shared.errors import ObjectsUnavailable
from shared.objects.folder import FolderObjects
from shared.store.batches import get_batch
from tests.contract.batches.rig import Rig, good, names
from tests.edge.workers.makers import Unheard, until
from workers.batches import Batches

pytestmark = pytest.mark.anyio


class Away(FolderObjects):
    """An object store that cannot be read until it is back."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.away = True
        self.asked = asyncio.Event()

    async def get(self, key, *, start=0, end=None):
        self.asked.set()
        if self.away:
            raise ObjectsUnavailable("not now")
        async for piece in super().get(key, start=start, end=end):
            yield piece


class Hanging(Away):
    """An object store that never answers."""

    async def get(self, key, *, start=0, end=None):
        self.asked.set()
        await asyncio.Event().wait()
        yield b""


def make_batches(rig: Rig, owner="w1") -> Batches:
    return Batches(rig.desk, owner=owner, poll_s=0.05)


async def test_batches_are_found_without_any_ring_and_brought_to_their_end(store, tmp_path: Path):
    rig = Rig(store, FolderObjects(tmp_path), SystemClock())
    running = asyncio.create_task(make_batches(rig).run())
    batches = [await rig.submit(good(4)) for _ in range(3)]

    async def over() -> bool:
        await rig.work()
        return all([(await rig.row(batch)).status == "completed" for batch in batches])

    await until(over)
    assert [(names(4), {})] * 3 == [await rig.results(batch) for batch in batches]
    running.cancel()


async def test_a_batch_is_given_back_at_once_when_its_worker_stops(store, tmp_path: Path):
    """Another goes on with it, long before the lease would have run out."""
    objects = Hanging(tmp_path)
    rig = Rig(store, objects, SystemClock())
    stopping = make_batches(rig)
    running = asyncio.create_task(stopping.run())
    batch = await rig.submit(good(2))
    await objects.asked.wait()

    await stopping.drain()
    await running

    async with store.read() as tx:
        row = await get_batch(tx, "acme", batch.id)
    assert row is not None
    assert ("validating", None, 1) == (row.status, row.lease_owner, row.lease_token)
    rig.desk = msgspec.structs.replace(rig.desk, objects=FolderObjects(tmp_path))
    assert 1 == await rig.look()


async def test_a_batch_that_is_being_claimed_while_its_worker_stops_is_given_back(store, tmp_path):
    rig = Rig(store, Hanging(tmp_path), SystemClock())
    batch = await rig.submit(good(2))
    unheard = Unheard(store)
    rig.desk = msgspec.structs.replace(rig.desk, store=unheard)
    stopping = make_batches(rig)
    running = asyncio.create_task(stopping.run())
    await unheard.committed.wait()
    draining = asyncio.create_task(stopping.drain())
    await asyncio.sleep(0.1)
    unheard.heard.set()

    await draining
    running.cancel()  # as the process does then
    await asyncio.wait([running])

    async with store.read() as tx:
        row = await get_batch(tx, "acme", batch.id)
    assert row is not None
    assert ("validating", None, 1) == (row.status, row.lease_owner, row.lease_token)


async def test_an_object_store_that_is_away_costs_a_batch_only_time(store, tmp_path: Path):
    objects = Away(tmp_path)
    rig = Rig(store, objects, SystemClock())
    running = asyncio.create_task(make_batches(rig).run())
    batch = await rig.submit(good(2))
    await objects.asked.wait()

    async def left() -> bool:
        return (await rig.row(batch)).lease_owner is None

    await until(left)
    assert "validating" == (await rig.row(batch)).status
    running.cancel()
