"""Counts that anyone may write are cut to what fits a row; the quick look misses none of them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.usage import COUNTS, MOST_TOKENS, Usage, bounded

ANY = st.integers(-5, 5) | st.integers(MOST_TOKENS - 5, MOST_TOKENS + 5)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize(("count", "kept"), [(-1, 0), (MOST_TOKENS + 1, MOST_TOKENS)])
def test_each_count_is_cut(name, count, kept):
    assert Usage(**{name: kept}) == bounded(Usage(**{name: count}))


@given(st.dictionaries(st.sampled_from(COUNTS), ANY))
def test_what_is_within_stays(counts):
    usage = Usage(**counts, service_tier="flex")
    cut = {name: min(max(count, 0), MOST_TOKENS) for name, count in counts.items()}

    assert msgspec.structs.replace(usage, **cut) == bounded(usage)


def test_all_numbers_but_the_price_are_counts():
    numbers = {field.name for field in msgspec.structs.fields(Usage) if field.type is int}

    assert numbers == set(COUNTS)
