"""Spend windows in SQL: what each tenant spent per hour, day, week and month, frozen once closed.

Nothing is locked. The unique key (scope, window, start, sequence) decides between schedulers that
close the same window at once, and every run corrects by the difference to what lies below.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.config.conduct import SpendWindow
from shared.store.columns import EPOCH, micros, moment_of
from shared.store.engine import Tx
from shared.store.ledger import COUNTED, SUMS, counted
from shared.store.money_tables import ledger, spend_window, window_mark
from shared.store.records import WindowRow

HOUR = timedelta(hours=1)
HOUR_US = 3_600_000_000
TENANT = "tenant:"
"""How scopes begin."""

MANY = 500
"""Scopes that are named in a statement; of more than these all are read."""

Counts = Mapping[str, int]
"""By the names of `COUNTED`."""

_KEY = [column.name for column in spend_window.primary_key.columns]
_SPAN = [spend_window.c[name] for name in ("starts_at", "ends_at", "timezone")]
_SUMMED = [sa.func.sum(spend_window.c[name]).label(name) for name in COUNTED]


class Span(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """From `starts_at` to just before `ends_at`; both are midnights of the zone, or full hours."""

    starts_at: datetime
    ends_at: datetime
    timezone: str = "UTC"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far something has come: all before `closed_until`, and all written by `checked_at`."""

    closed_until: datetime
    checked_at: datetime


async def mark_of(tx: Tx, name: str) -> Mark | None:
    """Return how far it has come; None before its first run."""
    found = await tx.connection.execute(
        sa.select(window_mark.c.closed_until, window_mark.c.checked_at).where(
            window_mark.c.window == name
        )
    )
    row = found.one_or_none()
    return None if row is None else Mark(**row._asdict())


async def set_mark(tx: Tx, name: str, mark: Mark) -> None:
    """Remember how far it has come; a slower scheduler does not take the mark back."""
    insert = tx.insert(window_mark).values(window=name, **msgspec.structs.asdict(mark))
    await tx.connection.execute(
        insert.on_conflict_do_update(
            index_elements=["window"],
            set_={
                "closed_until": insert.excluded.closed_until,
                "checked_at": insert.excluded.checked_at,
            },
            where=window_mark.c.checked_at <= insert.excluded.checked_at,
        )
    )


async def next_spent(tx: Tx, since: datetime, until: datetime) -> datetime | None:
    """Return when the first attempt of that time ended; None when there is none."""
    ended_at = ledger.c.ended_at
    first = sa.select(sa.func.min(ended_at)).where(ended_at >= since, ended_at < until)
    found: datetime | None = (await tx.connection.execute(first)).scalar_one()
    return found


async def next_window(tx: Tx, window: SpendWindow, since: datetime) -> datetime | None:
    """Return when the first closed window begins that begins then or later; None for none."""
    columns = spend_window.c
    first = sa.select(sa.func.min(columns.starts_at)).where(
        columns.window == window, columns.starts_at >= since
    )
    found: datetime | None = (await tx.connection.execute(first)).scalar_one()
    return found


async def late_hours(tx: Tx, recorded_since: datetime, *, until: datetime) -> set[datetime]:
    """Return the hours before `until` of attempts that were recorded since that moment."""
    ended_at = sa.type_coerce(ledger.c.ended_at, sa.BigInteger)
    hour = (ended_at - ended_at % HOUR_US).label("hour")
    rows = await tx.connection.execute(
        sa.select(hour)
        .where(ledger.c.recorded_at >= recorded_since, ended_at < micros(until))
        .distinct()
    )
    return {moment_of(row.hour) for row in rows}


async def late_windows(
    tx: Tx, window: SpendWindow, closed_since: datetime, *, before: datetime
) -> list[tuple[str, Span]]:
    """Return scope and span of the windows written since a moment that begin before another."""
    columns = spend_window.c
    rows = await tx.connection.execute(
        sa.select(columns.scope, *_SPAN)
        .where(
            columns.window == window,
            columns.closed_at >= closed_since,
            columns.starts_at < before,
        )
        .distinct()
    )
    return [(row.scope, _span(row)) for row in rows]


async def spent_in(
    tx: Tx, since: datetime, until: datetime, scopes: Collection[str] | None = None
) -> dict[str, dict[str, int]]:
    """Return what the ledger says about attempts that ended in that time, per scope."""
    query = sa.select(ledger.c.tenant_id, *SUMS).where(
        ledger.c.ended_at >= since, ledger.c.ended_at < until
    )
    if scopes is not None and len(scopes) <= MANY:
        names = [scope.removeprefix(TENANT) for scope in scopes]
        query = query.where(ledger.c.tenant_id.in_(names))
    rows = await tx.connection.execute(query.group_by(ledger.c.tenant_id))
    return {TENANT + row.tenant_id: counted(row) for row in rows}


