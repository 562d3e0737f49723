"""Plans: the order targets are tried in."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.model import (
    Config,
    NamedKey,
    ProviderConfig,
    RouteConfig,
    TargetConfig,
)
from shared.config.price import Price
from shared.errors import FailureKind
from shared.routing.order import weighted_order
from shared.routing.plan import Plan, build_plan, lots_of
from shared.routing.route import Routes, compile_routes, direct_route


def make_routes(strategy: str = "priority", **over: object) -> Routes:
    """Three targets on `m`, one on each of the fallbacks `f` and `g`."""
    return compile_routes(
        Config(
            providers={
                name: ProviderConfig(kind="mock") for name in ("alpha", "beta", "gamma", "spare")
            },
            routes=(
                RouteConfig(
                    model="m",
                    aliases=("also-m",),
                    strategy=strategy,  # type: ignore[arg-type]
                    targets=(
                        TargetConfig(provider="alpha", model="a", weight=8),
                        TargetConfig(provider="beta", model="b", weight=1),
                        TargetConfig(provider="gamma", model="c", weight=1),
                    ),
                    fallbacks=("f",),
                    on_failure={"context_length": ("g",), "content_filter": ()},
                ),
                RouteConfig(
                    model="f",
                    targets=(
                        TargetConfig(provider="spare", model="s"),
                        TargetConfig(provider="alpha", model="a"),
                    ),
                    fallbacks=("g",),
                ),
                RouteConfig(model="g", targets=(TargetConfig(provider="spare", model="long"),)),
                RouteConfig(model="open/*", targets=(TargetConfig(provider="alpha", model="x-*"),)),
            ),
        )
    )


def plan_of_name(routes: Routes, model: str, draw: float = 0.0) -> Plan:
    route = routes.find(model)
    assert route is not None
    return build_plan(route, routes.find, lambda: draw)


def plan_of(routes: Routes, draw: float = 0.0, turn: int = 0) -> Plan:
    route = routes.find("m")
    assert route is not None
    return build_plan(route, routes.find, lambda: draw, turn)


def names(plan: Plan) -> list[str]:
    return [step.target.name for step in plan.steps]


def test_priority_is_the_files_order_then_the_fallbacks() -> None:
    """Fallbacks are not recursive, and no target stands in a plan twice."""
    assert ["alpha/a", "beta/b", "gamma/c", "spare/s"] == names(plan_of(make_routes()))


@pytest.mark.parametrize(
    ("turn", "first"), [(0, "alpha/a"), (1, "beta/b"), (2, "gamma/c"), (3, "alpha/a")]
)
def test_round_robin_starts_one_further_each_time(turn: int, first: str) -> None:
    """And goes round."""
    assert first == names(plan_of(make_routes("round_robin"), turn=turn))[0]


def test_weights_are_shares() -> None:
    """Over even draws the first target gets its share exactly."""
    routes = make_routes("weighted")
    firsts = Counter(names(plan_of(routes, draw=mark / 100))[0] for mark in range(100))

    assert {"alpha/a": 80, "beta/b": 10, "gamma/c": 10} == firsts


def test_kinds_of_failure_have_their_own_routes() -> None:
    """An empty list means: falls back nowhere."""
    redirects = plan_of(make_routes()).redirects

    assert ["spare/long"] == [step.target.name for step in redirects[FailureKind.CONTEXT_LENGTH]]
    assert () == redirects[FailureKind.CONTENT_FILTER]


def test_names_aliases_and_wildcards_find_their_route() -> None:
    """A wildcard's target takes what the star matched."""
    routes = make_routes()
    wild = routes.find("open/gpt")

    assert routes.find("m") == routes.find("also-m")
    assert wild is not None
    assert ("open/gpt", "x-gpt") == (wild.model, wild.choices[0][0].target.model)
    assert routes.find("open/") is None
    assert routes.find("nothing") is None
    assert ["m", "f", "g", "also-m"] == routes.names()


