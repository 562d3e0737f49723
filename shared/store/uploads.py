"""Files that come in parts: what is announced, and which parts have come."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.side_tables import upload, upload_part

UploadStatus = Literal["pending", "completed", "cancelled"]

KEPT_AFTER = timedelta(days=1)
"""After its end, until which a part that is still arriving finds its upload."""
AT_ONCE = 20
"""Uploads of one pruning: each may have many parts."""


class NewUpload(msgspec.Struct, frozen=True, kw_only=True):
    """A file to come. `bytes` is its announced size."""

    id: str
    tenant_id: str
    purpose: str
    filename: str
    bytes: int
    mime_type: str
    file_expires_after_s: int | None = None


class UploadRow(msgspec.Struct, frozen=True, kw_only=True):
    """An upload; `file_id` is the file once it is complete."""

    id: str
    tenant_id: str
    purpose: str
    filename: str
    bytes: int
    mime_type: str
    status: UploadStatus = "pending"
    file_id: str | None = None
    file_expires_after_s: int | None = None
    created_at: datetime
    expires_at: datetime


class PartRow(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an upload; `bytes` is None while it arrives."""

    id: str
    upload_id: str
    bytes: int | None = None
    object_key: str
    created_at: datetime


async def insert_upload(tx: Tx, new: NewUpload, *, lasts_s: float) -> UploadRow:
    """Note an upload without parts and return it; its time is over in `lasts_s` seconds."""
    now = await tx.now()
    row = UploadRow(
        **msgspec.structs.asdict(new), created_at=now, expires_at=now + timedelta(seconds=lasts_s)
    )
    await tx.connection.execute(sa.insert(upload).values(msgspec.structs.asdict(row)))
    return row


async def get_upload(tx: Tx, tenant_id: str, upload_id: str) -> UploadRow | None:
    """Return the tenant's upload, None when there is none or its time is over."""
    found = await tx.connection.execute(
        sa.select(upload).where(
            upload.c.id == upload_id,
            upload.c.tenant_id == tenant_id,
            upload.c.expires_at > await tx.now(),
        )
    )
    row = found.one_or_none()
    return None if row is None else UploadRow(**row._asdict())


async def end_upload(
    tx: Tx, upload_id: str, status: UploadStatus, *, file_id: str | None = None
) -> bool:
    """Complete or cancel an upload; False when somebody else has ended it."""
    ended = await tx.connection.execute(
        sa.update(upload)
        .where(upload.c.id == upload_id, upload.c.status == "pending")
        .values(status=status, file_id=file_id)
    )
    return ended.rowcount > 0


async def insert_part(tx: Tx, part_id: str, upload_id: str) -> PartRow:
    """Note a part of an upload and return it; its object is yet to be put."""
    row = PartRow(
        id=part_id,
        upload_id=upload_id,
        object_key=f"parts/{part_id}",
        created_at=await tx.now(),
    )
    await tx.connection.execute(sa.insert(upload_part).values(msgspec.structs.asdict(row)))
    return row


async def finish_part(tx: Tx, part_id: str, size: int) -> bool:
    """Note that a part is stored; False when its upload has gone meanwhile."""
    finished = await tx.connection.execute(
        sa.update(upload_part).where(upload_part.c.id == part_id).values(bytes=size)
    )
    return finished.rowcount > 0


async def parts_of(tx: Tx, upload_id: str) -> list[PartRow]:
    """Return an upload's parts, oldest first, those that are still arriving too."""
    rows = await tx.connection.execute(
        sa.select(upload_part)
        .where(upload_part.c.upload_id == upload_id)
        .order_by(upload_part.c.created_at, upload_part.c.id)
    )
    return [_part_of(row) for row in rows]


async def drop_parts(tx: Tx, ids: Sequence[str]) -> None:
    """Forget parts whose objects are deleted."""
    await tx.connection.execute(sa.delete(upload_part).where(upload_part.c.id.in_(ids)))


async def uploads_to_drop(tx: Tx, limit: int = AT_ONCE) -> list[str]:
    """Return the ids of uploads whose time has been over for a day."""
    over = upload.c.expires_at <= await tx.now() - KEPT_AFTER
    rows = await tx.connection.execute(sa.select(upload.c.id).where(over).limit(limit))
    return list(rows.scalars())


async def drop_upload(tx: Tx, upload_id: str) -> None:
    """Forget an upload whose parts' objects are deleted, and its parts."""
    await tx.connection.execute(sa.delete(upload).where(upload.c.id == upload_id))


def _part_of(row: sa.Row[*tuple[Any, ...]]) -> PartRow:
    return PartRow(**row._asdict())
