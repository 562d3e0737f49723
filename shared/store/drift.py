"""Questions whose answer is empty while the books agree; what closes windows does not ask them."""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.config.conduct import SpendWindow
from shared.store.columns import moment_of
from shared.store.engine import Tx
from shared.store.ledger import COUNTED, SUMS, counted
from shared.store.money_tables import budget_grant, budget_window, ledger, spend_window
from shared.store.windows import HOUR_US, TENANT, Span


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """A budget's window that says another sum of its grants than they do."""

    budget_id: str
    starts_at: datetime
    window_nanousd: int
    grants_nanousd: int


ByHour = dict[tuple[str, datetime], dict[str, int]]
"""Counts by scope and hour."""


async def spent_by_hour(tx: Tx, since: datetime, until: datetime) -> ByHour:
    """Return what the ledger says about attempts that ended in that time."""
    ended_at = sa.type_coerce(ledger.c.ended_at, sa.BigInteger)
    hour = (ended_at - ended_at % HOUR_US).label("hour")
    rows = await tx.connection.execute(
        sa.select(ledger.c.tenant_id, hour, *SUMS)
        .where(ledger.c.ended_at >= since, ledger.c.ended_at < until)
        .group_by(ledger.c.tenant_id, hour)
    )
    return {(TENANT + row.tenant_id, moment_of(row.hour)): counted(row) for row in rows}


async def closed_by_hour(tx: Tx, since: datetime, until: datetime) -> ByHour:
    """Return what the closed hours say that begin in that time."""
    columns = spend_window.c
    sums = [sa.func.sum(columns[name]).label(name) for name in COUNTED]
    rows = await tx.connection.execute(
        sa.select(columns.scope, columns.starts_at, *sums)
        .where(columns.window == "hour", columns.starts_at >= since, columns.starts_at < until)
        .group_by(columns.scope, columns.starts_at)
    )
    return {(row.scope, row.starts_at): counted(row) for row in rows}


async def spans_between(
    tx: Tx, window: SpendWindow, since: datetime, until: datetime
) -> list[Span]:
    """Return the closed windows that ended after `since`, up to `until`; each span once."""
    columns = spend_window.c
    rows = await tx.connection.execute(
        sa.select(columns.starts_at, columns.ends_at, columns.timezone)
        .where(columns.window == window, columns.ends_at > since, columns.ends_at <= until)
        .distinct()
        .order_by(columns.starts_at, columns.ends_at, columns.timezone)
    )
    return [Span(**row._asdict()) for row in rows]


async def scopes_of(tx: Tx, window: SpendWindow, span: Span) -> set[str]:
    """Return whose window has exactly this span."""
    columns = spend_window.c
    found = await tx.connection.scalars(
        sa.select(columns.scope)
        .where(
            columns.window == window,
            columns.starts_at == span.starts_at,
            columns.ends_at == span.ends_at,
            columns.timezone == span.timezone,
        )
        .distinct()
    )
    return set(found)


async def left_out(
    tx: Tx, lower: SpendWindow, window: SpendWindow, since: datetime, until: datetime
) -> dict[tuple[str, datetime], int]:
    """Return the costs of the closed windows of that time that no longer one holds.

    By scope and beginning. For a time whose longer windows are all closed.
    """
    inner, outer = spend_window.alias("inner_window"), spend_window.alias("outer_window")
    holds = sa.exists().where(
        outer.c.scope == inner.c.scope,
        outer.c.window == window,
        outer.c.starts_at <= inner.c.starts_at,
        outer.c.ends_at > inner.c.starts_at,
    )
    rows = await tx.connection.execute(
        sa.select(inner.c.scope, inner.c.starts_at, sa.func.sum(inner.c.cost_nanousd).label("cost"))
        .where(
            inner.c.window == lower,
            inner.c.starts_at >= since,
            inner.c.ends_at <= until,
            ~holds,
        )
        .group_by(inner.c.scope, inner.c.starts_at)
        .order_by(inner.c.starts_at, inner.c.scope)
    )
    return {(row.scope, row.starts_at): int(row.cost) for row in rows}


async def written_since(tx: Tx, window: SpendWindow, closed_since: datetime) -> set[datetime]:
    """Return when the windows began that rows were written for since a moment."""
    columns = spend_window.c
    found = await tx.connection.scalars(
        sa.select(columns.starts_at)
        .where(columns.window == window, columns.closed_at >= closed_since)
        .distinct()
    )
    return set(found)


async def wrongly_granted(tx: Tx) -> list[Granted]:
    """Return the windows whose grants are not what they say; also grants of no window at all."""
    grants = (
        sa.select(
            budget_grant.c.budget_id,
            budget_grant.c.starts_at,
            sa.func.sum(budget_grant.c.amount_nanousd).label("amount"),
        )
        .group_by(budget_grant.c.budget_id, budget_grant.c.starts_at)
        .subquery()
    )
    amount = sa.func.coalesce(grants.c.amount, 0)
    same = sa.and_(
        grants.c.budget_id == budget_window.c.budget_id,
        grants.c.starts_at == budget_window.c.starts_at,
    )
    wrong = (
        sa.select(
            budget_window.c.budget_id,
            budget_window.c.starts_at,
            budget_window.c.granted_nanousd,
            amount.label("amount"),
        )
        .select_from(budget_window.outerjoin(grants, same))
        .where(budget_window.c.granted_nanousd != amount)
    )
    orphaned = (
        sa.select(
            grants.c.budget_id,
            grants.c.starts_at,
            sa.literal(0, sa.BigInteger).label("granted_nanousd"),
            grants.c.amount,
        )
        .select_from(grants.outerjoin(budget_window, same))
        .where(budget_window.c.budget_id.is_(None), grants.c.amount != 0)
    )
    # One statement: what is traded meanwhile is seen on both sides or on none.
    rows = await tx.connection.execute(sa.union_all(wrong, orphaned))
    return sorted((_granted(row) for row in rows), key=lambda one: (one.budget_id, one.starts_at))


def _granted(row: sa.Row[Any]) -> Granted:
    return Granted(
        budget_id=row.budget_id,
        starts_at=row.starts_at,
        window_nanousd=int(row.granted_nanousd),
        grants_nanousd=int(row.amount),
    )
