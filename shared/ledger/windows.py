"""Closes spend windows: hours from the ledger, days from hours, weeks and months from days.

A run closes what has ended since the one before, however long ago that was, and corrects what came
in late by rows of its own: a closed window is never opened again. Running twice, or in two
processes at once, changes nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from shared.config.conduct import SpendWindow
from shared.config.model import Config
from shared.ledger.periods import period_at
from shared.store.columns import EPOCH, MICROSECOND
from shared.store.engine import Store, Tx
from shared.store.records import WindowRow
from shared.store.retention import kept_since
from shared.store.windows import (
    HOUR,
    TENANT,
    Mark,
    Span,
    correct,
    last_of_other_zones,
    late_hours,
    late_windows,
    mark_of,
    next_spent,
    next_window,
    overlapping,
    set_mark,
    spent_in,
    summed,
)

WINDOWS: tuple[SpendWindow, ...] = ("hour", "day", "week", "month")
"""From the shortest to the longest, as they are closed."""

GRACE_S = 120.0
"""How long after its end a window is closed: most of what is under way arrives in time."""

OVERLAP = timedelta(minutes=10)
"""How far before the last run late rows are looked for again: longer than any transaction that
wrote its moment first and committed afterwards, plus what the clocks of two hosts differ by."""

AT_ONCE = 48
"""Windows closed in one transaction after a long stop."""

_DAY = timedelta(days=1)
LONGEST: dict[SpendWindow, timedelta] = {
    "hour": HOUR,
    "day": _DAY * 2,
    "week": _DAY * 8,
    "month": _DAY * 33,
}
"""No window of a kind is longer, whatever the clocks of its zone do."""

_LOOK_BACK = _DAY * 70
"""How far behind a window the last one of another zone may lie."""

Tell = Callable[[Tx, Sequence[WindowRow]], Awaitable[None]]
"""Tells of rows that are new, with the transaction."""


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """Whose midnights end the windows of whom; `others` are scopes with a zone of their own."""

    timezone: str = "UTC"
    others: Mapping[str, str] = {}

    @property
    def zones(self) -> tuple[str, ...]:
        """All zones, in order."""
        return tuple(sorted({self.timezone, *self.others.values()}))

    def zone_of(self, scope: str) -> str:
        """Return the zone of a scope."""
        return self.others.get(scope, self.timezone)


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has written, and whether nothing else was due."""

    rows: list[WindowRow] = []
    done: bool = True


def calendar_of(config: Config) -> Calendar:
    """Return the calendar that the config gives its tenants."""
    others = {TENANT + one.id: one.timezone for one in config.tenants if one.timezone is not None}
    return Calendar(timezone=config.billing.timezone, others=others)


async def close_windows(store: Store, calendar: Calendar, tell: Tell) -> int:
    """Close all that has ended, each kind of window in transactions of its own; return how many.

    Raises:
        StoreUnavailable: what was committed stays; the next run does the rest.
    """
    count = 0
    for window in WINDOWS:
        done = False
        while not done:
            async with store.write() as tx:
                now = await tx.now()
                closed = (
                    await close_hours(tx, now)
                    if window == "hour"
                    else await roll(tx, window, calendar, now)
                )
                await tell(tx, closed.rows)
            count += len(closed.rows)
            done = closed.done
    return count


