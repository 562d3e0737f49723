"""What every object store keeps, on a folder and on S3."""

import asyncio
import os
import threading
import tracemalloc

import pytest

from shared.errors import ObjectsUnavailable
from shared.objects.folder import FolderObjects
from shared.objects.port import ObjectMissing
from shared.objects.s3 import PART_BYTES, S3Objects
from shared.objects.threads import PIECE_BYTES, Threads
from shared.objects.wiring import bucket_of
from tests.contract.objects.conftest import BUCKET, PREFIX

MIB = 1024 * 1024
KEY = "files/file_1"


async def pieces(*given):
    for piece in given:
        yield piece


async def many(count, size=MIB):
    for number in range(count):
        yield bytes([number % 256]) * size


async def whole(objects, key=KEY, **bounds):
    return b"".join([piece async for piece in objects.get(key, **bounds)])


async def test_what_went_in_comes_out(objects):
    """The bytes are the caller's, however they were cut; the size is theirs, too."""
    assert 11 == await objects.put(KEY, pieces(b"hello", b"", b" ", b"world"))

    assert b"hello world" == await whole(objects)


async def test_an_object_may_be_empty(objects):
    assert 0 == await objects.put(KEY, pieces())

    assert b"" == await whole(objects)
    assert b"" == await whole(objects, start=3)


async def test_a_large_object_comes_in_small_pieces(objects):
    """What is larger than a part of an upload is whole, and read in bounded pieces."""
    size = 2 * PART_BYTES + 12_345
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    cut = [content[at : at + 700_001] for at in range(0, size, 700_001)]

    assert size == await objects.put(KEY, pieces(*cut))

    read = [piece async for piece in objects.get(KEY)]
    assert max(map(len, read)) <= PIECE_BYTES
    assert content == b"".join(read)


async def test_a_part_that_fits_exactly_is_followed_by_none(objects):
    assert PART_BYTES == await objects.put(KEY, many(PART_BYTES // MIB))

    assert b"\x07" == await whole(objects, start=PART_BYTES - 1)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 4, b"0123"),
        (4, None, b"456789"),
        (4, 6, b"45"),
        (8, 99, b"89"),
        (10, None, b""),
        (99, None, b""),
        (5, 5, b""),
        (0, 0, b""),
    ],
)
async def test_a_part_can_be_read(objects, start, end, expected):
    """The end is not included; what lies beyond the end is not there."""
    await objects.put(KEY, pieces(b"0123456789"))

    assert expected == await whole(objects, start=start, end=end)


@pytest.mark.parametrize("bounds", [{}, {"start": 5}, {"start": 1, "end": 2}, {"end": 0}])
async def test_an_object_that_is_not_there_is_missing(objects, bounds):
    with pytest.raises(ObjectMissing):
        await whole(objects, "files/nothing", **bounds)


async def test_a_second_object_replaces_the_first(objects):
    await objects.put(KEY, pieces(b"old and longer"))
    await objects.put(KEY, pieces(b"new"))

    assert b"new" == await whole(objects)


async def test_keys_are_told_apart(objects):
    await objects.put("a/b/one.txt", pieces(b"1"))
    await objects.put("a/b/two.txt", pieces(b"2"))

    assert (b"1", b"2") == (
        await whole(objects, "a/b/one.txt"),
        await whole(objects, "a/b/two.txt"),
    )


async def test_deleting_twice_is_deleting_once(objects):
    await objects.put(KEY, pieces(b"x"))

    await objects.delete(KEY)
    await objects.delete(KEY)

    with pytest.raises(ObjectMissing):
        await whole(objects)


@pytest.mark.parametrize("count", [1, 20], ids=["small", "in parts"])
async def test_what_breaks_in_the_middle_leaves_nothing(objects, count):
    """A caller who goes away half-way has stored nothing, and replaced nothing."""
    await objects.put("kept", pieces(b"as it was"))

    async def broken():
        async for piece in many(count):
            yield piece
        raise ConnectionError("gone")

    for key in (KEY, "kept"):
        with pytest.raises(ConnectionError):
            await objects.put(key, broken())

    assert b"as it was" == await whole(objects, "kept")
    with pytest.raises(ObjectMissing):
        await whole(objects)


