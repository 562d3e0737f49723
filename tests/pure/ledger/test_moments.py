"""Moments as the databases keep them: whole microseconds, exactly."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.store.columns import micros, micros_of, moment_of


@given(
    st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001 (the zone is drawn apart)
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=-30))]),
    )
)
def test_a_moment_is_kept_exactly(moment):
    assert moment == moment_of(micros(moment))
    assert [micros(moment)] == micros_of([moment])


@given(
    after_us=st.lists(st.integers(-3_000_000, 3_000_000)),
    start=st.sampled_from([datetime(2026, 3, 5, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC)]),
    zones=st.lists(st.sampled_from([UTC, timezone(timedelta(hours=-7, seconds=-3))]), min_size=1),
)
def test_moments_of_the_same_seconds_are_kept_as_each_alone(after_us, start, zones):
    moments = [
        (start + timedelta(microseconds=us)).astimezone(zones[number % len(zones)])
        for number, us in enumerate(after_us)
    ]

    assert [micros(moment) for moment in moments] == micros_of(moments)


def test_a_moment_without_a_zone_is_none():
    with pytest.raises(ValueError, match="zone"):
        micros(datetime(2026, 1, 1))  # noqa: DTZ001 (that is what is wrong)
