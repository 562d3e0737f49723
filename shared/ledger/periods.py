"""When the windows of a budget begin and end, in its time zone. Pure."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import assert_never
from zoneinfo import ZoneInfo

import msgspec

from shared.config.model import Window

_HOUR = timedelta(hours=1)
_EPOCH = date(1970, 1, 1)
_MONDAY = date(1970, 1, 5)


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """From `starts_at` to just before `ends_at`, in UTC."""

    starts_at: datetime
    ends_at: datetime


def period_at(
    now: datetime, window: Window, *, timezone: str = "UTC", starts_on: date | None = None
) -> Period:
    """Return the period that holds the moment; periods follow each other without a gap.

    All but hours begin at midnight of the zone, so that a day may have 23 or 25 hours; a midnight
    that the clocks skip is the moment after it. Hours are UTC's in every zone. Weeks begin on
    Monday and months on the 1st, or on the weekday and the day of month of `starts_on` (the 31st
    is the last day of shorter months). Spans of 30 days are counted from `starts_on`, else from
    1970-01-01; also backwards, so that a budget binds before its `starts_on` too.
    """
    if window == "hour":
        start = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return Period(starts_at=start, ends_at=start + _HOUR)
    zone = ZoneInfo(timezone)
    first, after = _days(now.astimezone(zone).date(), window, starts_on)
    return Period(starts_at=_midnight(first, zone), ends_at=_midnight(after, zone))


def _days(
    today: date,
    window: Window,
    starts_on: date | None,
) -> tuple[date, date]:
    """Return the first day of the period and the day after its last."""
    match window:
        case "day" | "hour":
            return today, today + timedelta(days=1)
        case "week":
            return _span(today, starts_on or _MONDAY, 7)
        case "30d":
            return _span(today, starts_on or _EPOCH, 30)
        case "month":
            return _month(today, 1 if starts_on is None else starts_on.day)
        case _:
            assert_never(window)


def _span(today: date, anchor: date, days: int) -> tuple[date, date]:
    first = today - timedelta(days=(today - anchor).days % days)
    return first, first + timedelta(days=days)


def _month(today: date, day: int) -> tuple[date, date]:
    months = today.year * 12 + today.month - 1
    if today < _day_of(months, day):
        months -= 1
    return _day_of(months, day), _day_of(months + 1, day)


def _day_of(months: int, day: int) -> date:
    """Return that day of a month counted from year 0, or the month's last."""
    year, month = divmod(months, 12)
    after = date(year + month // 11, (month + 1) % 12 + 1, 1)
    last = after - timedelta(days=1)
    return last if day > last.day else last.replace(day=day)


def _midnight(day: date, zone: tzinfo) -> datetime:
    # Of a midnight that comes twice the first counts; one that is skipped is taken with the
    # offset before the change, which is the moment of the change.
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
