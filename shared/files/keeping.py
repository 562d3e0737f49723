"""A row before its object, an object gone before its row: nothing is left that nobody knows of."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import msgspec

from shared.errors import GatewayError, StoreUnavailable
from shared.objects.port import Objects
from shared.store.engine import Store
from shared.store.files import AT_ONCE as FILES_AT_ONCE
from shared.store.files import FileRow, NewFile, drop_files, files_to_drop, insert_file
from shared.store.uploads import PartRow, drop_parts, drop_upload, parts_of, uploads_to_drop


class Shelves(msgspec.Struct, frozen=True, kw_only=True):
    """The two places of a file."""

    store: Store
    objects: Objects


async def store_file(shelves: Shelves, new: NewFile, pieces: AsyncIterator[bytes]) -> FileRow:
    """Note the file, store its bytes and return it with their number. Nobody sees it yet.

    `publish_file` is next, in a transaction of the caller's; without it the file goes in a day.
    What `pieces` raises is raised, and nothing is left.
    """
    async with shelves.store.write() as tx:
        row = await insert_file(tx, new)
    try:
        size = await shelves.objects.put(row.object_key, pieces)
    except StoreUnavailable:  # whether the object is there is open
        raise
    except GatewayError:
        with suppress(StoreUnavailable):
            await forget_files(shelves, [row])
        raise
    return msgspec.structs.replace(row, bytes=size)


async def forget_files(shelves: Shelves, files: Sequence[FileRow]) -> None:
    """Delete files that nobody sees (any more); what fails half-way is done by `prune_files`."""
    for file in files:
        await shelves.objects.delete(file.object_key)
    if files:
        async with shelves.store.write() as tx:
            await drop_files(tx, [file.id for file in files])


async def forget_parts(shelves: Shelves, parts: Sequence[PartRow]) -> None:
    """Delete parts of an upload that is over."""
    for part in parts:
        await shelves.objects.delete(part.object_key)
    if parts:
        async with shelves.store.write() as tx:
            await drop_parts(tx, [part.id for part in parts])


async def prune_files(shelves: Shelves) -> bool:
    """Delete files and uploads whose time is over; True when there are more. Harmless twice."""
    async with shelves.store.read() as tx:
        files = await files_to_drop(tx)
        uploads = await uploads_to_drop(tx)
    await forget_files(shelves, files)
    for upload_id in uploads:
        await forget_upload(shelves, upload_id)
    return bool(uploads) or len(files) == FILES_AT_ONCE


async def forget_upload(shelves: Shelves, upload_id: str) -> None:
    """Delete an upload that is over, with its parts."""
    async with shelves.store.read() as tx:
        parts = await parts_of(tx, upload_id)
    await forget_parts(shelves, parts)
    async with shelves.store.write() as tx:
        await drop_upload(tx, upload_id)
