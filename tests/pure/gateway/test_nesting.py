"""How deep a body may be nested."""

import json

from hypothesis import given
from hypothesis import strategies as st

from shared.gateway.nesting import MOST_LEVELS, is_too_deep

VALUES = st.recursive(
    st.none() | st.text(alphabet='ab[]{}"\\\n', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("a[{", max_size=2), inner),
    max_leaves=30,
)


def levels(value: object) -> int:
    inside = value.values() if isinstance(value, dict) else value
    return 1 + max(map(levels, inside), default=0) if isinstance(value, list | dict) else 0


@given(value=VALUES, around=st.integers(0, MOST_LEVELS), pad=st.integers(0, MOST_LEVELS))
def test_only_levels_count(value: object, around: int, pad: int):
    """However many things stand side by side, and whatever their texts say."""
    whole = [[], *[[]] * pad, value]
    for _ in range(around):
        whole = [whole]
    body = json.dumps(whole, indent=1).encode()

    assert (levels(whole) > MOST_LEVELS) == is_too_deep(body)
