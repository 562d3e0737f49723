"""Named leases: who may lead for a while. An optimisation; unique rows carry correctness."""

from datetime import timedelta

import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.tables import lease


async def take_lease(tx: Tx, name: str, owner: str, ttl_s: float) -> int | None:
    """Take or renew the lease for `ttl_s` seconds; None while somebody else has it.

    Returns:
        The fencing token: greater whenever the holder has changed, never used twice.
    """
    now = await tx.now()
    until = now + timedelta(seconds=ttl_s)
    insert = tx.insert(lease).values(name=name, owner=owner, token=1, until=until)
    ours = lease.c.owner.is_not_distinct_from(owner)
    taken = await tx.connection.execute(
        insert.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "owner": owner,
                "until": until,
                "token": lease.c.token + sa.case((ours, 0), else_=1),
            },
            where=sa.or_(ours, lease.c.until <= now),
        ).returning(lease.c.token)
    )
    token: int | None = taken.scalar_one_or_none()
    return token


async def drop_lease(tx: Tx, name: str, owner: str) -> None:
    """Give the lease back if it is ours. Its row stays, so that the token goes on growing."""
    await tx.connection.execute(
        sa.update(lease)
        .where(lease.c.name == name, lease.c.owner == owner)
        .values(owner=None, until=await tx.now())
    )
