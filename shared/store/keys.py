"""Tenants and their API keys. Only a key's hash is ever stored."""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.records import KeyRow, TenantRow
from shared.store.tables import api_key
from shared.store.tables import tenant as tenants


async def ensure_tenant(tx: Tx, tenant_id: str, webhook_secret: str, at: datetime) -> TenantRow:
    """Return the tenant, made with this secret unless there already is one."""
    new = TenantRow(id=tenant_id, webhook_secret=webhook_secret, created_at=at)
    await tx.connection.execute(
        tx.insert(tenants)
        .values(msgspec.structs.asdict(new))
        .on_conflict_do_nothing(index_elements=["id"])
    )
    return await tenant(tx, tenant_id) or new


async def tenant(tx: Tx, tenant_id: str) -> TenantRow | None:
    """Return the tenant of that id."""
    found = await tx.connection.execute(sa.select(tenants).where(tenants.c.id == tenant_id))
    row = found.one_or_none()
    return None if row is None else TenantRow(**row._asdict())


async def insert_key(tx: Tx, key: KeyRow) -> None:
    """Store a key of an existing tenant.

    Raises:
        sqlalchemy.exc.IntegrityError: its hash or id is taken, or there is no such tenant.
    """
    await tx.connection.execute(sa.insert(api_key).values(msgspec.structs.asdict(key)))


async def key_by_hash(tx: Tx, key_hash: str) -> KeyRow | None:
    """Return the key with that hash, revoked and expired ones too."""
    found = await _keys(tx, api_key.c.key_hash == key_hash)
    return found[0] if found else None


async def list_keys(tx: Tx, tenant_id: str | None) -> list[KeyRow]:
    """Return a tenant's keys, or everyone's for None; oldest first, revoked ones too."""
    if tenant_id is None:
        return await _keys(tx)
    return await _keys(tx, api_key.c.tenant_id == tenant_id)


async def active_keys(tx: Tx) -> list[KeyRow]:
    """Return every key that is not revoked; their expiry is for the caller to check."""
    return await _keys(tx, api_key.c.revoked_at.is_(None))


async def revoke_key(tx: Tx, key_id: str, at: datetime) -> bool:
    """Revoke a key; False when there is none, or it was revoked before (which stands)."""
    revoked = await tx.connection.execute(
        sa.update(api_key)
        .where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
        .values(revoked_at=at)
    )
    return revoked.rowcount > 0


async def _keys(tx: Tx, *conditions: sa.ColumnElement[bool]) -> list[KeyRow]:
    query: sa.Select[Any] = sa.select(api_key).where(*conditions)
    rows = await tx.connection.execute(query.order_by(api_key.c.created_at, api_key.c.id))
    return [KeyRow(**row._asdict()) for row in rows]