async def close_hours(tx: Tx, now: datetime, *, grace_s: float = GRACE_S) -> Closed:
    """Close the hours that ended `grace_s` seconds ago or earlier, and correct earlier ones.

    An attempt belongs to the hour it ended in. An hour without traffic gets no row; what comes in
    for a closed hour becomes a row with the next `sequence`, however late.
    """
    ended = hour_of(now - timedelta(seconds=grace_s))
    mark = await mark_of(tx, "hour")
    first = EPOCH if mark is None else mark.closed_until
    due: list[datetime] = []
    cursor = first
    while len(due) < AT_ONCE and (spent := await next_spent(tx, cursor, ended)) is not None:
        due.append(hour_of(spent))
        cursor = due[-1] + HOUR
    late: set[datetime] = set()
    if mark is not None:
        kept = await kept_since(tx)
        found = await late_hours(tx, mark.checked_at - OVERLAP, until=min(ended, first))
        late = {hour for hour in found if hour >= kept}
    rows: list[WindowRow] = []
    for hour in sorted({*late, *due}):
        totals = await spent_in(tx, hour, hour + HOUR)
        rows += await correct(tx, "hour", Span(starts_at=hour, ends_at=hour + HOUR), totals, now)
    done = len(due) < AT_ONCE
    until = max(first, ended if done else cursor)
    await set_mark(tx, "hour", Mark(closed_until=until, checked_at=now))
    return Closed(rows=rows, done=done)


async def roll(
    tx: Tx, window: SpendWindow, calendar: Calendar, now: datetime, *, grace_s: float = GRACE_S
) -> Closed:
    """Close the days, weeks or months that have ended, as far as what they are made of is closed.

    They are bounded by midnights of their tenants' zones. After a change of the zone a tenant's
    windows go on where its last one ended: none overlaps another, and none is left out.
    """
    lower = below(window)
    base = await mark_of(tx, lower)
    if base is None:
        return Closed()
    mark = await mark_of(tx, window)
    ended = base.closed_until
    if window == "day":  # what is no full hour of it comes from the ledger
        ended = min(now - timedelta(seconds=grace_s), ended + HOUR - MICROSECOND)
    first = await next_window(tx, lower, EPOCH) or ended if mark is None else mark.closed_until
    due, done = await _due(tx, window, calendar, first, ended)
    rows = [] if mark is None else await _correct_late(tx, window, calendar, mark, now)
    for span in due:
        rows += await _close(tx, window, span, calendar, now)
    until = max(first, ended if done else due[-1].ends_at)
    await set_mark(tx, window, Mark(closed_until=until, checked_at=now))
    return Closed(rows=rows, done=done)


def hour_of(moment: datetime) -> datetime:
    """Return when the moment's hour began."""
    return moment - (moment - EPOCH) % HOUR


def span_at(moment: datetime, window: SpendWindow, timezone: str) -> Span:
    """Return the calendar's window that holds the moment."""
    period = period_at(moment, window, timezone=timezone)
    return Span(starts_at=period.starts_at, ends_at=period.ends_at, timezone=timezone)


def uncovered(span: Span, closed: Iterable[Span]) -> list[Span]:
    """Return the parts of a span that no closed window holds; these are in order."""
    parts, cursor = [], span.starts_at
    for one in closed:
        if cursor < one.starts_at:
            parts.append(Span(starts_at=cursor, ends_at=one.starts_at, timezone=span.timezone))
        cursor = max(cursor, one.ends_at)
    if cursor < span.ends_at:
        parts.append(Span(starts_at=cursor, ends_at=span.ends_at, timezone=span.timezone))
    return parts


async def totals_of(
    tx: Tx, window: SpendWindow, span: Span, scopes: Collection[str] | None = None
) -> dict[str, dict[str, int]]:
    """Return what a day, week or month adds up to by what lies below it, per scope.

    More than the `scopes` may be in it.
    """
    if window != "day":
        return await summed(tx, "day", span.starts_at, span.ends_at, scopes)
    first, last = hour_of(span.starts_at + HOUR - MICROSECOND), hour_of(span.ends_at)
    if first > last:
        return await spent_in(tx, span.starts_at, span.ends_at, scopes)
    parts = [await summed(tx, "hour", first, last, scopes)]
    for since, until in ((span.starts_at, first), (last, span.ends_at)):
        if since < until:
            parts.append(await spent_in(tx, since, until, scopes))
    return _added(parts)


