"""Strategies: which target is asked first, by what is known of them."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.providers.target import Target
from shared.routing.order import Facts, Outlook, affinity, ordered
from shared.routing.plan import NO_FACTS, build_plan
from shared.routing.route import Route, WeightedTarget

STRATEGIES = ("priority", "weighted", "round_robin", "least_latency", "least_cost", "least_busy")


class Known:
    """An outlook from three tables by model."""

    def __init__(self, latency=(), busy=(), unfit=()) -> None:
        self._latency, self._busy, self._unfit = dict(latency), dict(busy), set(unfit)

    def is_fit(self, target: Target) -> bool:
        return target.model not in self._unfit

    def latency_s(self, target: Target) -> float:
        return self._latency.get(target.model, 0.0)

    def busy(self, target: Target) -> int:
        return self._busy.get(target.model, 0)


def choice(model: str, weight: int = 1, credential: str = "default") -> WeightedTarget:
    target = Target(provider="p", model=model, weight=weight, credential=credential)
    return WeightedTarget(target=target, weight=1)


def make_route(strategy: str, models: str = "abc") -> Route:
    return Route(
        model="m",
        configured="m",
        strategy=strategy,  # type: ignore[arg-type]
        choices=tuple((choice(model),) for model in models),
    )


def names(
    route: Route, outlook: Outlook, facts: Facts = NO_FACTS, draw: float = 0.0, turn: int = 0
) -> str:
    return "".join(one.target.model for one in ordered(route, facts, outlook, lambda: draw, turn))


def test_the_cheapest_for_this_request_comes_first_and_the_unknown_last():
    costs = {"a": 30, "b": None, "c": 10}

    found = names(
        make_route("least_cost"), Known(), Facts(cost_of=lambda one: costs[one.target.model])
    )

    assert "cab" == found


def test_the_least_busy_comes_first():
    assert "bca" == names(make_route("least_busy"), Known(busy={"a": 5, "b": 0, "c": 2}))


def test_busyness_is_measured_by_weight():
    """Twice the weight bears twice the calls."""
    route = make_route("least_busy")
    heavy = msgspec.structs.replace(
        route, choices=((choice("a", weight=4),), (choice("b", weight=1),))
    )

    assert "ab" == names(heavy, Known(busy={"a": 2, "b": 0}))
    assert "ba" == names(heavy, Known(busy={"a": 4, "b": 0}))


def test_of_two_drawn_the_faster_comes_first():
    """Not always the fastest of all, which everybody would rush to."""
    known = Known(latency={"a": 3.0, "b": 2.0, "c": 1.0})

    assert "bca" == names(make_route("least_latency"), known, draw=0.0)  # a and b are drawn
    assert "cba" == names(make_route("least_latency"), known, draw=0.99)  # c and b


def test_calls_under_way_count_as_time():
    known = Known(latency={"a": 1.0, "b": 1.5}, busy={"a": 3})

    assert "ba" == names(make_route("least_latency", "ab"), known)


def test_who_was_never_asked_is_asked_first():
    assert "ba" == names(make_route("least_latency", "ab"), Known(latency={"a": 0.1}))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_key_sticks_to_one_target(strategy):
    route = make_route(strategy, "abcdef")
    firsts = {
        names(route, Known(), Facts(sticky="session-1"), draw=draw / 10, turn=turn)[0]
        for draw in range(10)
        for turn in range(6)
    }

    assert 1 == len(firsts)


def test_keys_are_spread_by_weight():
    heavy, light = choice("a", weight=3), choice("b", weight=1)
    firsts = Counter(
        max((heavy, light), key=lambda one: affinity(f"key-{number}", one)).target.model
        for number in range(4_000)
    )

    assert 2_850 < firsts["a"] < 3_150


@given(
    key=st.text(),
    gone=st.sampled_from("abcdef"),
    unfit=st.sets(st.sampled_from("abcdef"), max_size=5),
)
def test_a_target_that_goes_moves_only_its_own_keys(key, gone, unfit):
    """Whether it is taken out or only unfit for a while."""
    facts, known = Facts(sticky=key), Known(unfit=unfit)
    before = names(make_route("priority", "abcdef"), known, facts)[0]
    without = names(make_route("priority", "abcdef".replace(gone, "")), known, facts)[0]
    down = names(make_route("priority", "abcdef"), Known(unfit=unfit | {gone}), facts)[0]

    assert before in {gone, without}
    assert before in {gone, down}


@given(
    strategy=st.sampled_from(STRATEGIES),
    key=st.text(),
    unfit=st.sets(st.sampled_from("abcdef")),
    calls=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 9)), min_size=2, max_size=6
    ),
)
def test_a_key_stays_together_while_its_target_is_down(strategy, key, unfit, calls):
    """It keeps to the next of the fit ones; behind that the strategy goes on as ever."""
    route, known = make_route(strategy, "abcdef"), Known(unfit=unfit)
    found = [names(route, known, Facts(sticky=key), draw, turn) for draw, turn in calls]
    first = found[0][0]

    assert {first} == {order[0] for order in found}
    assert first not in unfit or len(unfit) == 6
    for order, (draw, turn) in zip(found, calls, strict=True):
        assert order[1:] == names(route, known, draw=draw, turn=turn).replace(first, "")


@given(
    strategy=st.sampled_from(STRATEGIES),
    models=st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True),
    latency=st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 100)),
    busy=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9)),
    unfit=st.sets(st.sampled_from("abcdefgh")),
    sticky=st.none() | st.text(),
    draw=st.floats(0, 1, exclude_max=True),
    turn=st.integers(0, 99),
)
def test_a_plan_is_a_permutation_with_the_unfit_last(
    strategy, models, latency, busy, unfit, sticky, draw, turn
):
    plan = build_plan(
        make_route(strategy, "".join(models)),
        lambda _: None,
        lambda: draw,
        turn,
        facts=Facts(sticky=sticky),
        outlook=Known(latency, busy, unfit),
    )
    found = [step.target.model for step in plan.steps]

    assert sorted(models) == sorted(found)
    fits = [model not in unfit for model in found]
    assert sorted(fits, reverse=True) == fits
