"""Events and their deliveries: the outbox, written with what it tells about."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.store.endpoints import HELD
from shared.store.engine import Tx
from shared.store.records import DeliveryAttempt, DeliveryRow, DeliveryStatus, EventRow
from shared.store.side_tables import webhook_endpoint
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


class NewDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery to be made; one that is `held` is written down as failed and not tried."""

    id: str
    url: str
    endpoint_id: str | None = None
    held: bool = False


async def insert_event(
    tx: Tx, event: EventRow, deliveries: Sequence[NewDelivery], at: datetime
) -> None:
    """Write an event and its deliveries, due at once."""
    await tx.connection.execute(sa.insert(webhook_event).values(msgspec.structs.asdict(event)))
    if deliveries:
        rows = [_new(one, event.id, event.tenant_id, at) for one in deliveries]
        await tx.connection.execute(sa.insert(delivery), rows)


async def any_due(tx: Tx) -> bool:
    """Return whether `claim_deliveries` could find one."""
    found = await tx.connection.execute(sa.select(sa.exists().where(_due(await tx.now()))))
    return bool(found.scalar_one())


async def claim_deliveries(tx: Tx, *, owner: str, lease_s: float, limit: int) -> list[DeliveryRow]:
    """Take up to `limit` deliveries that are due, longest due first, for `lease_s` seconds.

    Those whose holder's lease has ended are due too. No two claimers get the same one, and an
    endpoint never has more under way than its `concurrency`.
    """
    now = await tx.now()
    ids: list[str] = []
    full = set(await _full_endpoints(tx, now))
    while len(ids) < limit:
        due = await _due_ids(tx, now, limit - len(ids), taken=ids, full=full)
        if not due:
            break
        room = await _room(tx, {one for _, one in due if one is not None}, now, ids)
        for id_, endpoint_id in due:
            if endpoint_id is None:
                ids.append(id_)
            elif room.get(endpoint_id, 0) > 0:
                room[endpoint_id] -= 1
                ids.append(id_)
            else:  # those behind it are for others
                full.add(endpoint_id)
        if not full & {one for _, one in due}:
            break
    return await _claimed(tx, ids, owner=owner, until=now + timedelta(seconds=lease_s))


async def take_delivery(tx: Tx, delivery_id: str, *, owner: str, until: datetime) -> DeliveryRow:
    """Take one delivery that was made in this transaction, before anybody else can."""
    (row,) = await _claimed(tx, [delivery_id], owner=owner, until=until)
    return row


async def _claimed(tx: Tx, ids: Sequence[str], *, owner: str, until: datetime) -> list[DeliveryRow]:
    if not ids:
        return []
    await tx.connection.execute(
        sa.update(delivery)
        .where(delivery.c.id.in_(ids))
        .values(
            status="delivering",
            lease_owner=owner,
            lease_token=delivery.c.lease_token + 1,
            lease_until=until,
        )
    )
    rows = await _rows(tx, delivery.c.id.in_(ids))
    return sorted(rows, key=lambda row: ids.index(row.id))


async def _due_ids(
    tx: Tx, now: datetime, limit: int, *, taken: Sequence[str], full: set[str]
) -> list[tuple[str, str | None]]:
    """Return and lock ids of due deliveries with their endpoints, without those of full ones."""
    due_at = sa.case((DELIVERING, delivery.c.lease_until), else_=delivery.c.next_at)
    query = sa.select(delivery.c.id, delivery.c.endpoint_id).where(_due(now))
    if taken:
        query = query.where(delivery.c.id.not_in(taken))
    if full:
        endpoint_id = delivery.c.endpoint_id
        query = query.where(sa.or_(endpoint_id.is_(None), endpoint_id.not_in(full)))
    rows = await tx.connection.execute(
        query.order_by(due_at, delivery.c.id).limit(limit).with_for_update(skip_locked=True)
    )
    return [(row.id, row.endpoint_id) for row in rows]


async def _full_endpoints(tx: Tx, now: datetime) -> list[str]:
    """Return the endpoints with as many deliveries under way as they take."""
    rows = await tx.connection.execute(
        sa.select(delivery.c.endpoint_id)
        .join(webhook_endpoint, webhook_endpoint.c.id == delivery.c.endpoint_id)
        .where(DELIVERING, delivery.c.lease_until > now)
        .group_by(delivery.c.endpoint_id, webhook_endpoint.c.concurrency)
        .having(sa.func.count() >= webhook_endpoint.c.concurrency)
    )
    return list(rows.scalars())


async def _room(
    tx: Tx, endpoint_ids: Collection[str], now: datetime, taken: Sequence[str]
) -> dict[str, int]:
    """Return how many more deliveries each endpoint takes; none that another is claiming for.

    Their rows are locked until the claim is committed, so two claimers cannot both fill one.
    """
    if not endpoint_ids:
        return {}
    locked = await tx.connection.execute(
        sa.select(webhook_endpoint.c.id, webhook_endpoint.c.concurrency)
        .where(webhook_endpoint.c.id.in_(endpoint_ids))
        .with_for_update(skip_locked=True)
    )
    most = {row.id: row.concurrency for row in locked}
    busy = await tx.connection.execute(
        sa.select(delivery.c.endpoint_id, sa.func.count().label("count"))
        .where(
            delivery.c.endpoint_id.in_(most),
            sa.or_(sa.and_(DELIVERING, delivery.c.lease_until > now), delivery.c.id.in_(taken)),
        )
        .group_by(delivery.c.endpoint_id)
    )
    counts = {row.endpoint_id: row.count for row in busy}
    return {id_: limit - counts.get(id_, 0) for id_, limit in most.items()}


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


def _new(new: NewDelivery, event_id: str, tenant_id: str, at: datetime) -> dict[str, object]:
    return {
        "id": new.id,
        "event_id": event_id,
        "tenant_id": tenant_id,
        "endpoint_id": new.endpoint_id,
        "url": new.url,
        "status": "failed" if new.held else "pending",
        "attempts": 0,
        "next_at": None if new.held else at,
        "last_error": HELD if new.held else None,
        "lease_token": 0,
    }


def _due(now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(
        sa.and_(PENDING, delivery.c.next_at <= now),
        sa.and_(DELIVERING, delivery.c.lease_until <= now),
    )


async def _rows(tx: Tx, condition: sa.ColumnElement[bool]) -> list[DeliveryRow]:
    query: sa.Select[Any] = _DELIVERIES.where(condition).order_by(delivery.c.id)
    return [DeliveryRow(**row._asdict()) for row in await tx.connection.execute(query)]
