"""Events and their deliveries: the outbox, written with what it tells about."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.records import DeliveryAttempt, DeliveryRow, DeliveryStatus, EventRow
from shared.store.tables import (
    DELIVERING,
    PENDING,
    delivery,
    delivery_attempt,
    webhook_event,
)

_DELIVERIES = sa.select(
    *delivery.c, webhook_event.c.type.label("event_type"), webhook_event.c.body
).select_from(delivery.join(webhook_event, webhook_event.c.id == delivery.c.event_id))


async def insert_event(
    tx: Tx, event: EventRow, urls: Sequence[tuple[str, str]], at: datetime
) -> None:
    """Write an event and one delivery, due at once, per (delivery id, URL)."""
    await tx.connection.execute(sa.insert(webhook_event).values(msgspec.structs.asdict(event)))
    if not urls:
        return
    fixed = {"event_id": event.id, "tenant_id": event.tenant_id, "status": "pending"}
    start = {**fixed, "attempts": 0, "next_at": at, "lease_token": 0}
    await tx.connection.execute(
        sa.insert(delivery), [{**start, "id": id_, "url": url} for id_, url in urls]
    )


async def claim_deliveries(tx: Tx, *, owner: str, lease_s: float, limit: int) -> list[DeliveryRow]:
    """Take up to `limit` deliveries that are due, longest due first, for `lease_s` seconds.

    Those whose holder's lease has ended are due too. No two claimers get the same one.
    """
    now = await tx.now()
    due_at = sa.case((DELIVERING, delivery.c.lease_until), else_=delivery.c.next_at)
    due = await tx.connection.execute(
        sa.select(delivery.c.id)
        .where(_due(now))
        .order_by(due_at, delivery.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(due.scalars())
    if not ids:
        return []
    await tx.connection.execute(
        sa.update(delivery)
        .where(delivery.c.id.in_(ids))
        .values(
            status="delivering",
            lease_owner=owner,
            lease_token=delivery.c.lease_token + 1,
            lease_until=now + timedelta(seconds=lease_s),
        )
    )
    rows = await _rows(tx, delivery.c.id.in_(ids))
    return sorted(rows, key=lambda row: ids.index(row.id))


async def record_delivery(
    tx: Tx,
    *,
    delivery_id: str,
    token: int,
    attempt: DeliveryAttempt,
    status: DeliveryStatus,
    next_at: datetime | None,
) -> bool:
    """Write how a try went and what comes next; False, and nothing written, without the lease.

    `status` is `pending` with the moment of the next try, or one of the two final ones.
    """
    written = await tx.connection.execute(
        sa.update(delivery)
        .where(delivery.c.id == delivery_id, delivery.c.lease_token == token, DELIVERING)
        .values(
            status=status,
            attempts=delivery.c.attempts + 1,
            next_at=next_at,
            lease_owner=None,
            lease_until=None,
            last_status_code=attempt.status_code,
            last_error=attempt.error,
        )
        .returning(delivery.c.attempts)
    )
    number = written.scalar_one_or_none()
    if number is None:
        return False
    await tx.connection.execute(
        sa.insert(delivery_attempt).values(
            delivery_id=delivery_id, number=number, **msgspec.structs.asdict(attempt)
        )
    )
    return True


async def due_deliveries(tx: Tx, now: datetime) -> int:
    """Return how many deliveries could be claimed."""
    counted = await tx.connection.execute(
        sa.select(sa.func.count()).select_from(delivery).where(_due(now))
    )
    return counted.scalar_one()


async def deliveries_of(tx: Tx, event_id: str) -> list[DeliveryRow]:
    """Return an event's deliveries, by id."""
    return await _rows(tx, delivery.c.event_id == event_id)


async def delivery_attempts_of(tx: Tx, delivery_id: str) -> list[DeliveryAttempt]:
    """Return a delivery's tries, first one first."""
    attempts = await tx.connection.execute(
        sa.select(*(delivery_attempt.c[name] for name in DeliveryAttempt.__struct_fields__))
        .where(delivery_attempt.c.delivery_id == delivery_id)
        .order_by(delivery_attempt.c.number)
    )
    return [DeliveryAttempt(**row._asdict()) for row in attempts]


def _due(now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(
        sa.and_(PENDING, delivery.c.next_at <= now),
        sa.and_(DELIVERING, delivery.c.lease_until <= now),
    )


async def _rows(tx: Tx, condition: sa.ColumnElement[bool]) -> list[DeliveryRow]:
    query: sa.Select[Any] = _DELIVERIES.where(condition).order_by(delivery.c.id)
    return [DeliveryRow(**row._asdict()) for row in await tx.connection.execute(query)]