async def test_a_cancelled_put_leaves_nothing(objects):
    begun = asyncio.Event()

    async def endless():
        async for piece in many(10):
            yield piece
        begun.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(objects.put(KEY, endless()))
    await begun.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting

    with pytest.raises(ObjectMissing):
        await whole(objects)


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", ".drafts/x", "a b", "ä", "x" * 513]
)
async def test_no_key_leads_elsewhere(objects, key):
    """Keys are ours; one with a dot at a segment's beginning, or anything odd, is a bug."""
    with pytest.raises(ValueError, match="not a key"):
        await objects.put(key, pieces(b"x"))
    with pytest.raises(ValueError, match="not a key"):
        await whole(objects, key)
    with pytest.raises(ValueError, match="not a key"):
        await objects.delete(key)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_disk_that_hangs_is_given_up(cancelled):
    """A network folder may never answer; who asks is told, or let go, all the same."""
    answer = threading.Event()
    threads = Threads(1, longest_s=0.05)
    asking = asyncio.create_task(threads.run(answer.wait))
    await asyncio.sleep(0)
    if cancelled:
        asking.cancel()

    with pytest.raises(asyncio.CancelledError if cancelled else ObjectsUnavailable):
        await asking
    answer.set()
    threads.close()


# The folder's own


async def test_the_size_of_an_object_takes_no_memory(folder_objects):
    """Putting and getting 32 MiB holds a few pieces."""
    tracemalloc.start()
    try:
        await folder_objects.put(KEY, many(32))
        async for _ in folder_objects.get(KEY):
            pass
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 8 * MIB


async def test_nothing_unfinished_stays_in_the_folder(tmp_path):
    """Drafts that a dead process left are cleared away once they are a day old."""
    objects = FolderObjects(tmp_path)
    drafts = tmp_path / ".drafts"
    drafts.mkdir()
    (drafts / "left").write_bytes(b"x")
    os.utime(drafts / "left", (0, 0))
    (drafts / "growing").write_bytes(b"x")

    await objects.put(KEY, pieces(b"x"))
    await objects.aclose()

    assert ["growing"] == [path.name for path in drafts.iterdir()]


async def test_a_folder_that_cannot_be_used_is_told_apart(tmp_path):
    """A file where the folder should be: nothing is stored, and it is no bug."""
    (tmp_path / "objects").write_bytes(b"")
    objects = FolderObjects(tmp_path / "objects")

    for doing in (objects.put(KEY, pieces(b"x")), whole(objects), objects.delete(KEY)):
        with pytest.raises(ObjectsUnavailable):
            await doing
    await objects.aclose()


# The bucket's own


async def test_an_upload_that_breaks_is_aborted(s3_objects, s3):
    """Parts of it would be billed for ever."""

    async def broken():
        async for piece in many(20):
            yield piece
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await s3_objects.put(KEY, broken())

    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


async def test_objects_lie_below_the_prefix(s3_objects, s3):
    await s3_objects.put(KEY, pieces(b"x"))

    listed = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert [f"{PREFIX}/{KEY}"] == [found["Key"] for found in listed]


@pytest.mark.parametrize("url", ["s3://nobodys-bucket?endpoint={aws}", "s3://b?endpoint={closed}"])
async def test_a_bucket_that_cannot_be_used_is_told_apart(aws_url, url, unused_port):
    """A bucket that does not exist is no missing object, nor is a server that does not answer."""
    closed = f"http://127.0.0.1:{unused_port}"
    objects = S3Objects(bucket_of(url.format(aws=aws_url, closed=closed)))

    for doing in (objects.put(KEY, pieces(b"x")), whole(objects)):
        with pytest.raises(ObjectsUnavailable):
            await doing
    await objects.aclose()
