"""The windows of budgets: where they begin and end, whatever the clocks of a zone do."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ledger.periods import period_at

MOMENTS = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001 (Hypothesis wants its bounds naive)
    datetime(2040, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Havana",  # midnight comes twice
        "Asia/Beirut",  # midnight is skipped
        "America/Scoresbysund",
        "Australia/Lord_Howe",  # half an hour of summer time
        "Asia/Kathmandu",
        "Pacific/Chatham",
    ]
)
WINDOWS = st.sampled_from(["hour", "day", "week", "month", "30d"])
DATES = st.none() | st.dates(date(2019, 1, 1), date(2041, 12, 31))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "window", "timezone", "starts_on", "starts_at", "ends_at"),
    [
        ("2026-03-05T09:30", "hour", "UTC", None, "2026-03-05T09:00", "2026-03-05T10:00"),
        ("2026-03-05T09:30", "hour", "Asia/Tokyo", None, "2026-03-05T09:00", "2026-03-05T10:00"),
        ("2026-03-05T09:30", "day", "UTC", None, "2026-03-05", "2026-03-06"),
        ("2026-03-05T04:59", "day", "America/Lima", None, "2026-03-04T05:00", "2026-03-05T05:00"),
        # 23 and 25 hours
        ("2026-03-29T12:00", "day", "Europe/Berlin", None, "2026-03-28T23:00", "2026-03-29T22:00"),
        ("2026-10-25T12:00", "day", "Europe/Berlin", None, "2026-10-24T22:00", "2026-10-25T23:00"),
        # Midnight comes twice in Havana, and its first one counts.
        ("2026-11-01T04:30", "day", "America/Havana", None, "2026-11-01T04:00", "2026-11-02T05:00"),
        ("2026-11-01T05:30", "day", "America/Havana", None, "2026-11-01T04:00", "2026-11-02T05:00"),
        # In Beirut it is skipped.
        ("2026-03-28T23:00", "day", "Asia/Beirut", None, "2026-03-28T22:00", "2026-03-29T21:00"),
        ("2026-03-05T09:30", "week", "UTC", None, "2026-03-02", "2026-03-09"),
        ("2026-03-05T09:30", "week", "UTC", date(2026, 1, 1), "2026-03-05", "2026-03-12"),
        ("2026-02-28T09:30", "month", "UTC", None, "2026-02-01", "2026-03-01"),
        ("2026-12-31T23:59", "month", "UTC", None, "2026-12-01", "2027-01-01"),
        ("2026-01-14T09:30", "month", "UTC", date(2020, 5, 15), "2025-12-15", "2026-01-15"),
        ("2026-02-28", "month", "UTC", date(2020, 1, 31), "2026-02-28", "2026-03-31"),
        ("2026-02-27T23:00", "month", "UTC", date(2020, 1, 31), "2026-01-31", "2026-02-28"),
        ("2026-03-05T09:30", "30d", "UTC", date(2026, 2, 3), "2026-03-05", "2026-04-04"),
        ("2026-01-15T09:30", "30d", "UTC", date(2026, 2, 3), "2026-01-04", "2026-02-03"),
        ("1970-01-15T09:30", "30d", "UTC", None, "1970-01-01", "1970-01-31"),
    ],
)  # fmt: skip
def test_periods(now, window, timezone, starts_on, starts_at, ends_at):
    period = period_at(moment(now), window, timezone=timezone, starts_on=starts_on)

    assert (moment(starts_at), moment(ends_at)) == (period.starts_at, period.ends_at)


@given(MOMENTS, WINDOWS, ZONES, DATES)
def test_a_period_holds_its_moment_and_the_next_begins_where_it_ends(
    now, window, timezone, starts_on
):
    period = period_at(now, window, timezone=timezone, starts_on=starts_on)
    after = period_at(period.ends_at, window, timezone=timezone, starts_on=starts_on)
    last = period.ends_at - timedelta(microseconds=1)

    assert period.starts_at <= now < period.ends_at
    assert period.ends_at == after.starts_at
    assert period == period_at(period.starts_at, window, timezone=timezone, starts_on=starts_on)
    assert period == period_at(last, window, timezone=timezone, starts_on=starts_on)
