"""Alerts: who tells of what, decided by unique rows; and what is known of budgets when told."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.store.columns import micros, moment_of
from shared.store.engine import Tx
from shared.store.money_tables import (
    budget_alert,
    budget_grant,
    budget_window,
    ledger,
    spend_window,
)
from shared.store.records import AlertKey, BudgetRef, Told

JOBS = "job:"
"""How the owners of jobs' grants begin."""

AT_ONCE = 500
"""Windows of one query."""

_HOUR_US = 3_600_000_000


class WindowSums(msgspec.Struct, frozen=True, kw_only=True):
    """What is settled of a window, granted to anyone, and of that held by jobs."""

    settled_nanousd: int = 0
    granted_nanousd: int = 0
    held_nanousd: int = 0


@asynccontextmanager
async def apart(tx: Tx) -> AsyncIterator[None]:
    """Take back what the block wrote when it fails, and nothing else of the transaction."""
    async with tx.connection.begin_nested():
        yield


async def claim_alerts(tx: Tx, event_ids: Mapping[AlertKey, str], at: datetime) -> list[AlertKey]:
    """Write what is going to be told; return what nobody had written, in order.

    Whoever gets a key back tells it, in this transaction. One that comes at the same time waits
    for its end.
    """
    if not event_ids:
        return []
    rows = [
        {**msgspec.structs.asdict(key), "event_id": event_ids[key], "created_at": at}
        for key in sorted(event_ids)  # in one order for all: nobody waits in a circle
    ]
    columns = [column.name for column in budget_alert.primary_key.columns]
    statement = tx.insert(budget_alert).on_conflict_do_nothing(index_elements=columns)
    won = await tx.connection.execute(
        statement.returning(*(budget_alert.c[name] for name in columns)), rows
    )
    return sorted(AlertKey(**row._asdict()) for row in won)


async def told_of(tx: Tx, refs: Collection[BudgetRef]) -> dict[BudgetRef, frozenset[Told]]:
    """Return what has been told of each of these windows."""
    found: dict[BudgetRef, set[Told]] = {ref: set() for ref in refs}
    for some in _pieces(refs):
        rows = await tx.connection.execute(sa.select(budget_alert).where(_in(budget_alert, some)))
        for row in rows:
            found[_ref(row)].add((row.kind, row.threshold))
    return {ref: frozenset(told) for ref, told in found.items()}


async def sums_of(tx: Tx, refs: Collection[BudgetRef]) -> dict[BudgetRef, WindowSums]:
    """Return the sums of these windows; all zero for one that had no call."""
    found = dict.fromkeys(refs, WindowSums())
    for some in _pieces(refs):
        for row in await tx.connection.execute(
            sa.select(budget_window).where(_in(budget_window, some))
        ):
            found[_ref(row)] = _sums(row)
        held = await tx.connection.execute(
            sa.select(
                budget_grant.c.budget_id,
                budget_grant.c.starts_at,
                sa.func.sum(budget_grant.c.amount_nanousd).label("held"),
            )
            .where(_in(budget_grant, some), budget_grant.c.owner.startswith(JOBS))
            .group_by(budget_grant.c.budget_id, budget_grant.c.starts_at)
        )
        for row in held:
            ref = _ref(row)
            found[ref] = msgspec.structs.replace(found[ref], held_nanousd=int(row.held))
    return found


async def used_windows(
    tx: Tx, starts: Collection[datetime], after: BudgetRef | None = None
) -> list[tuple[BudgetRef, WindowSums]]:
    """Return up to AT_ONCE windows that began at one of these moments, from behind `after`.

    In order, and without what jobs hold of them.
    """
    columns = budget_window.c
    query = sa.select(budget_window).where(
        columns.starts_at.in_(starts), columns.settled_nanousd + columns.granted_nanousd > 0
    )
    if after is not None:
        key = sa.tuple_(columns.budget_id, columns.starts_at)
        query = query.where(key > (after.budget_id, after.starts_at))
    rows = await tx.connection.execute(
        query.order_by(columns.budget_id, columns.starts_at).limit(AT_ONCE)
    )
    return [(_ref(row), _sums(row)) for row in rows]


async def spent_by_hour(tx: Tx, since: datetime) -> dict[tuple[str, datetime], int]:
    """Return what each tenant spent in each hour that ended attempts since then, by the ledger."""
    ended_at = sa.type_coerce(ledger.c.ended_at, sa.BigInteger)
    hour = (ended_at - ended_at % _HOUR_US).label("hour")
    rows = await tx.connection.execute(
        sa.select(ledger.c.tenant_id, hour, sa.func.sum(ledger.c.cost_nanousd).label("cost"))
        .where(ended_at >= micros(since))
        .group_by(ledger.c.tenant_id, hour)
    )
    return {(row.tenant_id, moment_of(row.hour)): int(row.cost or 0) for row in rows}


async def closed_hours(tx: Tx, scope: str, since: datetime, until: datetime) -> list[int]:
    """Return what a scope spent in each of its closed hours that start in that span."""
    rows = await tx.connection.execute(
        sa.select(sa.func.sum(spend_window.c.cost_nanousd).label("cost"))
        .where(
            spend_window.c.scope == scope,
            spend_window.c.window == "hour",
            spend_window.c.starts_at >= since,
            spend_window.c.starts_at < until,
        )
        .group_by(spend_window.c.starts_at)
    )
    return [int(row.cost) for row in rows]


def _pieces(refs: Collection[BudgetRef]) -> Iterable[Sequence[BudgetRef]]:
    ordered = list(refs)
    return (ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE))


def _in(table: sa.Table, refs: Sequence[BudgetRef]) -> sa.ColumnElement[bool]:
    keys = [(ref.budget_id, ref.starts_at) for ref in refs]
    return sa.tuple_(table.c.budget_id, table.c.starts_at).in_(keys)


def _ref(row: sa.Row[Any]) -> BudgetRef:
    return BudgetRef(budget_id=row.budget_id, starts_at=row.starts_at)


def _sums(row: sa.Row[Any]) -> WindowSums:
    return WindowSums(settled_nanousd=row.settled_nanousd, granted_nanousd=row.granted_nanousd)
