"""Files of callers and results of batches: what is known of them; their bytes are elsewhere.

A row is there before its object and goes after it, so no object is ever without one: what a
process that died has left behind is found by its row.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.paging import beyond
from shared.store.side_tables import FILE_UNSEEN, file

FileStatus = Literal["storing", "processed", "deleting"]
Order = Literal["asc", "desc"]

STORING_AT_MOST = timedelta(days=1)
"""A file that has been on its way for so long will not come."""
AT_ONCE = 100
"""Files of one pruning: each is an object to delete."""


class NewFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file whose bytes are still to come."""

    id: str
    tenant_id: str
    purpose: str
    filename: str


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """A file. Callers see only `processed` ones, until `expires_at`."""

    id: str
    tenant_id: str
    purpose: str
    filename: str
    bytes: int = 0
    status: FileStatus = "storing"
    object_key: str
    created_at: datetime
    expires_at: datetime | None = None


async def insert_file(tx: Tx, new: NewFile) -> FileRow:
    """Note a file and return it; its object is yet to be put."""
    row = FileRow(
        id=new.id,
        tenant_id=new.tenant_id,
        purpose=new.purpose,
        filename=new.filename,
        object_key=f"files/{new.id}",
        created_at=await tx.now(),
    )
    await tx.connection.execute(sa.insert(file).values(msgspec.structs.asdict(row)))
    return row


async def publish_file(tx: Tx, row: FileRow) -> bool:
    """Show a file whose object is there; False when it is not on its way (any more).

    Its purpose, size and expiry become the row's.
    """
    published = await tx.connection.execute(
        sa.update(file)
        .where(file.c.id == row.id, file.c.status == "storing")
        .values(status="processed", purpose=row.purpose, bytes=row.bytes, expires_at=row.expires_at)
    )
    return published.rowcount > 0


async def get_file(tx: Tx, tenant_id: str, file_id: str) -> FileRow | None:
    """Return the tenant's file; None for nobody's, another's, an expired and a deleted one."""
    found = await tx.connection.execute(
        sa.select(file).where(file.c.id == file_id, *await _visible(tx, tenant_id))
    )
    row = found.one_or_none()
    return None if row is None else _file_of(row)


async def list_files(
    tx: Tx, tenant_id: str, *, limit: int, after: str | None, order: Order, purpose: str | None
) -> list[FileRow]:
    """Return up to `limit` of the tenant's files by their age, `desc`: newest first.

    `after` is the id of the file before the page, which may be deleted by now.
    """
    query = sa.select(file).where(*await _visible(tx, tenant_id))
    if purpose is not None:
        query = query.where(file.c.purpose == purpose)
    if after is not None:
        newest_first = order == "desc"
        query = query.where(
            await beyond(tx, file, after, tenant_id=tenant_id, newest_first=newest_first)
        )
    columns = (file.c.created_at, file.c.id)
    query = query.order_by(*(one.desc() if order == "desc" else one for one in columns))
    return [_file_of(row) for row in await tx.connection.execute(query.limit(limit))]


async def condemn_file(tx: Tx, tenant_id: str, file_id: str) -> FileRow | None:
    """Hide a file for ever and return it: its object is to be deleted, then its row dropped."""
    found = await get_file(tx, tenant_id, file_id)
    if found is not None:
        await tx.connection.execute(
            sa.update(file).where(file.c.id == file_id).values(status="deleting")
        )
    return found


async def files_to_drop(tx: Tx, limit: int = AT_ONCE) -> list[FileRow]:
    """Return files that are expired, condemned, or on their way for longer than a day."""
    now = await tx.now()
    left = sa.or_(file.c.status == "deleting", file.c.created_at <= now - STORING_AT_MOST)
    found: list[FileRow] = []
    for over in (sa.and_(FILE_UNSEEN, left), file.c.expires_at <= now):  # an index each
        rows = await tx.connection.execute(sa.select(file).where(over).limit(limit - len(found)))
        found += [_file_of(row) for row in rows]
    return found


async def drop_files(tx: Tx, ids: Sequence[str]) -> None:
    """Forget files whose objects are deleted."""
    await tx.connection.execute(sa.delete(file).where(file.c.id.in_(ids)))


async def _visible(tx: Tx, tenant_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    unexpired = sa.or_(file.c.expires_at.is_(None), file.c.expires_at > await tx.now())
    return (file.c.tenant_id == tenant_id, file.c.status == "processed", unexpired)


def _file_of(row: sa.Row[*tuple[Any, ...]]) -> FileRow:
    return FileRow(**row._asdict())
