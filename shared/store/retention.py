"""Forgetting what windows were made of, long after they were closed."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from shared.store.columns import EPOCH
from shared.store.engine import Tx
from shared.store.money_tables import budget_alert, budget_raise, budget_window, spend_window
from shared.store.windows import Mark, mark_of, set_mark

AT_ONCE = 1000
"""Rows of one table that are deleted in one transaction."""

KEPT = "kept"
"""The mark of what has been forgotten: hours before its moment may be gone."""

_LONGEST = timedelta(days=32)
"""No window of a budget is longer."""

_DAYS = timedelta(days=3)
"""Hours of days that were not closed by then are kept: the days are made of them."""


async def kept_since(tx: Tx) -> datetime:
    """Return the moment from which closed hours are whole; those before may be forgotten."""
    mark = await mark_of(tx, KEPT)
    return EPOCH if mark is None else mark.closed_until


async def prune(tx: Tx, now: datetime, keep: timedelta) -> int:
    """Forget closed hours, ended windows of budgets and expired raises; return how many rows.

    That is up to 1,000 of each, `keep` after they ended. Days, weeks and months stay, as the
    ledger does; so do windows of budgets that somebody still has a grant of.
    """
    until = now - keep
    days = await mark_of(tx, "day")
    hours_until = EPOCH if days is None else min(until, days.closed_until - _DAYS)
    hours_until = max(hours_until, await kept_since(tx))
    # Said first, in the same transaction: nobody may take a missing row for a fault.
    await set_mark(tx, KEPT, Mark(closed_until=hours_until, checked_at=now))
    hours, windows, alerts, raises = (
        spend_window.c, budget_window.c, budget_alert.c, budget_raise.c
    )  # fmt: skip
    return (
        await _delete(tx, spend_window, hours.window == "hour", hours.ends_at <= hours_until)
        + await _delete(
            tx, budget_window, windows.starts_at < until - _LONGEST, windows.granted_nanousd == 0
        )
        + await _delete(tx, budget_alert, alerts.starts_at < until - _LONGEST)
        + await _delete(tx, budget_raise, raises.expires_at < until)
    )


async def _delete(tx: Tx, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
    key = sa.tuple_(*table.primary_key.columns)
    some = sa.select(*table.primary_key.columns).where(*conditions).limit(AT_ONCE)
    deleted = await tx.connection.execute(sa.delete(table).where(key.in_(some)))
    return deleted.rowcount
