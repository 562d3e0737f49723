"""`/v1/files…`: what callers store, and what batches make."""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from api.answers import page_of
from api.asgi import AnyRequest
from api.auth import header_map
from api.download import Download
from api.edge import Edge
from api.in_time import in_time
from api.long_body import bounded, long_body, too_large
from api.multipart import OVERHEAD_BYTES, Form, FormFile
from shared.errors import Conflict, GatewayError, InvalidRequest, NotFound, StoreUnavailable
from shared.files.keeping import Shelves, forget_files, store_file
from shared.files.terms import (
    MIB,
    checked_expiry,
    checked_filename,
    checked_purpose,
    expiry,
    most_bytes,
)
from shared.identity import Principal
from shared.objects.port import ObjectMissing
from shared.store.batches import is_read
from shared.store.files import FileRow, NewFile, condemn_file, get_file, list_files, publish_file
from shared.telemetry.log import get_logger

log = get_logger("api")

MAX_LIMIT = 10_000


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """A file as callers see it: OpenAI's object."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str
    status_details: str | None = None


def shown(row: FileRow) -> FileObject:
    """Return the file in OpenAI's words."""
    return FileObject(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at.timestamp()),
        expires_at=None if row.expires_at is None else int(row.expires_at.timestamp()),
        filename=row.filename,
        purpose=row.purpose,
        status=row.status,
    )


def shelves_of(edge: Edge) -> Shelves:
    """Return where this process keeps files."""
    return Shelves(store=edge.runtime.store, objects=edge.runtime.objects)


def form_of(edge: Edge, request: AnyRequest, most_mb: int, *, file: str) -> Form:
    """Return the body as a form with a file of at most so many MiB.

    Raises:
        InvalidRequest: it is none.
        RequestTooLarge: it says itself that it is larger.
    """
    headers = header_map(request.scope["headers"])
    limit_bytes = most_mb * MIB + OVERHEAD_BYTES
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise too_large(most_mb * MIB)
    body = long_body(request.scope, request.receive, limit_bytes, edge.clock)
    return Form(body, headers.get(b"content-type", b""), file=file)


@post("/v1/files", operation_id="create_file", summary="Store a file", status_code=200)
async def create_file(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], request: AnyRequest
) -> FileObject:
    """Store a file that comes as a form, whatever its size, in little memory.

    Raises:
        InvalidRequest: the form, the purpose, the name or the expiry is wrong, or it is empty.
        RequestTooLarge: more than `files.max_upload_mb`, or 200 MB for a batch.
    """
    most_mb = edge.runtime.config.files.max_upload_mb
    form = form_of(edge, request, most_mb, file="file")
    file = await form.next_file()
    if file is None:
        raise InvalidRequest("The form has no `file`.", param="file")
    stored = await _stored(edge, principal, form, file, most_mb)
    try:
        final = await _final(form, stored, most_mb)
        async with in_time(edge.clock), edge.runtime.store.write() as tx:
            await publish_file(tx, final)
    except GatewayError:
        await forgotten(shelves_of(edge), stored)
        raise
    return shown(msgspec.structs.replace(final, status="processed"))


async def _stored(
    edge: Edge, principal: Principal, form: Form, file: FormFile, most_mb: int
) -> FileRow:
    """Store the bytes; nobody sees them yet. Fields may stand before the file or after it."""
    purpose = form.fields.get("purpose")
    if purpose is not None:
        checked_purpose(purpose)
    new = NewFile(
        id=edge.ids("file"),
        tenant_id=principal.tenant_id,
        purpose=purpose or "",
        filename=checked_filename(file.filename, "file"),
    )
    return await store_file(
        shelves_of(edge), new, bounded(file.pieces, most_bytes(purpose, most_mb))
    )


async def _final(form: Form, stored: FileRow, most_mb: int) -> FileRow:
    """Return the file as it is to be, once the form has been read to its end."""
    if await form.next_file() is not None:
        raise InvalidRequest("`file` stands in the form twice.", param="file")
    purpose = checked_purpose(form.fields.get("purpose"))
    if stored.bytes == 0:
        raise InvalidRequest("The file is empty.", param="file")
    if stored.bytes > most_bytes(purpose, most_mb):
        raise too_large(most_bytes(purpose, most_mb))
    after_s = checked_expiry(*_expires_after(form.fields))
    return msgspec.structs.replace(
        stored, purpose=purpose, expires_at=expiry(purpose, stored.created_at, after_s)
    )


def _expires_after(fields: Mapping[str, str]) -> tuple[str | None, str | None]:
    return fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")


async def forgotten(shelves: Shelves, stored: FileRow) -> None:
    """Delete a file at once if that can be; a caretaker does what is left."""
    try:
        await forget_files(shelves, [stored])
    except StoreUnavailable as error:
        log.info("file.left", file_id=stored.id, why=error.message)


@get("/v1/files", operation_id="list_files", summary="List your files")
async def list_own_files(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = MAX_LIMIT,
    after: FromQuery[str | None] = None,
    order: FromQuery[Literal["asc", "desc"]] = "desc",
    purpose: FromQuery[str | None] = None,
) -> dict[str, Any]:
    """Return a page of files, newest first; `after` is the last id of the page before."""
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        rows = await list_files(
            tx,
            principal.tenant_id,
            limit=limit + 1,
            after=after,
            order=order,
            purpose=purpose,
        )
    page = rows[:limit]
    return page_of([shown(row) for row in page], more=len(rows) > limit)


@get("/v1/files/{file_id:str}", operation_id="get_file", summary="Read about a file")
async def get_own_file(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], file_id: FromPath[str]
) -> FileObject:
    """Return what is known of a file."""
    return shown(await _own(edge, principal, file_id))


@get(
    "/v1/files/{file_id:str}/content",
    operation_id="get_file_content",
    summary="Read a file",
)
async def get_content(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], file_id: FromPath[str]
) -> Download:
    """Return the bytes of a file as they came."""
    row = await _own(edge, principal, file_id)
    pieces = edge.runtime.objects.get(row.object_key)
    try:
        first = await anext(aiter(pieces), b"")
    except ObjectMissing as error:  # deleted a moment ago
        raise _not_found(file_id) from error
    name = quote(row.filename, safe="")
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-disposition", f"attachment; filename*=UTF-8''{name}".encode()),
    ]
    return Download(_after(first, pieces), size=row.bytes, headers=headers, clock=edge.clock)


async def _after(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


@delete(
    "/v1/files/{file_id:str}",
    operation_id="delete_file",
    summary="Delete a file",
    status_code=200,
)
async def delete_own_file(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], file_id: FromPath[str]
) -> dict[str, Any]:
    """Delete a file; it is gone at once, also where its bytes can only be deleted later.

    Raises:
        NotFound: there is no such file.
        Conflict: a batch that is not over reads it.
    """
    async with in_time(edge.clock), edge.runtime.store.write() as tx:
        row = await condemn_file(tx, principal.tenant_id, file_id)
        if row is not None and await is_read(tx, file_id):
            raise Conflict("A batch that is not over reads this file; cancel it first.")
    if row is None:
        raise _not_found(file_id)
    await forgotten(shelves_of(edge), row)
    return {"id": file_id, "object": "file", "deleted": True}


async def _own(edge: Edge, principal: Principal, file_id: str) -> FileRow:
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        row = await get_file(tx, principal.tenant_id, file_id)
    if row is None:
        raise _not_found(file_id)
    return row


def _not_found(file_id: str) -> NotFound:
    return NotFound(f"There is no file '{file_id[:80]}'.", param="file_id")


HANDLERS = (create_file, list_own_files, get_own_file, get_content, delete_own_file)
