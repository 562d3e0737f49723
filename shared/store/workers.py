"""The workers that live, as they say themselves, and which of them are told to drain."""

from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.side_tables import worker

FORGOTTEN = timedelta(hours=1)
"""A worker that died stays to be seen for so long."""


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself. `started_at` tells two lives under one name apart."""

    owner: str
    host: str
    started_at: datetime
    slots: int
    running: int


class WorkerRow(Presence, frozen=True, kw_only=True):
    """A worker as it was last heard of; `drain_at` is when it was told to claim no more."""

    seen_at: datetime
    drain_at: datetime | None


async def be_seen(tx: Tx, present: Presence) -> bool:
    """Say that the worker lives; return whether it is to drain. A new life drains not."""
    insert = tx.insert(worker).values(
        **msgspec.structs.asdict(present), seen_at=await tx.now(), drain_at=None
    )
    told = {name: insert.excluded[name] for name in ("host", "seen_at", "slots", "running")}
    same_life = worker.c.started_at == insert.excluded.started_at
    found = await tx.connection.execute(
        insert.on_conflict_do_update(
            index_elements=["owner"],
            set_={
                **told,
                "started_at": insert.excluded.started_at,
                "drain_at": sa.case((same_life, worker.c.drain_at), else_=None),
            },
        ).returning(worker.c.drain_at)
    )
    return found.scalar_one() is not None


async def leave(tx: Tx, owner: str) -> None:
    """Say that the worker has ended in order."""
    await tx.connection.execute(sa.delete(worker).where(worker.c.owner == owner))


async def set_drain(tx: Tx, owner: str, *, at: datetime | None) -> bool:
    """Tell a worker to drain, or with None to work on; False when there is none of that name."""
    changed = await tx.connection.execute(
        sa.update(worker).where(worker.c.owner == owner).values(drain_at=at)
    )
    return changed.rowcount > 0


async def list_workers(tx: Tx) -> list[WorkerRow]:
    """Return the workers by name, dead ones too for an hour."""
    rows = await tx.connection.execute(sa.select(worker).order_by(worker.c.owner))
    return [WorkerRow(**row._asdict()) for row in rows]


async def prune_workers(tx: Tx, now: datetime) -> int:
    """Forget workers that have not been heard of for an hour; return how many."""
    deleted = await tx.connection.execute(
        sa.delete(worker).where(worker.c.seen_at < now - FORGOTTEN)
    )
    return deleted.rowcount
