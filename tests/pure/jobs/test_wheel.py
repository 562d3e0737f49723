"""The classes' shares of the claims."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.wheel import ClassWheel


def test_shares_are_the_weights():
    wheel = ClassWheel({"interactive": 8, "default": 3, "batch": 1})

    firsts = Counter(wheel.turn()[0] for _ in range(24))

    assert {"interactive": 16, "default": 6, "batch": 2} == firsts


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 20), min_size=1, max_size=6))
def test_no_class_starves(weights):
    """Each class has its turns within one round, whatever the weights."""
    wheel = ClassWheel(weights)

    firsts = Counter(wheel.turn()[0] for _ in range(sum(weights.values())))

    assert weights == firsts


def test_a_turn_names_every_class_once():
    wheel = ClassWheel({"a": 1, "b": 5, "c": 3})

    assert ("b", "c", "a") == wheel.turn()
    assert {"a", "b", "c"} == set(wheel.turn())


@pytest.mark.parametrize("weights", [{}, {"a": -1}])
def test_a_wheel_needs_weights(weights):
    with pytest.raises(ValueError, match="weights"):
        ClassWheel(weights)


@given(
    st.dictionaries(st.text(max_size=3), st.integers(1, 20), min_size=1, max_size=6),
    st.lists(st.integers(1, 40), max_size=8),
)
def test_shares_of_many_are_those_of_one_by_one(weights, counts):
    """However the slots come free, each class has as many of them."""
    at_once, singly = ClassWheel(weights), ClassWheel(weights)

    for count in counts:
        expected = Counter(singly.turn()[0] for _ in range(count))
        assert expected == Counter(at_once.turns(count))


def test_a_class_that_waits_gains_weight():
    """A minute is worth one more; nobody outweighs the heaviest, and it passes."""
    wheel = ClassWheel({"interactive": 8, "default": 3, "batch": 1})

    wheel.age({"batch": 180.0, "default": 3600.0, "interactive": 3600.0})
    assert {"interactive": 8, "default": 8, "batch": 4} == wheel.turns(20)

    wheel.age({})
    assert {"interactive": 8, "default": 3, "batch": 1} == wheel.turns(12)
