"""Limits of budgets that are raised for a while; a raise that has ended stays, as a record."""

from collections.abc import Collection

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.money_tables import budget_raise
from shared.store.records import RaiseRow


async def insert_raise(tx: Tx, row: RaiseRow) -> None:
    """Keep a new raise."""
    await tx.connection.execute(sa.insert(budget_raise), msgspec.structs.asdict(row))


async def list_raises(tx: Tx, budget_ids: Collection[str] | None = None) -> list[RaiseRow]:
    """Return the raises that have not expired, oldest first; of all budgets, or of some."""
    query = sa.select(budget_raise).where(budget_raise.c.expires_at > await tx.now())
    if budget_ids is not None:
        query = query.where(budget_raise.c.budget_id.in_(budget_ids))
    rows = await tx.connection.execute(query.order_by(budget_raise.c.created_at, budget_raise.c.id))
    return [RaiseRow(**row._asdict()) for row in rows]


async def end_raise(tx: Tx, budget_id: str, raise_id: str) -> bool:
    """End a raise now; False when there is none that counts."""
    now = await tx.now()
    ended = await tx.connection.execute(
        sa.update(budget_raise)
        .where(
            budget_raise.c.id == raise_id,
            budget_raise.c.budget_id == budget_id,
            budget_raise.c.expires_at > now,
        )
        .values(expires_at=now)
    )
    return ended.rowcount > 0


async def raised(tx: Tx, budget_ids: Collection[str] | None = None) -> dict[str, int]:
    """Return by how much limits are higher now; those that are not are left out."""
    sums: dict[str, int] = {}
    for row in await list_raises(tx, budget_ids):
        sums[row.budget_id] = sums.get(row.budget_id, 0) + row.amount_nanousd
    return sums
