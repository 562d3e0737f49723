"""Files that come in parts, put together."""

import hashlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from shared.errors import Conflict, InvalidRequest
from shared.files.keeping import Shelves, forget_files, store_file
from shared.files.terms import expiry
from shared.ids import IdMaker
from shared.objects.port import ObjectMissing
from shared.store.engine import Tx
from shared.store.files import FileRow, NewFile, publish_file
from shared.store.uploads import PartRow, UploadRow, end_upload


class Ended(Conflict):
    """Somebody else has completed or cancelled the upload."""


async def assemble(
    shelves: Shelves, ids: IdMaker, upload: UploadRow, parts: Sequence[PartRow], md5: str | None
) -> FileRow:
    """Make a file of the parts, in this order, and complete the upload with it.

    Raises:
        InvalidRequest: the parts are not as large as announced, or `md5` (hex) is another.
        Ended: the upload has ended meanwhile. Then, as before, there is no such file.
    """
    if sum(part.bytes or 0 for part in parts) != upload.bytes:
        raise InvalidRequest(
            f"The parts do not add up to the {upload.bytes} bytes of the upload.", param="part_ids"
        )
    digest = hashlib.md5(usedforsecurity=False)
    new = NewFile(
        id=ids("file"),
        tenant_id=upload.tenant_id,
        purpose=upload.purpose,
        filename=upload.filename,
    )
    stored = await store_file(shelves, new, _joined(shelves, parts, digest))
    try:
        if md5 is not None and md5.lower() != digest.hexdigest():
            raise InvalidRequest(f"The MD5 of the parts is {digest.hexdigest()}.", param="md5")
        final = _final(upload, stored)
        async with shelves.store.write() as tx:
            await _complete(tx, upload, final)
    except (InvalidRequest, Conflict):
        await forget_files(shelves, [stored])
        raise
    return final


def _final(upload: UploadRow, stored: FileRow) -> FileRow:
    expires_at = expiry(upload.purpose, stored.created_at, upload.file_expires_after_s)
    return msgspec.structs.replace(stored, status="processed", expires_at=expires_at)


async def _complete(tx: Tx, upload: UploadRow, final: FileRow) -> None:
    if not await end_upload(tx, upload.id, "completed", file_id=final.id):
        raise Ended(f"Upload '{upload.id}' has ended.")
    await publish_file(tx, final)


async def _joined(
    shelves: Shelves, parts: Sequence[PartRow], digest: "hashlib._Hash"
) -> AsyncIterator[bytes]:
    for part in parts:
        try:
            async for piece in shelves.objects.get(part.object_key):
                digest.update(piece)
                yield piece
        except ObjectMissing as error:  # completed or cancelled by somebody else
            raise Ended(f"Upload '{part.upload_id}' has ended.") from error
