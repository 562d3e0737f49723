"""What an operator has told the queue not to hand out for now: classes, tenants.

A scope is `class:batch` or `tenant:acme`. Jobs that run go on; those that wait keep their place.
"""

from datetime import datetime

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.side_tables import queue_pause

CLASS = "class:"
TENANT = "tenant:"


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A scope whose jobs are not claimed, since when, and why by the operator's own words."""

    scope: str
    reason: str | None
    since: datetime


async def pause(tx: Tx, scope: str, reason: str | None) -> None:
    """Have no jobs of the scope claimed; again changes the reason, not the moment."""
    insert = tx.insert(queue_pause).values(scope=scope, reason=reason, since=await tx.now())
    await tx.connection.execute(
        insert.on_conflict_do_update(
            index_elements=["scope"], set_={"reason": insert.excluded.reason}
        )
    )


async def resume(tx: Tx, scope: str) -> bool:
    """Have jobs of the scope claimed again; False when it was not paused."""
    deleted = await tx.connection.execute(
        sa.delete(queue_pause).where(queue_pause.c.scope == scope)
    )
    return deleted.rowcount > 0


async def pauses(tx: Tx) -> list[Pause]:
    """Return what is paused, by name."""
    rows = await tx.connection.execute(sa.select(queue_pause).order_by(queue_pause.c.scope))
    return [Pause(**row._asdict()) for row in rows]