def test_several_credentials_are_several_targets() -> None:
    """By weight, so that a refused key is followed by another of the same provider."""
    provider = ProviderConfig(
        kind="openai",
        api_keys=(NamedKey(name="k1", key="1", weight=3), NamedKey(name="k2", key="2")),
    )
    route = direct_route("team/gpt", {"team": provider})
    assert route is not None

    def order(draw: float) -> list[str]:
        plan = build_plan(route, lambda _: None, lambda: draw)
        return [step.target.credential for step in plan.steps]

    assert ["k1", "k2"] == order(0.0)
    assert ["k2", "k1"] == order(0.9)


@pytest.mark.parametrize("model", ["team", "team/", "other/gpt", "/gpt"])
def test_only_configured_providers_are_addressed_directly(model: str) -> None:
    """`provider/model` needs both halves."""
    assert direct_route(model, {"team": ProviderConfig(kind="mock")}) is None


@given(
    weights=st.lists(st.integers(1, 100), min_size=1, max_size=8),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_weighted_order_is_a_permutation(weights: list[int], draw: float) -> None:
    """Every target is tried, none twice."""
    assert list(range(len(weights))) == sorted(weighted_order(weights, lambda: draw))


def test_a_configs_price_goes_with_its_target() -> None:
    """Under a wildcard too, where route and model get other names; a target's beats its route's."""
    dear, cheap = (Price(input_per_mtok=usd, output_per_mtok=usd) for usd in ("9", "1"))
    routes = compile_routes(
        Config(
            providers={"a": ProviderConfig(kind="mock"), "b": ProviderConfig(kind="mock")},
            routes=(
                RouteConfig(
                    model="w/*",
                    price=cheap,
                    targets=(
                        TargetConfig(provider="a", model="*", price=dear),
                        TargetConfig(provider="b", model="*"),
                    ),
                ),
            ),
        )
    )

    plan = plan_of_name(routes, "w/x")

    assert [("w/x", "x", dear), ("w/x", "x", cheap)] == [
        (step.route, step.target.model, step.price.price) for step in plan.steps
    ]


def test_equal_targets_keep_their_own_prices() -> None:
    """Weighted, each of the two may come first; it costs what stands beside it."""
    prices = [Price(input_per_mtok=usd, output_per_mtok=usd) for usd in ("9", "1")]
    routes = compile_routes(
        Config(
            providers={"a": ProviderConfig(kind="mock")},
            routes=(
                RouteConfig(
                    model="m",
                    strategy="weighted",
                    targets=tuple(TargetConfig(provider="a", model="x", price=p) for p in prices),
                ),
            ),
        )
    )

    firsts = [plan_of_name(routes, "m", draw).steps[0].price.price for draw in (0.0, 0.9)]

    assert prices == firsts


def test_a_wildcards_routes_share_their_configured_name() -> None:
    """What is kept for each route must not grow with the names that callers invent."""
    routes = make_routes()
    found = [routes.find(name) for name in ("open/1", "open/2", "m", "also-m")]

    assert ["open/*", "open/*", "m", "m"] == [route.configured for route in found if route]


LOTS = lots_of(make_routes("weighted"))["m"]


@given(draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2))
def test_lots_draw_the_plan_that_would_be_built(draws: list[float]):
    """The same order from the same chance, with the fallbacks and redirects behind it."""
    routes = make_routes("weighted")
    route = routes.find("m")
    assert route is not None

    drawn = LOTS.drawn(iter(draws).__next__)

    assert build_plan(route, routes.find, iter(draws).__next__) == drawn
    assert LOTS.drawn(iter(draws).__next__) is drawn


@pytest.mark.parametrize("strategy", ["priority", "round_robin", "least_latency", "least_cost"])
def test_only_weights_make_lots(strategy: str):
    assert "m" not in lots_of(make_routes(strategy))
