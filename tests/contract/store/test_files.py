"""Files and uploads on both databases: who sees them, and what is left for the caretaker."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from shared.files.keeping import Shelves, prune_files, store_file
from shared.objects.folder import FolderObjects
from shared.store.files import (
    NewFile,
    condemn_file,
    drop_files,
    files_to_drop,
    get_file,
    insert_file,
    list_files,
    publish_file,
)
from shared.store.uploads import (
    NewUpload,
    end_upload,
    finish_part,
    get_upload,
    insert_part,
    insert_upload,
    parts_of,
)
from tests.contract.store.makers import HOUR


def make_file(id_="file_1", *, tenant_id="acme", purpose="batch"):
    return NewFile(id=id_, tenant_id=tenant_id, purpose=purpose, filename=f"{id_}.jsonl")


async def publish(store, new, *, lasts=None):
    """Insert and publish a file of three bytes."""
    async with store.write() as tx:
        row = await insert_file(tx, new)
        expires_at = None if lasts is None else row.created_at + lasts
        row = msgspec.structs.replace(row, bytes=3, expires_at=expires_at)
        assert await publish_file(tx, row)
    return msgspec.structs.replace(row, status="processed")


async def seen(store, file_id="file_1", tenant_id="acme"):
    async with store.read() as tx:
        return await get_file(tx, tenant_id, file_id)


async def test_a_file_is_seen_once_it_is_published(store):
    async with store.write() as tx:
        row = await insert_file(tx, make_file())
    before = await seen(store)
    async with store.write() as tx:
        assert await publish_file(tx, msgspec.structs.replace(row, bytes=3))
        assert not await publish_file(tx, row)

    assert before is None
    assert msgspec.structs.replace(row, bytes=3, status="processed") == await seen(store)
    assert await seen(store, tenant_id="other") is None


async def test_a_file_is_seen_until_it_expires(store, clock):
    given = await publish(store, make_file(), lasts=HOUR)

    clock.forward(3599)
    assert given == await seen(store)
    clock.forward(1)
    assert await seen(store) is None
    async with store.read() as tx:
        assert [given] == await files_to_drop(tx)


async def test_a_condemned_file_is_gone(store):
    given = await publish(store, make_file())

    async with store.write() as tx:
        assert given == await condemn_file(tx, "acme", given.id)
        assert await condemn_file(tx, "acme", given.id) is None
        assert [given.id] == [row.id for row in await files_to_drop(tx)]
        assert not await publish_file(tx, given)
    assert await seen(store) is None


async def test_files_of_one_moment_are_listed_once_each(store):
    """Pages go on after an id, also among files that are equally old."""
    rows = [await publish(store, make_file(f"file_{number}")) for number in range(5)]
    await publish(store, make_file("file_x", tenant_id="other"))

    async def page(order, after):
        async with store.read() as tx:
            return await list_files(tx, "acme", limit=2, after=after, order=order, purpose=None)

    for order, expected in (("asc", rows), ("desc", rows[::-1])):
        found, after = [], None
        while more := await page(order, after):
            found += more
            after = more[-1].id
        assert expected == found
    assert [] == await page("asc", "file_x")


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_deleting_while_paging_leaves_no_file_out(store, clock, order):
    made = [f"file_{number:012x}{0:020x}" for number in range(5)]
    for one in made:
        await publish(store, make_file(one))
        clock.forward(1)
    found, after = [], None
    while True:
        async with store.write() as tx:
            page = await list_files(tx, "acme", limit=2, after=after, order=order, purpose=None)
            await drop_files(tx, [row.id for row in page])
        if not page:
            break
        found += [row.id for row in page]
        after = found[-1]

    assert made == sorted(found)


async def test_an_upload_ends_once(store, clock):
    """Completed, cancelled or over; a part whose upload has gone is not stored."""
    new = NewUpload(
        id="upload_1",
        tenant_id="acme",
        purpose="batch",
        filename="a",
        bytes=3,
        mime_type="text/plain",
    )
    async with store.write() as tx:
        row = await insert_upload(tx, new, lasts_s=3600)
        part = await insert_part(tx, "part_1", row.id)
        assert await finish_part(tx, part.id, 3)
        assert not await finish_part(tx, "part_2", 3)
        assert await end_upload(tx, row.id, "completed", file_id="file_1")
        assert not await end_upload(tx, row.id, "cancelled")
        ended = msgspec.structs.replace(row, status="completed", file_id="file_1")
        assert ended == await get_upload(tx, "acme", row.id)
        assert [msgspec.structs.replace(part, bytes=3)] == await parts_of(tx, row.id)
        clock.forward(3600)
        assert await get_upload(tx, "acme", row.id) is None


@pytest.fixture
async def shelves(store, tmp_path):
    objects = FolderObjects(tmp_path / "objects")
    yield Shelves(store=store, objects=objects)
    await objects.aclose()


def objects_in(root: Path):
    return sorted(path.name for path in (root / "objects").rglob("*") if path.is_file())


async def pieces(*given):
    for piece in given:
        yield piece


async def test_the_caretaker_deletes_what_is_over_and_nothing_else(shelves, clock, tmp_path):
    """Expired files, those whose making broke off a day ago, and uploads a day after their end."""
    store = shelves.store
    for id_, lasts in (("file_ever", None), ("file_old", HOUR), ("file_new", 100 * HOUR)):
        row = await store_file(shelves, make_file(id_), pieces(b"abc"))
        expires_at = None if lasts is None else row.created_at + lasts
        async with store.write() as tx:
            await publish_file(tx, msgspec.structs.replace(row, expires_at=expires_at))
    await store_file(shelves, make_file("file_broken"), pieces(b"abc"))
    new = NewUpload(
        id="upload_1", tenant_id="acme", purpose="batch", filename="a", bytes=3, mime_type="x"
    )
    async with store.write() as tx:
        await insert_upload(tx, new, lasts_s=3600)
        part = await insert_part(tx, "part_1", "upload_1")
    await shelves.objects.put(part.object_key, pieces(b"abc"))

    async def left_after(length):
        clock.forward(length.total_seconds())
        assert not await prune_files(shelves)
        return objects_in(tmp_path)

    everything = ["file_broken", "file_ever", "file_new", "file_old", "part_1"]
    assert everything == await left_after(timedelta(minutes=59))
    assert ["file_broken", "file_ever", "file_new", "part_1"] == await left_after(HOUR)
    assert ["file_ever", "file_new", "part_1"] == await left_after(23 * HOUR)
    async with store.read() as tx:
        assert ["part_1"] == [one.id for one in await parts_of(tx, "upload_1")]
    while await prune_files(shelves):
        pass
    clock.forward(HOUR.total_seconds())
    while await prune_files(shelves):
        pass
    assert ["file_ever", "file_new"] == objects_in(tmp_path)
    async with store.read() as tx:
        assert [] == await parts_of(tx, "upload_1")
        assert [] == await files_to_drop(tx)


async def test_what_breaks_while_it_is_stored_leaves_no_row(shelves):
    """As when its caller goes away."""
    from shared.errors import InvalidRequest

    async def broken():
        yield b"abc"
        raise InvalidRequest("gone")

    with pytest.raises(InvalidRequest):
        await store_file(shelves, make_file(), broken())

    async with shelves.store.write() as tx:
        assert await insert_file(tx, make_file())
