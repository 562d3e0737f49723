"""Closing spend windows: what a tenant spent per hour, frozen, with late arrivals beside it.

Nothing is locked. The unique key (scope, window, start, sequence) decides between schedulers
that close the same hour at once, and every run corrects by the difference to the ledger.
"""

from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from shared.store.columns import EPOCH, micros, moment_of
from shared.store.engine import Tx
from shared.store.ledger import COUNTED, SUMS, counted
from shared.store.records import WindowRow
from shared.store.tables import ledger, spend_window, window_mark

HOUR = timedelta(hours=1)
HOUR_US = 3_600_000_000
WINDOW = "hour"

OVERLAP = timedelta(minutes=10)
"""How far before the last run late rows are looked for again: longer than any transaction that
wrote its moment first and committed afterwards, plus what the clocks of two hosts differ by."""


async def close_hours(tx: Tx, now: datetime, *, grace_s: float = 120, look_back_h: int = 48) -> int:
    """Close every hour that ended `grace_s` seconds ago or earlier; return how many rows it wrote.

    An attempt belongs to the hour it ended in. An hour without traffic gets no row; what comes in
    for a closed hour becomes a row with the next `sequence`, however late. The first run ever
    looks `look_back_h` hours back. Running twice, or in two processes at once, changes nothing.
    """
    ended = _hour_of(now - timedelta(seconds=grace_s))
    mark = await _mark(tx)
    closed_until = ended - look_back_h * HOUR if mark is None else mark.closed_until
    hours = {closed_until + n * HOUR for n in range(max(0, (ended - closed_until) // HOUR))}
    if mark is not None:
        hours |= await _late_hours(tx, mark.checked_at - OVERLAP, until=min(ended, closed_until))
    written = 0
    for hour in sorted(hours):
        written += await _close(tx, hour, now)
    await _set_mark(tx, _Mark(closed_until=max(ended, closed_until), checked_at=now))
    return written


async def windows_of(tx: Tx, scope: str, since: datetime, until: datetime) -> list[WindowRow]:
    """Return a scope's closed hours that start from `since` to just before `until`, in order."""
    rows = await tx.connection.execute(
        sa.select(spend_window)
        .where(
            spend_window.c.scope == scope,
            spend_window.c.window == WINDOW,
            spend_window.c.starts_at >= since,
            spend_window.c.starts_at < until,
        )
        .order_by(spend_window.c.starts_at, spend_window.c.sequence)
    )
    return [WindowRow(**row._asdict()) for row in rows]


class _Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far closing has come: every hour before, and every row recorded before."""

    closed_until: datetime
    checked_at: datetime


async def _mark(tx: Tx) -> _Mark | None:
    found = await tx.connection.execute(
        sa.select(window_mark.c.closed_until, window_mark.c.checked_at).where(
            window_mark.c.window == WINDOW
        )
    )
    row = found.one_or_none()
    return None if row is None else _Mark(**row._asdict())


async def _set_mark(tx: Tx, mark: _Mark) -> None:
    insert = tx.insert(window_mark).values(window=WINDOW, **msgspec.structs.asdict(mark))
    await tx.connection.execute(
        insert.on_conflict_do_update(
            index_elements=["window"],
            # A slower scheduler must not take the mark back.
            set_={
                "closed_until": insert.excluded.closed_until,
                "checked_at": insert.excluded.checked_at,
            },
            where=window_mark.c.checked_at < insert.excluded.checked_at,
        )
    )


async def _late_hours(tx: Tx, recorded_since: datetime, *, until: datetime) -> set[datetime]:
    ended_at = sa.type_coerce(ledger.c.ended_at, sa.BigInteger)
    hour = (ended_at - ended_at % HOUR_US).label("hour")
    rows = await tx.connection.execute(
        sa.select(hour)
        .where(ledger.c.recorded_at >= recorded_since, ended_at < micros(until))
        .distinct()
    )
    return {moment_of(row.hour) for row in rows}


async def _close(tx: Tx, hour: datetime, now: datetime) -> int:
    """Write the differences between ledger and windows for one hour; return how many there were."""
    spent = await tx.connection.execute(
        sa.select(ledger.c.tenant_id, *SUMS)
        .where(ledger.c.ended_at >= hour, ledger.c.ended_at < hour + HOUR)
        .group_by(ledger.c.tenant_id)
        .order_by(ledger.c.tenant_id)  # two schedulers insert in one order: no deadlock
    )
    before = await _closed(tx, hour)
    rows = []
    for row in spent:
        scope = f"tenant:{row.tenant_id}"
        sequence, known = before.get(scope, (0, dict.fromkeys(COUNTED, 0)))
        difference = {name: value - known[name] for name, value in counted(row).items()}
        if any(difference.values()):
            key = {"scope": scope, "window": WINDOW, "starts_at": hour, "sequence": sequence}
            rows.append({**key, **difference, "closed_at": now})
    if not rows:
        return 0
    key_columns = list(spend_window.primary_key.columns.keys())
    statement = tx.insert(spend_window).on_conflict_do_nothing(index_elements=key_columns)
    inserted = await tx.connection.execute(statement.returning(spend_window.c.scope), rows)
    return len(inserted.all())


async def _closed(tx: Tx, hour: datetime) -> dict[str, tuple[int, dict[str, int]]]:
    """Return for each scope the next sequence of that hour, and the sums written so far."""
    sums = [sa.func.sum(spend_window.c[name]).label(name) for name in COUNTED]
    rows = await tx.connection.execute(
        sa.select(
            spend_window.c.scope,
            (sa.func.max(spend_window.c.sequence) + 1).label("next"),
            *sums,
        )
        .where(spend_window.c.window == WINDOW, spend_window.c.starts_at == hour)
        .group_by(spend_window.c.scope)
    )
    return {row.scope: (row.next, counted(row)) for row in rows}


def _hour_of(moment: datetime) -> datetime:
    return moment - (moment - EPOCH) % HOUR
