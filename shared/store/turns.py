"""The claim: which queued jobs are next, and taking them under a lease.

Within a class the tenants take turns: the one served longest ago comes first, and gives its jobs
by deadline. A tenant with a hundred thousand jobs delays another's single one by one claim.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.records import JobRow
from shared.store.rows import JOBS_WITH_BODY, job_of
from shared.store.tables import QUEUED, SCHEDULED, job, tenant_turn

MOST_CLAIMED = 100
"""Jobs one claim returns at most: their bodies are in memory together."""
MOST_TENANTS = 32
"""Tenants one claim looks at per class; those left out are first the next time."""
MOST_RELEASED = 500
"""Scheduled jobs one call moves; what is left moves with the next."""


class _Taker(msgspec.Struct, frozen=True, kw_only=True):
    """On whose behalf jobs are taken."""

    owner: str
    now: datetime
    until: datetime


class _Pick(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A queued job that may be taken; they sort by depth within the tenant, then by turn."""

    depth: int
    turn: int
    id: str
    tenant_id: str


async def claim(
    tx: Tx, *, owner: str, lease_s: float, limit: int, classes: Sequence[str]
) -> list[JobRow]:
    """Take up to `limit` jobs (never more than 100) for `lease_s` seconds; the caller runs them.

    Jobs of the first class go before those of the second, and so on. Scheduled jobs whose moment
    has come are queued first. Each job taken is `running`, its token has grown by one. No two
    claimers get the same job.
    """
    now = await tx.now()
    taker = _Taker(owner=owner, now=now, until=now + timedelta(seconds=lease_s))
    await release_due(tx, now)
    taken: list[str] = []
    for priority in classes:
        left = min(limit, MOST_CLAIMED) - len(taken)
        if left > 0:
            taken += await _claim_class(tx, taker, priority, left)
    if not taken:
        return []
    rows = await tx.connection.execute(JOBS_WITH_BODY.where(job.c.id.in_(taken)))
    by_id = {row.id: job_of(row) for row in rows}
    return [by_id[job_id] for job_id in taken]


async def release_due(tx: Tx, now: datetime) -> set[str]:
    """Queue scheduled jobs whose `not_before` has come; return their classes, to ring for."""
    due = (
        sa.select(job.c.id)
        .where(SCHEDULED, job.c.not_before <= now)
        .order_by(job.c.not_before)
        .limit(MOST_RELEASED)
        .with_for_update(skip_locked=True)
    )
    released = await tx.connection.execute(
        sa.update(job)
        .where(job.c.id.in_(due.scalar_subquery()))
        .values(status="queued", queued_at=now)
        .returning(job.c.priority)
    )
    return set(released.scalars())


async def _claim_class(tx: Tx, taker: _Taker, priority: str, limit: int) -> list[str]:
    """Take up to `limit` jobs of a class in rounds: whoever has fewer leaves room to the others."""
    tenants = await _waiting_tenants(tx, priority, min(limit, MOST_TENANTS))
    served: set[str] = set()
    taken: list[str] = []
    while tenants and len(taken) < limit:
        left = limit - len(taken)
        share = max(1, left // len(tenants))
        picks = await _pick(tx, priority, tenants[:left], share)
        await _hold(tx, taker, [pick.id for pick in picks])
        taken += [pick.id for pick in picks]
        served |= {pick.tenant_id for pick in picks}
        full = {pick.tenant_id for pick in picks if pick.depth == share - 1}
        tenants = [tenant_id for tenant_id in tenants if tenant_id in full]
    await _take_turns(tx, priority, served, taker.now)
    return taken


async def _waiting_tenants(tx: Tx, priority: str, limit: int) -> list[str]:
    """Return the tenants with queued jobs of the class, the one served longest ago first.

    Hops from tenant to tenant through the index, whatever the number of their jobs.
    """
    queued = (QUEUED, job.c.priority == priority)
    hop = (
        sa.select(sa.func.min(job.c.tenant_id).label("tenant_id"))
        .where(*queued)
        .cte("waiting", recursive=True)
    )
    following = (
        sa.select(sa.func.min(job.c.tenant_id))
        .where(*queued, job.c.tenant_id > hop.c.tenant_id)
        .scalar_subquery()
    )
    hop = hop.union_all(sa.select(following).where(hop.c.tenant_id.is_not(None)))
    turn = sa.and_(tenant_turn.c.tenant_id == hop.c.tenant_id, tenant_turn.c.priority == priority)
    waiting = await tx.connection.execute(
        sa.select(hop.c.tenant_id)
        .select_from(hop.outerjoin(tenant_turn, turn))
        .where(hop.c.tenant_id.is_not(None))
        .order_by(tenant_turn.c.served_at.asc().nulls_first(), hop.c.tenant_id)
        .limit(limit)
    )
    return list(waiting.scalars())


async def _pick(tx: Tx, priority: str, tenants: Sequence[str], share: int) -> list[_Pick]:
    """Return up to `share` queued jobs of each tenant, locked, in the order to take them."""
    order = (job.c.deadline, job.c.created_at, job.c.id)
    queues = [
        sa.select(job.c.id, job.c.tenant_id, job.c.deadline, job.c.created_at)
        .where(QUEUED, job.c.priority == priority, job.c.tenant_id == tenant_id)
        .order_by(*order)
        .limit(share)
        .with_for_update(skip_locked=True)
        .subquery(f"queue_{turn}")
        for turn, tenant_id in enumerate(tenants)
    ]
    rows = await tx.connection.execute(sa.union_all(*(sa.select(queue) for queue in queues)))
    depths = dict.fromkeys(tenants, 0)
    picks = []
    for row in sorted(rows, key=lambda row: (row.deadline, row.created_at, row.id)):
        depth = depths[row.tenant_id]
        depths[row.tenant_id] += 1
        turn = tenants.index(row.tenant_id)
        picks.append(_Pick(depth=depth, turn=turn, id=row.id, tenant_id=row.tenant_id))
    return sorted(picks)


async def _hold(tx: Tx, taker: _Taker, ids: Sequence[str]) -> None:
    if not ids:
        return
    await tx.connection.execute(
        sa.update(job)
        .where(job.c.id.in_(ids))
        .values(
            status="running",
            lease_owner=taker.owner,
            lease_token=job.c.lease_token + 1,
            lease_until=taker.until,
            started_at=sa.func.coalesce(
                job.c.started_at, sa.literal(taker.now, job.c.started_at.type)
            ),
        )
    )


async def _take_turns(tx: Tx, priority: str, tenants: set[str], now: datetime) -> None:
    """Send the tenants to the end of the line."""
    if not tenants:
        return
    # Sorted, so that two claimers never wait for each other in a circle.
    rows = [
        {"tenant_id": tenant_id, "priority": priority, "served_at": now}
        for tenant_id in sorted(tenants)
    ]
    insert = tx.insert(tenant_turn).values(rows)
    await tx.connection.execute(
        insert.on_conflict_do_update(
            index_elements=["tenant_id", "priority"],
            set_={"served_at": insert.excluded.served_at},
            where=tenant_turn.c.served_at < insert.excluded.served_at,
        )
    )
