"""Endpoints: where a tenant wants to be told, of what, and how that has gone of late."""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.store.columns import Moment
from shared.store.engine import Tx
from shared.store.side_tables import webhook_endpoint
from shared.store.tables import PENDING, delivery


class EndpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint; `secret` and `old_secret` are sealed.

    `failures` are the events whose first attempt failed since `failing_since`, which is None while
    its last attempt went well.
    """

    id: str
    tenant_id: str
    name: str
    url: str
    event_types: tuple[str, ...]
    secret: str
    old_secret: str | None = None
    old_secret_until: datetime | None = None
    concurrency: int
    failing_since: datetime | None = None
    failures: int = 0
    disabled_at: datetime | None = None
    disabled_why: str | None = None
    created_at: datetime
    updated_at: datetime | None = None


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that is subscribed to an event; while disabled it is told later, on request."""

    endpoint_id: str
    url: str
    disabled: bool


async def insert_endpoint(tx: Tx, endpoint: EndpointRow) -> None:
    """Store a new endpoint."""
    await tx.connection.execute(
        sa.insert(webhook_endpoint).values(msgspec.structs.asdict(endpoint))
    )


async def get_endpoint(
    tx: Tx, endpoint_id: str, tenant_id: str | None = None
) -> EndpointRow | None:
    """Return the endpoint; None for nobody's, and for somebody else's if a tenant is given."""
    rows = await _rows(tx, _is(endpoint_id, tenant_id))
    return rows[0] if rows else None


async def list_endpoints(
    tx: Tx, tenant_id: str, *, limit: int, after: str | None = None
) -> list[EndpointRow]:
    """Return up to `limit` endpoints of a tenant, newest first, from behind the id `after`."""
    conditions = [webhook_endpoint.c.tenant_id == tenant_id]
    if after is not None:
        conditions.append(webhook_endpoint.c.id < after)
    return await _rows(tx, *conditions, limit=limit)


async def count_endpoints(tx: Tx, tenant_id: str) -> int:
    """Return how many endpoints a tenant has, disabled ones too."""
    counted = await tx.connection.execute(
        sa.select(sa.func.count())
        .select_from(webhook_endpoint)
        .where(webhook_endpoint.c.tenant_id == tenant_id)
    )
    return counted.scalar_one()


async def listeners(tx: Tx, tenant_id: str, event_type: str) -> list[Listener]:
    """Return the tenant's endpoints that are subscribed to a type of event, oldest first."""
    columns = webhook_endpoint.c
    rows = await tx.connection.execute(
        sa.select(columns.id, columns.url, columns.event_types, columns.disabled_at)
        .where(columns.tenant_id == tenant_id)
        .order_by(columns.id)
    )
    return [
        Listener(endpoint_id=row.id, url=row.url, disabled=row.disabled_at is not None)
        for row in rows
        if event_type in row.event_types
    ]


async def subscribed_tenants(tx: Tx, event_type: str) -> set[str]:
    """Return the tenants with an endpoint that is subscribed to a type of event."""
    columns = webhook_endpoint.c
    rows = await tx.connection.execute(sa.select(columns.tenant_id, columns.event_types))
    return {row.tenant_id for row in rows if event_type in row.event_types}


async def update_endpoint(tx: Tx, endpoint: EndpointRow) -> None:
    """Write what its owner may change: all but how deliveries to it have gone."""
    fields = ("name", "url", "event_types", "secret", "old_secret", "old_secret_until")
    values = {name: getattr(endpoint, name) for name in (*fields, "concurrency", "updated_at")}
    await tx.connection.execute(
        sa.update(webhook_endpoint).where(webhook_endpoint.c.id == endpoint.id).values(values)
    )


async def enable_endpoint(tx: Tx, endpoint_id: str) -> None:
    """Let it be told again, with a clean record."""
    await tx.connection.execute(
        sa.update(webhook_endpoint)
        .where(webhook_endpoint.c.id == endpoint_id)
        .values(disabled_at=None, disabled_why=None, failing_since=None, failures=0)
    )


async def disable_endpoint(tx: Tx, endpoint_id: str, *, why: str, at: datetime) -> bool:
    """Tell it nothing more and give up what waits for it; False when it is disabled already.

    What was given up is in its log as failed, and can be delivered again.
    """
    disabled = await tx.connection.execute(
        sa.update(webhook_endpoint)
        .where(webhook_endpoint.c.id == endpoint_id, webhook_endpoint.c.disabled_at.is_(None))
        .values(disabled_at=at, disabled_why=why)
    )
    if not disabled.rowcount:
        return False
    await _hold(tx, delivery.c.endpoint_id == endpoint_id)
    return True


async def hold_delivery(tx: Tx, delivery_id: str) -> None:
    """Give up a delivery that would be tried again, for its endpoint is disabled."""
    await _hold(tx, delivery.c.id == delivery_id)


HELD = "the endpoint is disabled"
"""The `last_error` of deliveries that were not tried."""


async def delete_endpoint(tx: Tx, endpoint_id: str, tenant_id: str) -> bool:
    """Delete a tenant's endpoint with its log; False when it has none of that id."""
    deleted = await tx.connection.execute(
        sa.delete(webhook_endpoint).where(_is(endpoint_id, tenant_id))
    )
    if not deleted.rowcount:
        return False
    await tx.connection.execute(sa.delete(delivery).where(delivery.c.endpoint_id == endpoint_id))
    return True


async def note_success(tx: Tx, endpoint_id: str) -> None:
    """Forget what has failed; a healthy endpoint's row is not written."""
    columns = webhook_endpoint.c
    await tx.connection.execute(
        sa.update(webhook_endpoint)
        .where(columns.id == endpoint_id, columns.failing_since.is_not(None))
        .values(failing_since=None, failures=0)
    )


async def note_failure(
    tx: Tx, endpoint_id: str, *, first: bool, at: datetime
) -> EndpointRow | None:
    """Count a failed attempt, `first` of its event or a later one; return the endpoint as it is.

    None when it has been deleted or disabled.
    """
    columns = webhook_endpoint.c
    noted = await tx.connection.execute(
        sa.update(webhook_endpoint)
        .where(columns.id == endpoint_id, columns.disabled_at.is_(None))
        .values(
            failing_since=sa.func.coalesce(columns.failing_since, sa.literal(at, Moment)),
            failures=columns.failures + int(first),
        )
        .returning(*columns)
    )
    row = noted.one_or_none()
    return None if row is None else EndpointRow(**row._asdict())


async def _hold(tx: Tx, which: sa.ColumnElement[bool]) -> None:
    await tx.connection.execute(
        sa.update(delivery)
        .where(which, PENDING)
        .values(status="failed", next_at=None, last_error=HELD)
    )


def _is(endpoint_id: str, tenant_id: str | None) -> sa.ColumnElement[bool]:
    is_it = webhook_endpoint.c.id == endpoint_id
    return is_it if tenant_id is None else is_it & (webhook_endpoint.c.tenant_id == tenant_id)


async def _rows(
    tx: Tx, *conditions: sa.ColumnElement[bool], limit: int | None = None
) -> list[EndpointRow]:
    query: sa.Select[Any] = sa.select(webhook_endpoint).where(*conditions)
    rows = await tx.connection.execute(query.order_by(webhook_endpoint.c.id.desc()).limit(limit))
    return [EndpointRow(**row._asdict()) for row in rows]