async def summed(
    tx: Tx,
    window: SpendWindow,
    since: datetime,
    until: datetime,
    scopes: Collection[str] | None = None,
) -> dict[str, dict[str, int]]:
    """Return the sums of the closed windows that begin in that time, per scope."""
    query = sa.select(spend_window.c.scope, *_SUMMED).where(
        spend_window.c.window == window,
        spend_window.c.starts_at >= since,
        spend_window.c.starts_at < until,
    )
    if scopes is not None and len(scopes) <= MANY:
        query = query.where(spend_window.c.scope.in_(scopes))
    rows = await tx.connection.execute(query.group_by(spend_window.c.scope))
    return {row.scope: counted(row) for row in rows}


async def correct(
    tx: Tx, window: SpendWindow, span: Span, totals: Mapping[str, Counts], now: datetime
) -> list[WindowRow]:
    """Close a window for these scopes, or write what has come in since; return the new rows.

    A scope without traffic gets none. Another scheduler's rows stay: what they lack comes with the
    next run.
    """
    before = await _closed(tx, window, span.starts_at)
    rows: dict[str, WindowRow] = {}
    for scope in sorted(totals):  # two schedulers insert in one order: no deadlock
        sequence, known = before.get(scope, (0, dict.fromkeys(COUNTED, 0)))
        difference = {name: totals[scope][name] - known[name] for name in COUNTED}
        if any(difference.values()):
            rows[scope] = WindowRow(
                scope=scope,
                window=window,
                starts_at=span.starts_at,
                sequence=sequence,
                ends_at=span.ends_at,
                timezone=span.timezone,
                closed_at=now,
                **difference,
            )
    if not rows:
        return []
    statement = tx.insert(spend_window).on_conflict_do_nothing(index_elements=_KEY)
    written = await tx.connection.execute(
        statement.returning(spend_window.c.scope),
        [msgspec.structs.asdict(row) for row in rows.values()],
    )
    return [rows[scope] for scope in sorted(written.scalars())]


async def windows_of(
    tx: Tx, scope: str, since: datetime, until: datetime, window: SpendWindow = "hour"
) -> list[WindowRow]:
    """Return a scope's closed windows that start from `since` to just before `until`, in order."""
    rows = await tx.connection.execute(
        sa.select(spend_window)
        .where(
            spend_window.c.scope == scope,
            spend_window.c.window == window,
            spend_window.c.starts_at >= since,
            spend_window.c.starts_at < until,
        )
        .order_by(spend_window.c.starts_at, spend_window.c.sequence)
    )
    return [WindowRow(**row._asdict()) for row in rows]


async def overlapping(
    tx: Tx, window: SpendWindow, scopes: Sequence[str], span: Span, *, longest: timedelta
) -> dict[str, list[Span]]:
    """Return the closed windows of these scopes that share a moment with the span, in order.

    None of that kind is longer than `longest`.
    """
    columns = spend_window.c
    query = sa.select(columns.scope, *_SPAN).where(
        columns.window == window,
        columns.starts_at >= span.starts_at - longest,
        columns.starts_at < span.ends_at,
        columns.ends_at > span.starts_at,
        columns.sequence == 0,
    )
    if len(scopes) <= MANY:
        query = query.where(columns.scope.in_(scopes))
    found: dict[str, list[Span]] = {}
    for row in await tx.connection.execute(query.order_by(columns.starts_at)):
        found.setdefault(row.scope, []).append(_span(row))
    return found


async def last_of_other_zones(
    tx: Tx, window: SpendWindow, timezone: str, since: datetime, until: datetime
) -> dict[str, datetime]:
    """Return the scopes whose last closed window of that time is another zone's, and its end."""
    columns = spend_window.c
    other = columns.timezone != timezone
    elsewhere = sa.func.max(columns.ends_at).filter(other)
    here = sa.func.max(columns.ends_at).filter(~other)
    rows = await tx.connection.execute(
        sa.select(columns.scope, elsewhere.label("ends_at"))
        .where(columns.window == window, columns.starts_at >= since, columns.starts_at < until)
        .group_by(columns.scope)
        .having(elsewhere > sa.func.coalesce(here, sa.literal(EPOCH, columns.ends_at.type)))
    )
    return {row.scope: row.ends_at for row in rows}


async def _closed(
    tx: Tx, window: SpendWindow, starts_at: datetime
) -> dict[str, tuple[int, dict[str, int]]]:
    """Return for each scope the next sequence of that window, and the sums written so far."""
    rows = await tx.connection.execute(
        sa.select(
            spend_window.c.scope, (sa.func.max(spend_window.c.sequence) + 1).label("next"), *_SUMMED
        )
        .where(spend_window.c.window == window, spend_window.c.starts_at == starts_at)
        .group_by(spend_window.c.scope)
    )
    return {row.scope: (row.next, counted(row)) for row in rows}


def _span(row: sa.Row[Any]) -> Span:
    return Span(starts_at=row.starts_at, ends_at=row.ends_at, timezone=row.timezone)
