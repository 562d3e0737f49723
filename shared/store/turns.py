"""The claim: which queued jobs are next, and taking them under a lease.

Within a class the tenants take turns: the one served longest ago comes first, and gives its jobs
by deadline. A tenant with a hundred thousand jobs delays another's single one by one claim.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.lines import Line, Wanted, waiting_lines
from shared.store.pauses import CLASS, TENANT, pauses
from shared.store.records import JobRow
from shared.store.rows import JOBS_WITH_BODY, job_of
from shared.store.tables import QUEUED, SCHEDULED, job, tenant_turn

MOST_CLAIMED = 100
"""Jobs one claim returns at most: their bodies are in memory together."""
MOST_TENANTS = 32
"""Tenants one claim looks at per class; those left out are first the next time."""
MOST_RELEASED = 500
"""Scheduled jobs one call moves; what is left moves with the next."""


class Taker(msgspec.Struct, frozen=True, kw_only=True):
    """On whose behalf jobs are taken, and which not."""

    owner: str
    now: datetime
    until: datetime
    without_models: frozenset[str]
    without_tenants: frozenset[str]
    most_running: int | None


class _Pick(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A queued job that may be taken; they sort by depth within the tenant, then by turn."""

    depth: int
    turn: int
    id: str
    tenant_id: str


async def claim(
    tx: Tx,
    *,
    owner: str,
    lease_s: float,
    limit: int,
    classes: Sequence[str],
    shares: Mapping[str, int] | None = None,
    without_models: Collection[str] = (),
    most_running: int | None = None,
) -> list[JobRow]:
    """Take up to `limit` jobs (never more than 100) for `lease_s` seconds; the caller runs them.

    First each class has its share, if there are `shares`; then jobs of the first class go before
    those of the second, and so on. Scheduled jobs whose moment has come are queued first. Left
    where they are: what an operator has paused, jobs of `without_models`, and those of tenants with
    `most_running` jobs running. Each job taken is `running`, its token has grown by one. No two
    claimers get the same job.
    """
    now = await tx.now()
    paused = {one.scope for one in await pauses(tx)}
    taker = Taker(
        owner=owner,
        now=now,
        until=now + timedelta(seconds=lease_s),
        without_models=frozenset(without_models),
        without_tenants=frozenset(
            scope.removeprefix(TENANT) for scope in paused if scope.startswith(TENANT)
        ),
        most_running=most_running,
    )
    await release_due(tx, now)
    open_classes = [name for name in classes if f"{CLASS}{name}" not in paused]
    taken = await _claim_classes(tx, taker, open_classes, min(limit, MOST_CLAIMED), shares or {})
    if not taken:
        return []
    rows = await tx.connection.execute(JOBS_WITH_BODY.where(job.c.id.in_(taken)))
    by_id = {row.id: job_of(row) for row in rows}
    return [by_id[job_id] for job_id in taken]


async def any_to_claim(tx: Tx) -> bool:
    """Return whether `claim` could find a job: mostly there is none, and asking it takes long."""
    waits = sa.and_(SCHEDULED, job.c.not_before <= await tx.now())
    found = await tx.connection.execute(
        sa.select(sa.or_(sa.exists().where(QUEUED), sa.exists().where(waits)))
    )
    return bool(found.scalar_one())


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


async def oldest_waits_s(tx: Tx, classes: Sequence[str]) -> dict[str, float]:
    """Return how long the oldest queued job of each class has waited, in seconds; 0 without any."""
    oldest = [
        sa.select(sa.func.min(job.c.queued_at, type_=job.c.queued_at.type))
        .where(QUEUED, job.c.priority == name)
        .scalar_subquery()
        for name in classes
    ]
    found = (await tx.connection.execute(sa.select(*oldest))).one()
    now = await tx.now()
    return {
        name: 0.0 if at is None else max(0.0, (now - at).total_seconds())
        for name, at in zip(classes, found, strict=True)
    }


async def _claim_classes(
    tx: Tx, taker: Taker, classes: Sequence[str], limit: int, shares: Mapping[str, int]
) -> list[str]:
    taken: list[str] = []
    empty: set[str] = set()
    for most in (shares, dict.fromkeys(classes, limit)):
        for priority in classes:
            wanted = min(limit - len(taken), most.get(priority, 0))
            if wanted > 0 and priority not in empty:
                found = await _claim_class(tx, taker, priority, wanted)
                taken += found
                if len(found) < wanted:
                    empty.add(priority)
    return taken


async def _claim_class(tx: Tx, taker: Taker, priority: str, limit: int) -> list[str]:
    """Take up to `limit` jobs of a class in rounds: whoever has fewer leaves room to the others."""
    wanted = Wanted(
        tenants=min(limit, MOST_TENANTS),
        without_models=taker.without_models,
        without_tenants=taker.without_tenants,
        most_running=taker.most_running,
    )
    lines = await waiting_lines(tx, priority, wanted)
    served: set[str] = set()
    taken: list[str] = []
    while lines and len(taken) < limit:
        share = max(1, (limit - len(taken)) // len({line.tenant_id for line in lines}))
        picks = await _pick(tx, priority, lines, share)
        picks = _within(picks, lines)[: limit - len(taken)]
        await _hold(tx, taker, [pick.id for pick in picks])
        taken += [pick.id for pick in picks]
        served |= {pick.tenant_id for pick in picks}
        given = Counter(pick.tenant_id for pick in picks)
        lines = [
            line.after(given[line.tenant_id]) for line in lines if given[line.tenant_id] >= share
        ]
        lines = [line for line in lines if line.room is None or line.room > 0]
    await _take_turns(tx, priority, served, taker.now)
    return taken


def _within(picks: Sequence[_Pick], lines: Sequence[Line]) -> list[_Pick]:
    """Leave out what would be more than a tenant may have running."""
    room = {line.tenant_id: line.room for line in lines}
    return [pick for pick in picks if (most := room[pick.tenant_id]) is None or pick.depth < most]


async def _pick(tx: Tx, priority: str, lines: Sequence[Line], share: int) -> list[_Pick]:
    """Return up to `share` queued jobs of each tenant, locked, in the order to take them."""
    order = (job.c.deadline, job.c.created_at, job.c.id)
    queues = [
        sa.select(job.c.id, job.c.tenant_id, job.c.deadline, job.c.created_at)
        .where(QUEUED, job.c.priority == priority, *line.conditions())
        .order_by(*order)
        .limit(share)
        .with_for_update(skip_locked=True)
        .subquery(f"queue_{turn}")
        for turn, line in enumerate(lines)
    ]
    rows = await tx.connection.execute(sa.union_all(*(sa.select(queue) for queue in queues)))
    turns: dict[str, int] = {}
    for line in lines:
        turns.setdefault(line.tenant_id, len(turns))
    depths = dict.fromkeys(turns, 0)
    picks = []
    for row in sorted(rows, key=lambda row: (row.deadline, row.created_at, row.id)):
        depth = depths[row.tenant_id]
        depths[row.tenant_id] += 1
        if depth < share:  # of several lines of one tenant each gave as many
            turn = turns[row.tenant_id]
            picks.append(_Pick(depth=depth, turn=turn, id=row.id, tenant_id=row.tenant_id))
    return sorted(picks)


async def _hold(tx: Tx, taker: Taker, ids: Sequence[str]) -> None:
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
            waits_for=None,
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
