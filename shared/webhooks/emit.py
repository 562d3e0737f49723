"""Puts an event in the outbox, in the transaction of what it tells of."""

from collections.abc import Sequence
from datetime import datetime

from shared.ids import IdMaker
from shared.store.engine import Tx
from shared.store.records import EventRow
from shared.store.webhooks import insert_event
from shared.webhooks.event import Event


async def emit(
    tx: Tx, event: Event, *, tenant_id: str, urls: Sequence[str], ids: IdMaker, at: datetime
) -> None:
    """Insert the event and one delivery per URL, due at once; nothing when nobody listens.

    It is sent if and only if the caller's transaction commits.
    """
    if not urls:
        return
    row = EventRow(
        id=event.id,
        tenant_id=tenant_id,
        type=event.type,
        created_at=event.created_at,
        body=event.body,
    )
    await insert_event(tx, row, [(ids("dlv"), url) for url in urls], at)
