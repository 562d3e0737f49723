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


def test_a_moment_without_a_zone_is_none():
    with pytest.raises(ValueError, match="zone"):
        micros(datetime(2026, 1, 1))  # noqa: DTZ001 (that is what is wrong)
