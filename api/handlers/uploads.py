"""`/v1/uploads…`: a file in parts, each of which may be sent again."""

from typing import Any, Literal, TypeVar

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.params import FromPath

from api.asgi import AnyRequest, check_json, read_body
from api.auth import header_map
from api.edge import Edge
from api.handlers.files import FileObject, form_of, shelves_of, shown
from api.in_time import in_time
from api.long_body import bounded, too_large
from shared.errors import Conflict, InvalidRequest, NotFound, StoreUnavailable
from shared.files.keeping import forget_parts
from shared.files.terms import MIB, checked_expiry, checked_filename, checked_purpose, most_bytes
from shared.files.uploads import Ended, assemble
from shared.gateway.parse import named
from shared.identity import Principal
from shared.store.engine import Tx
from shared.store.files import get_file
from shared.store.uploads import (
    NewUpload,
    PartRow,
    UploadRow,
    end_upload,
    finish_part,
    get_upload,
    insert_part,
    insert_upload,
    parts_of,
)
from shared.telemetry.log import get_logger

T = TypeVar("T")

log = get_logger("api")

PART_MB = 64
"""The most of one part; OpenAI's own limit, and the size of the parts its SDKs send."""
MAX_PARTS = 1_000
KEPT_S = 3_600
"""How long an upload may take; OpenAI's own limit."""


class ExpiresAfter(msgspec.Struct, frozen=True, kw_only=True):
    """When the file is deleted."""

    anchor: Any
    seconds: Any


class NewUploadBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/uploads`."""

    bytes: int
    filename: str
    mime_type: str
    purpose: str
    expires_after: ExpiresAfter | None = None


class CompleteBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/uploads/{id}/complete`: the parts in the file's order."""

    part_ids: list[str]
    md5: str | None = None


class UploadObject(msgspec.Struct, frozen=True, kw_only=True):
    """An upload as callers see it: OpenAI's object."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str
    file: FileObject | None = None


class PartObject(msgspec.Struct, frozen=True, kw_only=True):
    """A part as callers see it: OpenAI's object."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


@post("/v1/uploads", operation_id="create_upload", summary="Begin a file in parts", status_code=200)
async def create_upload(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], request: AnyRequest
) -> UploadObject:
    """Announce a file that will come in parts, within an hour.

    Raises:
        InvalidRequest: a field is wrong; `param` names it.
        RequestTooLarge: the file would be.
    """
    asked = await _decoded(edge, request, NewUploadBody)
    purpose = checked_purpose(asked.purpose)
    filename = checked_filename(asked.filename, "filename")
    after = asked.expires_after
    # Two nulls in it are wrong, where two fields that a form lacks say nothing.
    expires_after_s = None if after is None else checked_expiry(after.anchor or "", after.seconds)
    if asked.bytes < 1:
        raise InvalidRequest("`bytes` must be at least 1.", param="bytes")
    most = most_bytes(purpose, edge.runtime.config.files.max_upload_mb)
    if asked.bytes > most:
        raise too_large(most)
    async with in_time(edge.clock), edge.runtime.store.write() as tx:
        row = await insert_upload(
            tx,
            NewUpload(
                id=edge.ids("upload"),
                tenant_id=principal.tenant_id,
                purpose=purpose,
                filename=filename,
                bytes=asked.bytes,
                mime_type=asked.mime_type,
                file_expires_after_s=expires_after_s,
            ),
            lasts_s=KEPT_S,
        )
    return _shown(row)


@post(
    "/v1/uploads/{upload_id:str}/parts",
    operation_id="create_upload_part",
    summary="Send a part",
    status_code=200,
)
async def create_part(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    request: AnyRequest,
    upload_id: FromPath[str],
) -> PartObject:
    """Store a part: the file `data` of a form, of at most 64 MB.

    Raises:
        InvalidRequest: the form is wrong, the part is empty or there are too many.
        Conflict: the upload has ended.
        RequestTooLarge: the part, or all of them together.
    """
    form = form_of(edge, request, PART_MB, file="data")
    upload, parts = await _open(edge, principal, upload_id)
    if len(parts) >= MAX_PARTS:
        raise InvalidRequest(f"An upload has at most {MAX_PARTS} parts.")
    left = upload.bytes - sum(part.bytes or 0 for part in parts)
    file = await form.next_file()
    if file is None:
        raise InvalidRequest("The form has no `data`.", param="data")
    async with in_time(edge.clock), edge.runtime.store.write() as tx:
        part = await insert_part(tx, edge.ids("part"), upload_id)
    pieces = bounded(file.pieces, min(left, PART_MB * MIB))
    size = await edge.runtime.objects.put(part.object_key, pieces)
    await form.next_file()  # to the end: a form that breaks off is not a whole one
    if size == 0:
        raise InvalidRequest("The part is empty.", param="data")
    async with in_time(edge.clock), edge.runtime.store.write() as tx:
        if not await finish_part(tx, part.id, size):
            raise _not_found(upload_id)
    return PartObject(id=part.id, created_at=int(part.created_at.timestamp()), upload_id=upload_id)


