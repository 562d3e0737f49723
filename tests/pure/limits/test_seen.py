"""What Redis has last said of scopes."""

import math

import pytest

from shared.config.model import Limits
from shared.limits.limiter import Scope
from shared.limits.rules import State
from shared.limits.seen import MAX_SEEN, Seen

NO_RATE = (math.inf,) * 4


def scope(name="tenant:acme", **limits):
    return Scope(name=name, limits=Limits(**limits))


@pytest.mark.parametrize(
    ("limits", "levels", "used", "roomy"),
    [
        ({"rpm": 10}, (5, math.inf, math.inf, math.inf), 0, True),
        ({"rpm": 10}, (4.9, math.inf, math.inf, math.inf), 0, False),
        ({"tpd": 10}, (math.inf, math.inf, math.inf, -1), 0, False),
        ({"concurrency": 4}, NO_RATE, 1, True),
        ({"concurrency": 4}, NO_RATE, 2, False),
        ({"concurrency": 1}, NO_RATE, 1, False),
    ],
)
def test_a_scope_is_roomy_while_half_of_every_limit_is_left(limits, levels, used, roomy):
    seen, bound = Seen(), scope(**limits)
    seen.learn(1.0, [(bound, (levels, used))])

    assert roomy is seen.are_roomy([bound])
    assert {bound.name: State(1.0, levels)} == seen.states
    assert not seen.are_roomy([bound, scope("key:ci", rpm=1)]), "nothing is known of the other"


def test_what_was_not_used_for_longest_is_forgotten():
    seen = Seen()
    for number in range(MAX_SEEN + 1):
        seen.learn(1.0, [(scope(f"key:{number}", concurrency=9), (NO_RATE, 0))])

    assert MAX_SEEN == len(seen.states)
    assert not seen.are_roomy([scope("key:0", concurrency=9)])
    assert seen.are_roomy([scope("key:1", concurrency=9)])
