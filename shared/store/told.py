"""What was told about money, and how its deliveries went."""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.money_tables import budget_alert
from shared.store.records import AlertKind, DeliveryStatus
from shared.store.tables import delivery


class ToldDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery of an alert. `place` is an endpoint's id, or such as `slack`."""

    place: str
    status: DeliveryStatus
    attempts: int
    last_status_code: int | None = None
    last_error: str | None = None


class ToldAlert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert; deliveries are forgotten with their events, after thirty days."""

    budget_id: str
    starts_at: datetime
    kind: AlertKind
    threshold: int
    event_id: str
    created_at: datetime
    deliveries: tuple[ToldDelivery, ...] = ()


async def told_alerts(tx: Tx, *, budget_id: str | None = None, limit: int) -> list[ToldAlert]:
    """Return up to `limit` alerts, of all budgets or of one, newest first."""
    query: sa.Select[Any] = sa.select(budget_alert)
    if budget_id is not None:
        query = query.where(budget_alert.c.budget_id == budget_id)
    newest = (budget_alert.c.created_at.desc(), budget_alert.c.event_id.desc())
    rows = await tx.connection.execute(query.order_by(*newest).limit(limit))
    found = [ToldAlert(**row._asdict()) for row in rows]
    mine = delivery.c.event_id.in_([one.event_id for one in found])
    deliveries: dict[str, list[ToldDelivery]] = {}
    for row in await tx.connection.execute(
        sa.select(delivery).where(mine).order_by(delivery.c.url)
    ):
        place = row.endpoint_id or row.url.removeprefix("alerts:")
        one = ToldDelivery(
            place=place,
            status=row.status,
            attempts=row.attempts,
            last_status_code=row.last_status_code,
            last_error=row.last_error,
        )
        deliveries.setdefault(row.event_id, []).append(one)
    return [
        msgspec.structs.replace(one, deliveries=tuple(deliveries.get(one.event_id, ())))
        for one in found
    ]
