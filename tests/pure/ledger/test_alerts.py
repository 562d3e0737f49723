"""What is worth telling about money."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.model import Budget
from shared.ledger.alerts import Sums, crossed, due, forecast, spiked, usual_hour
from shared.ledger.periods import Period
from shared.ledger.rule import rule_of

MIDNIGHT = datetime(2026, 3, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = Period(starts_at=MIDNIGHT, ends_at=MIDNIGHT + 24 * HOUR)
USUAL = (50, 80, 100)
amounts = st.integers(min_value=0, max_value=10**15)


@pytest.mark.parametrize(
    ("before", "after", "limit", "expected"),
    [
        (0, 499, 1000, ()),
        (0, 500, 1000, (50,)),
        (499, 500, 1000, (50,)),
        (500, 799, 1000, ()),
        (500, 1200, 1000, (80, 100)),
        (0, 5000, 1000, (50, 80, 100)),
        (0, 0, 0, ()),
        (0, 1, 0, (50, 80, 100)),
        (1, 2, 0, ()),
        (0, 333, 665, (50,)),
        (0, 332, 665, ()),
    ],
)
def test_thresholds_are_crossed_between_two_sums(before, after, limit, expected):
    assert expected == crossed(before, after, limit, (100, 50, 80))


@given(
    steps=st.lists(amounts, max_size=8),
    limit=amounts,
    thresholds=st.sets(st.integers(min_value=1, max_value=1000), max_size=6),
)
def test_a_threshold_is_crossed_once_however_the_spending_is_cut(steps, limit, thresholds):
    """The law that telling once rests on."""
    total, seen = 0, []
    for step in steps:
        seen += crossed(total, total + step, limit, sorted(thresholds))
        total += step

    assert list(crossed(0, total, limit, sorted(thresholds))) == sorted(seen)


@pytest.mark.parametrize(
    ("hours", "spent", "expected"),
    [
        (0.0, 10, None),  # the first call of a window foretells nothing
        (2.39, 10, None),
        (2.4, 10, 100),
        (6.0, 10, 40),
        (12.0, 7, 14),
        (23.0, 23, 24),
        (24.0, 10, None),
        (30.0, 10, None),
        (12.0, 10**18, 2 * 10**18),
    ],
)
def test_a_forecast_is_what_it_comes_to_if_it_goes_on(hours, spent, expected):
    assert expected == forecast(spent, DAY, MIDNIGHT + hours * HOUR)


def told(spent, *, held=0, hours=1.0, limit=1000, **budget):
    rule = rule_of("tenant:acme/day", "acme", Budget(window="day", limit_usd="1", **budget))
    sums = Sums(settled_nanousd=spent, held_nanousd=held, limit_nanousd=limit)
    return due(rule, sums, DAY, MIDNIGHT + hours * HOUR)


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ({"spent": 0}, set()),
        ({"spent": 500}, {("spent", 50)}),
        ({"spent": 100, "held": 400}, {("spent", 50)}),
        ({"spent": 999}, {("spent", 50), ("spent", 80)}),
        ({"spent": 100, "held": 900}, {("spent", 50), ("spent", 80), ("spent", 100)}),
        ({"spent": 1000}, {("spent", 50), ("spent", 80), ("spent", 100), ("exceeded", 100)}),
        ({"spent": 300, "hours": 12}, {("forecast", 50)}),
        ({"spent": 300, "hours": 6}, {("forecast", 50), ("forecast", 80), ("forecast", 100)}),
        ({"spent": 500, "hours": 12}, {("spent", 50), ("forecast", 80), ("forecast", 100)}),
        ({"spent": 900, "limit": 2000}, set()),  # raised
        ({"spent": 950, "thresholds": (95,)}, {("spent", 95)}),
        ({"spent": 1000, "thresholds": ()}, {("exceeded", 100)}),
        ({"spent": 1, "limit": 0, "thresholds": (80,)}, {("spent", 80), ("exceeded", 100)}),
    ],
)
def test_what_is_due(sums, expected):
    """Held money counts towards a threshold; exceeded is only what is spent."""
    assert expected == told(**sums)


def test_the_usual_hour_is_one_with_work_in_it():
    """Nights do not make mornings a spike, and a new tenant has nothing usual."""
    assert 20 == usual_hour([10, 30] * 6 + [0] * 100)
    assert usual_hour([10] * 11 + [0] * 100) is None
    assert usual_hour([]) is None


@pytest.mark.parametrize(
    ("hour", "usual", "expected"),
    [(31, 10, True), (30, 10, False), (100, 40, False), (5, 1, False)],
)
def test_a_spike_is_far_above_usual_and_no_trifle(hour, usual, expected):
    assert expected == spiked(hour, usual, factor=3.0, floor_nanousd=5)
