"""What is worth telling about money: thresholds, forecasts, spikes. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from shared.ledger.budgets import BudgetRule
from shared.ledger.periods import Period
from shared.store.records import Told

FULL = 100
"""Percent."""

FORECAST_FROM = 10
"""Percent of a window that must have passed: the first call of a month foretells nothing."""

_TICK = timedelta(microseconds=1)

LEAST_HOURS = 12
"""Hours with spending that a tenant must have behind it before one of them can stand out."""


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """How a window stands, in nano-dollars; the limit with its raises."""

    settled_nanousd: int
    held_nanousd: int = 0
    limit_nanousd: int


def crossed(
    before_nanousd: int, after_nanousd: int, limit_nanousd: int, thresholds: Sequence[int]
) -> tuple[int, ...]:
    """Return the thresholds (percent of the limit) passed between two sums, lowest first.

    Needs before <= after. A limit of zero crosses every threshold at the first cost.
    """
    return tuple(
        threshold
        for threshold in sorted(thresholds)
        if _reaches(after_nanousd, limit_nanousd, threshold)
        and not _reaches(before_nanousd, limit_nanousd, threshold)
    )


def forecast(settled_nanousd: int, period: Period, now: datetime) -> int | None:
    """Return what will have been spent when the window ends, if it goes on as it went so far.

    None while less than a tenth of the window has passed, and after its end.
    """
    whole, passed = period.ends_at - period.starts_at, now - period.starts_at
    if now >= period.ends_at or passed * FULL < whole * FORECAST_FROM:
        return None
    return settled_nanousd * (whole // _TICK) // (passed // _TICK)


def due(rule: BudgetRule, sums: Sums, period: Period, now: datetime) -> frozenset[Told]:
    """Return all that is true of a window and may be told, whether or not it has been.

    Thresholds count what is spent and what running calls hold; `exceeded` only what is spent. A
    forecast says nothing about a threshold that has been reached.
    """
    used = sums.settled_nanousd + sums.held_nanousd
    reached = crossed(0, used, sums.limit_nanousd, rule.thresholds)
    told: list[Told] = [("spent", threshold) for threshold in reached]
    expected = forecast(sums.settled_nanousd, period, now)
    if expected is not None:
        ahead = crossed(0, expected, sums.limit_nanousd, rule.thresholds)
        told += [("forecast", threshold) for threshold in ahead if threshold not in reached]
    if _reaches(sums.settled_nanousd, sums.limit_nanousd, FULL):
        told.append(("exceeded", FULL))
    return frozenset(told)


def news(found: frozenset[Told], told: frozenset[Told]) -> frozenset[Told]:
    """Return what is to be told of what is due.

    What was told to be reached is forecast no more, also when a raise or the end of calls that held
    more than they cost has put it ahead again.
    """
    return frozenset(
        one for one in found - told if one[0] != "forecast" or ("spent", one[1]) not in told
    )


def usual_hour(hours_nanousd: Sequence[int]) -> int | None:
    """Return the mean of the hours in which something was spent; None where they are few.

    Empty hours do not count: by night nobody works, and the morning would be a spike.
    """
    busy = [cost for cost in hours_nanousd if cost > 0]
    return sum(busy) // len(busy) if len(busy) >= LEAST_HOURS else None


def spiked(hour_nanousd: int, usual_nanousd: int, *, factor: float, floor_nanousd: int) -> bool:
    """Return whether an hour costs more than `factor` usual ones, and no mere trifle."""
    return hour_nanousd > floor_nanousd and hour_nanousd > usual_nanousd * factor


def _reaches(used_nanousd: int, limit_nanousd: int, threshold: int) -> bool:
    return used_nanousd > 0 and used_nanousd * FULL >= limit_nanousd * threshold
