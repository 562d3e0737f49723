"""Compares what is summed up with what it is made of; whatever differs is a fault."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from shared.config.conduct import SpendWindow
from shared.ledger.windows import LONGEST, OVERLAP, WINDOWS, below, hour_of, totals_of
from shared.store.columns import MICROSECOND
from shared.store.drift import (
    closed_by_hour,
    left_out,
    scopes_of,
    spans_between,
    spent_by_hour,
    written_since,
    wrongly_granted,
)
from shared.store.engine import Tx
from shared.store.ledger import COUNTED
from shared.store.retention import kept_since
from shared.store.windows import (
    HOUR,
    late_hours,
    mark_of,
    next_spent,
    next_window,
    summed,
)

SLICE = timedelta(days=1)
"""Hours that are compared at a time, so that memory does not grow with the ledger."""

NOTHING = dict.fromkeys(COUNTED, 0)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One sum that is not what it should be.

    `what` is `hour`, `day`, `week`, `month` or `granted`; `subject` a scope or a budget's id;
    `name` the figure that differs, in its own unit.
    """

    what: str
    subject: str
    starts_at: datetime
    name: str
    expected: int
    found: int

    @property
    def nanousd(self) -> int:
        """Return how much money it is about; 0 where it is a count."""
        return abs(self.expected - self.found) if self.name.endswith("_nanousd") else 0


async def window_differences(tx: Tx, since: datetime, until: datetime) -> list[Difference]:
    """Return where closed windows of that time are not what lies below them, hours first.

    That is the ledger for hours. What has come in just now is left to the next comparison, because
    it is not due to be in the windows yet; and so is what has been forgotten.
    """
    found: list[Difference] = []
    since = max(since, await kept_since(tx))
    for window in WINDOWS:
        found += (
            await _hours(tx, since, until)
            if window == "hour"
            else await _rolled(tx, window, since, until)
        )
    return found


async def grant_differences(tx: Tx) -> list[Difference]:
    """Return the windows of budgets whose grants do not add up to what they say is granted."""
    return [
        Difference(
            what="granted",
            subject=one.budget_id,
            starts_at=one.starts_at,
            name="granted_nanousd",
            expected=one.grants_nanousd,
            found=one.window_nanousd,
        )
        for one in await wrongly_granted(tx)
    ]


async def _hours(tx: Tx, since: datetime, until: datetime) -> list[Difference]:
    mark = await mark_of(tx, "hour")
    if mark is None:
        return []
    until = min(until, mark.closed_until)
    unsettled = await late_hours(tx, mark.checked_at - OVERLAP, until=until)
    found: list[Difference] = []
    cursor = hour_of(since + HOUR - MICROSECOND)
    while (begin := await _next_hour(tx, cursor, until)) is not None:
        cursor = min(begin + SLICE, until)
        expected = await spent_by_hour(tx, begin, cursor)
        said = await closed_by_hour(tx, begin, cursor)
        for scope, hour in sorted({*expected, *said}, key=lambda key: (key[1], key[0])):
            if hour not in unsettled:
                sums = expected.get((scope, hour), NOTHING), said.get((scope, hour), NOTHING)
                found += _differences("hour", scope, hour, *sums)
    return found


async def _next_hour(tx: Tx, since: datetime, until: datetime) -> datetime | None:
    """Return the next hour that the ledger or a window knows of."""
    moments = (await next_spent(tx, since, until), await next_window(tx, "hour", since))
    hours = [hour_of(moment) for moment in moments if moment is not None and moment < until]
    return min(hours, default=None)


async def _rolled(
    tx: Tx, window: SpendWindow, since: datetime, until: datetime
) -> list[Difference]:
    mark = await mark_of(tx, window)
    if mark is None:
        return []
    until = min(until, mark.closed_until)
    lower = below(window)
    kept = await kept_since(tx)
    unsettled = await written_since(tx, lower, mark.checked_at - OVERLAP)
    found: list[Difference] = []
    for span in await spans_between(tx, window, since, until):
        if window == "day" and span.starts_at < kept:
            continue  # its first hours are forgotten
        if any(span.starts_at - HOUR < moment < span.ends_at for moment in unsettled):
            continue
        scopes = await scopes_of(tx, window, span)
        expected = await totals_of(tx, window, span, scopes)
        said = await summed(tx, window, span.starts_at, span.starts_at + MICROSECOND, scopes)
        for scope in sorted(scopes):
            sums = expected.get(scope, NOTHING), said.get(scope, NOTHING)
            found += _differences(window, scope, span.starts_at, *sums)
    # By then whatever holds them has ended, and is closed.
    since, until = max(kept, since - LONGEST[window]), until - LONGEST[window]
    for (scope, starts_at), cost in (await left_out(tx, lower, window, since, until)).items():
        if starts_at not in unsettled:
            sums = {**NOTHING, "cost_nanousd": cost}, NOTHING
            found += _differences(window, scope, starts_at, *sums)
    return found


def _differences(
    what: str,
    scope: str,
    starts_at: datetime,
    expected: Mapping[str, int],
    found: Mapping[str, int],
) -> list[Difference]:
    return [
        Difference(
            what=what,
            subject=scope,
            starts_at=starts_at,
            name=name,
            expected=expected[name],
            found=found[name],
        )
        for name in COUNTED
        if expected[name] != found[name]
    ]