@post(
    "/v1/uploads/{upload_id:str}/complete",
    operation_id="complete_upload",
    summary="Make a file of the parts",
    status_code=200,
)
async def complete_upload(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    request: AnyRequest,
    upload_id: FromPath[str],
) -> UploadObject:
    """Put the parts together; asking again returns the same file.

    Raises:
        InvalidRequest: a part is unknown, their sizes do not add up, or the MD5 is another.
        Conflict: the upload was cancelled.
    """
    asked = await _decoded(edge, request, CompleteBody)
    row = await _own(edge, principal, upload_id)
    if row.status == "completed":
        return await _with_file(edge, row)
    _, parts = await _open(edge, principal, upload_id)
    shelves = shelves_of(edge)
    try:
        file = await assemble(shelves, edge.ids, row, _chosen(parts, asked.part_ids), asked.md5)
    except Ended:
        row = await _own(edge, principal, upload_id)
        if row.status != "completed":
            raise
        return await _with_file(edge, row)
    await _forgotten(edge, parts)
    done = msgspec.structs.replace(row, status="completed", file_id=file.id)
    return _shown(done, shown(file))


@post(
    "/v1/uploads/{upload_id:str}/cancel",
    operation_id="cancel_upload",
    summary="Give an upload up",
    status_code=200,
)
async def cancel_upload(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], upload_id: FromPath[str]
) -> UploadObject:
    """Cancel an upload and delete its parts; asking twice changes nothing.

    Raises:
        Conflict: it is completed.
    """
    async with in_time(edge.clock), edge.runtime.store.write() as tx:
        await _found(tx, principal, upload_id)
        await end_upload(tx, upload_id, "cancelled")
        row = await _found(tx, principal, upload_id)
        parts = await parts_of(tx, upload_id)
    if row.status != "cancelled":
        raise Conflict(f"Upload '{upload_id}' is {row.status}.")
    await _forgotten(edge, parts)
    return _shown(row)


def _chosen(parts: list[PartRow], ids: list[str]) -> list[PartRow]:
    """Return the parts of these ids, in this order."""
    known = {part.id: part for part in parts if part.bytes is not None}
    unknown = next((one for one in ids if one not in known), None)
    if unknown is not None or len(set(ids)) != len(ids):
        which = "a part twice" if unknown is None else f"'{unknown[:80]}', which is no part of it"
        raise InvalidRequest(f"`part_ids` has {which}.", param="part_ids")
    return [known[one] for one in ids]


async def _open(
    edge: Edge, principal: Principal, upload_id: str
) -> tuple[UploadRow, list[PartRow]]:
    """Return an upload that has not ended, and its parts.

    Raises:
        Conflict: it has.
    """
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        row = await _found(tx, principal, upload_id)
        parts = await parts_of(tx, upload_id)
    if row.status != "pending":
        raise Conflict(f"Upload '{upload_id}' is {row.status}.")
    return row, parts


async def _own(edge: Edge, principal: Principal, upload_id: str) -> UploadRow:
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        return await _found(tx, principal, upload_id)


async def _found(tx: Tx, principal: Principal, upload_id: str) -> UploadRow:
    row = await get_upload(tx, principal.tenant_id, upload_id)
    if row is None:
        raise _not_found(upload_id)
    return row


async def _with_file(edge: Edge, row: UploadRow) -> UploadObject:
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        file = await get_file(tx, row.tenant_id, row.file_id or "")
    return _shown(row, None if file is None else shown(file))


async def _forgotten(edge: Edge, parts: list[PartRow]) -> None:
    """Delete parts at once if that can be; a caretaker does what is left, or still arrives."""
    try:
        await forget_parts(shelves_of(edge), [part for part in parts if part.bytes is not None])
    except StoreUnavailable as error:
        log.info("upload.parts_left", count=len(parts), why=error.message)


async def _decoded(edge: Edge, request: AnyRequest, kind: type[T]) -> T:
    headers = header_map(request.scope["headers"])
    check_json(headers)
    raw = await read_body(request.receive, headers, edge.max_body_bytes, edge.clock)
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise named(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}") from error


def _shown(row: UploadRow, file: FileObject | None = None) -> UploadObject:
    return UploadObject(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.expires_at.timestamp()),
        filename=row.filename,
        purpose=row.purpose,
        status=row.status,
        file=file,
    )


def _not_found(upload_id: str) -> NotFound:
    return NotFound(f"There is no upload '{upload_id[:80]}'.", param="upload_id")


HANDLERS = (create_upload, create_part, complete_upload, cancel_upload)