async def _due(
    tx: Tx, window: SpendWindow, calendar: Calendar, first: datetime, ended: datetime
) -> tuple[list[Span], bool]:
    """Return the windows of all zones that ended in that time, and whether these are all.

    Empty ones are left out where there are many.
    """
    spans: list[Span] = []
    more = False
    for zone in calendar.zones:
        span, count = span_at(first, window, zone), 0
        while span.ends_at <= ended and count <= AT_ONCE:
            spans.append(span)
            count += 1
            # An hour may begin in one day of the zone and end in the next.
            found = await next_window(tx, below(window), span.ends_at - HOUR)
            if found is None:
                break
            span = span_at(max(found, span.ends_at), window, zone)
        more = more or count > AT_ONCE
    spans.sort(key=lambda span: (span.ends_at, span.timezone))
    if not more:
        return spans, True
    last = spans[AT_ONCE - 1].ends_at
    return [span for span in spans if span.ends_at <= last], False


async def _close(
    tx: Tx, window: SpendWindow, span: Span, calendar: Calendar, now: datetime
) -> list[WindowRow]:
    """Close one window of a zone for all its tenants."""
    since = span.starts_at - _LOOK_BACK
    moved = {
        scope: ends_at
        for scope, ends_at in (
            await last_of_other_zones(tx, window, span.timezone, since, span.ends_at)
        ).items()
        if calendar.zone_of(scope) == span.timezone
    }
    totals = {
        scope: total
        for scope, total in (await totals_of(tx, window, span)).items()
        if calendar.zone_of(scope) == span.timezone and scope not in moved
    }
    rows = await correct(tx, window, span, totals, now)
    pieces: defaultdict[Span, set[str]] = defaultdict(set)
    for scope, ends_at in moved.items():
        for piece in _pieces(ends_at, span, window):
            pieces[piece].add(scope)
    return rows + await _correct(tx, window, pieces, now)


def _pieces(since: datetime, span: Span, window: SpendWindow) -> Iterable[Span]:
    """Yield the windows from a moment to the end of a span, cut where the zone's calendar does."""
    while since < span.ends_at:
        ends_at = span_at(since, window, span.timezone).ends_at
        yield Span(starts_at=since, ends_at=ends_at, timezone=span.timezone)
        since = ends_at


async def _correct_late(
    tx: Tx, window: SpendWindow, calendar: Calendar, mark: Mark, now: datetime
) -> list[WindowRow]:
    """Write what has come in for windows that are closed."""
    lower = below(window)
    kept = await kept_since(tx)
    changed: defaultdict[Span, set[str]] = defaultdict(set)
    for scope, low in await late_windows(
        tx, lower, mark.checked_at - OVERLAP, before=mark.closed_until
    ):
        zone = calendar.zone_of(scope)
        for moment in (low.starts_at, low.ends_at - MICROSECOND):
            span = span_at(moment, window, zone)
            if lower != "hour" or span.starts_at >= kept:
                changed[span].add(scope)
    pieces: defaultdict[Span, set[str]] = defaultdict(set)
    for span, scopes in changed.items():
        closed = await overlapping(tx, window, sorted(scopes), span, longest=LONGEST[window])
        ended = span.ends_at <= mark.closed_until
        for scope in scopes:
            # Also in a span that is open may lie a closed window: another zone's.
            known = closed.get(scope, [])
            for piece in (*known, *(uncovered(span, known) if ended else ())):
                pieces[piece].add(scope)
    return await _correct(tx, window, pieces, now)


async def _correct(
    tx: Tx, window: SpendWindow, pieces: Mapping[Span, set[str]], now: datetime
) -> list[WindowRow]:
    rows: list[WindowRow] = []
    for piece in sorted(pieces):
        scopes = pieces[piece]
        found = await totals_of(tx, window, piece, scopes)
        totals = {scope: total for scope, total in found.items() if scope in scopes}
        rows += await correct(tx, window, piece, totals, now)
    return rows


def below(window: SpendWindow) -> SpendWindow:
    """Return the kind of windows that a day, week or month is made of."""
    return "hour" if window == "day" else "day"


def _added(parts: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for part in parts:
        for scope, counts in part.items():
            sums[scope].update(counts)
    return {scope: dict(counts) for scope, counts in sums.items()}
