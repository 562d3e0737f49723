"""What an endpoint was sent: read, sent again, and forgotten in the end."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.ids import IdMaker
from shared.store.engine import Tx
from shared.store.records import DeliveryAttempt, DeliveryStatus
from shared.store.side_tables import webhook_endpoint
from shared.store.tables import DELIVERING, PENDING, delivery, delivery_attempt, webhook_event

KEPT = timedelta(days=30)
"""How long an event can be delivered again; longer than any attempt is still to come."""

AT_ONCE = 500
"""Rows of one transaction: on SQLite a long one keeps all other writers waiting."""


class LoggedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery with its attempts, first one first; `created_at` is its event's."""

    id: str
    event_id: str
    event_type: str
    created_at: datetime
    status: DeliveryStatus
    next_at: datetime | None
    last_error: str | None
    attempts: tuple[DeliveryAttempt, ...] = ()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are to go out again: those that fit everything given.

    `failed` are the ones that the endpoint has not taken and that nobody goes on trying.
    """

    delivery_id: str | None = None
    event_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    failed: bool = False


async def delivery_log(
    tx: Tx,
    endpoint_id: str,
    *,
    limit: int,
    after: str | None = None,
    status: str | None = None,
) -> list[LoggedDelivery]:
    """Return up to `limit` deliveries, newest first, from behind the id `after`."""
    conditions = [delivery.c.endpoint_id == endpoint_id]
    if after is not None:
        conditions.append(delivery.c.id < after)
    if status is not None:
        conditions.append(delivery.c.status == status)
    columns = (delivery.c.id, delivery.c.event_id, delivery.c.status, delivery.c.next_at)
    rows = await tx.connection.execute(
        sa.select(
            *columns,
            delivery.c.last_error,
            webhook_event.c.type.label("event_type"),
            webhook_event.c.created_at,
        )
        .join(webhook_event, webhook_event.c.id == delivery.c.event_id)
        .where(*conditions)
        .order_by(delivery.c.id.desc())
        .limit(limit)
    )
    found = [LoggedDelivery(**row._asdict()) for row in rows]
    attempts = await _attempts(tx, [one.id for one in found])
    return [msgspec.structs.replace(one, attempts=tuple(attempts.get(one.id, ()))) for one in found]


async def repeatable(
    tx: Tx, endpoint_id: str, wanted: Wanted, *, limit: int, after: str | None = None
) -> list[str]:
    """Return up to `limit` ids of the wanted events that the endpoint was sent, in order."""
    conditions = [delivery.c.endpoint_id == endpoint_id, *_conditions(wanted)]
    if after is not None:
        conditions.append(delivery.c.event_id > after)
    if wanted.failed:
        other = delivery.alias()
        conditions.append(
            ~sa.exists().where(
                other.c.event_id == delivery.c.event_id,
                other.c.endpoint_id == endpoint_id,
                other.c.status != "failed",
            )
        )
    rows = await tx.connection.execute(
        sa.select(delivery.c.event_id)
        .join(webhook_event, webhook_event.c.id == delivery.c.event_id)
        .where(*conditions)
        .distinct()
        .order_by(delivery.c.event_id)
        .limit(limit)
    )
    return list(rows.scalars())


async def deliver_again(
    tx: Tx, *, endpoint_id: str, event_ids: Sequence[str], ids: IdMaker, at: datetime
) -> None:
    """Make these events due for the endpoint: those still being tried now, others anew.

    At most AT_ONCE of them.
    """
    own = (delivery.c.endpoint_id == endpoint_id, delivery.c.event_id.in_(event_ids))
    await tx.connection.execute(sa.update(delivery).where(*own, PENDING).values(next_at=at))
    trying = await tx.connection.execute(
        sa.select(delivery.c.event_id).where(*own, sa.or_(PENDING, DELIVERING))
    )
    closed = set(event_ids) - set(trying.scalars())
    endpoint = await tx.connection.execute(
        sa.select(webhook_endpoint.c.tenant_id, webhook_endpoint.c.url).where(
            webhook_endpoint.c.id == endpoint_id
        )
    )
    where = endpoint.one_or_none()
    if not closed or where is None:
        return
    fixed = {"tenant_id": where.tenant_id, "endpoint_id": endpoint_id, "url": where.url}
    start = {**fixed, "status": "pending", "attempts": 0, "next_at": at, "lease_token": 0}
    await tx.connection.execute(
        sa.insert(delivery),
        [{**start, "id": ids("dlv"), "event_id": event_id} for event_id in sorted(closed)],
    )


async def prune_events(tx: Tx, now: datetime) -> int:
    """Forget up to AT_ONCE events older than KEPT, and deliveries that belong to no endpoint.

    Returns how many. What is still being tried stays.
    """
    open_ = sa.exists().where(
        delivery.c.event_id == webhook_event.c.id, sa.or_(PENDING, DELIVERING)
    )
    old = (
        sa.select(webhook_event.c.id)
        .where(webhook_event.c.created_at < now - KEPT, ~open_)
        .order_by(webhook_event.c.created_at)
        .limit(AT_ONCE)
    )
    pruned = await tx.connection.execute(
        sa.delete(webhook_event).where(webhook_event.c.id.in_(old))
    )
    known = sa.exists().where(webhook_endpoint.c.id == delivery.c.endpoint_id)
    orphans = sa.select(delivery.c.id).where(PENDING, delivery.c.endpoint_id.is_not(None), ~known)
    # An endpoint may be deleted while something is being told to it.
    left = await tx.connection.execute(
        sa.delete(delivery).where(delivery.c.id.in_(orphans.limit(AT_ONCE)))
    )
    return int(pruned.rowcount + left.rowcount)


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.delivery_id is not None:
        conditions.append(delivery.c.id == wanted.delivery_id)
    if wanted.event_id is not None:
        conditions.append(delivery.c.event_id == wanted.event_id)
    if wanted.since is not None:
        conditions.append(webhook_event.c.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(webhook_event.c.created_at < wanted.until)
    return conditions


async def _attempts(tx: Tx, delivery_ids: Sequence[str]) -> dict[str, list[DeliveryAttempt]]:
    names = DeliveryAttempt.__struct_fields__
    query: sa.Select[Any] = sa.select(
        delivery_attempt.c.delivery_id, *(delivery_attempt.c[name] for name in names)
    )
    rows = await tx.connection.execute(
        query.where(delivery_attempt.c.delivery_id.in_(delivery_ids)).order_by(
            delivery_attempt.c.delivery_id, delivery_attempt.c.number
        )
    )
    found: dict[str, list[DeliveryAttempt]] = {}
    for row in rows:
        values = row._asdict()
        found.setdefault(values.pop("delivery_id"), []).append(DeliveryAttempt(**values))
    return found
