"""Puts an event in the outbox, in the transaction of what it tells of."""

from collections.abc import Sequence
from datetime import datetime

from shared.ids import IdMaker
from shared.store.endpoints import listeners
from shared.store.engine import Tx
from shared.store.records import EventRow
from shared.store.webhooks import NewDelivery, insert_event
from shared.webhooks.event import Event


async def emit(
    tx: Tx, event: Event, *, tenant_id: str, urls: Sequence[str] = (), ids: IdMaker, at: datetime
) -> bool:
    """Insert the event with a delivery, due at once, per URL and per endpoint of the tenant's.

    The endpoints are those subscribed to its type; for a disabled one it is kept, to be delivered
    on request. Returns whether anything is due; nobody listening leaves nothing. It is sent if and
    only if the caller's transaction commits.
    """
    deliveries = [NewDelivery(id=ids("dlv"), url=url) for url in urls]
    deliveries += [
        NewDelivery(id=ids("dlv"), url=one.url, endpoint_id=one.endpoint_id, held=one.disabled)
        for one in await listeners(tx, tenant_id, event.type)
    ]
    if not deliveries:
        return False
    row = EventRow(
        id=event.id,
        tenant_id=tenant_id,
        type=event.type,
        created_at=event.created_at,
        body=event.body,
    )
    await insert_event(tx, row, deliveries, at)
    return not all(one.held for one in deliveries)
