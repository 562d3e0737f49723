"""The plan of one request: which targets to try, in which order. Pure."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import msgspec

from shared.config.model import Breaker, Hedge, Retry, StreamRecovery, Timeouts
from shared.config.price import PriceTerms
from shared.errors import FailureKind
from shared.limits.limiter import Scope
from shared.providers.target import Target
from shared.routing.order import Calm, Draw, Facts, Outlook, ordered
from shared.routing.route import Route, Routes, WeightedTarget

CALM = Calm()
NO_FACTS = Facts()

MOST_IN_LOTS = 5
MOST_DRAWN = 120
"""Plans kept for one route: all the orders of five targets."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One target to try, with the policies of the route it comes from.

    `price` says how the target's price is found. `limits` are its own, None where it has none.
    """

    route: str
    target: Target
    retry: Retry
    timeouts: Timeouts
    breaker: Breaker = Breaker()
    hold_output_tokens: int = 4096
    price: PriceTerms = PriceTerms()
    limits: Scope | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Steps in order; `redirects` replaces what is left after a failure of that kind.

    `configured` is the route's name in the file: a wildcard stands for many routes. `retry_share`
    is that of its requests which may be tried again. `redirected` is the kind of failure that had
    led to these steps, when they are a redirect's.
    """

    route: str
    configured: str
    steps: tuple[Step, ...]
    redirects: Mapping[FailureKind, tuple[Step, ...]] = {}
    redirected: FailureKind | None = None
    total_s: float = 600.0
    retry_share: float = Retry().share
    stream_recovery: StreamRecovery = "off"
    hedge: Hedge = Hedge()


def build_plan(
    route: Route,
    find: Callable[[str], Route | None],
    draw: Draw,
    turn: int = 0,
    *,
    facts: Facts = NO_FACTS,
    outlook: Outlook = CALM,
    order: Sequence[WeightedTarget] | None = None,
) -> Plan:
    """Return the plan: a permutation of the route's targets, then its fallbacks' targets.

    `turn` counts the route's requests and decides for round robin. Fallbacks are not recursive
    and a target stands in the plan once, where it comes first. Those that are not fit now come last
    of all: they are tried when nothing else is left. `order` is the route's own, drawn before.
    """
    if order is None:
        order = ordered(route, facts, outlook, draw, turn)
    steps = _steps(route, order)
    for name in route.fallbacks:
        if (fallback := find(name)) is not None:
            steps += _steps(fallback, ordered(fallback, facts, outlook, draw, turn))
    redirects = {
        kind: _fit_first(
            _first_of_each(
                [
                    step
                    for name in names
                    if (other := find(name)) is not None
                    for step in _steps(other, ordered(other, facts, outlook, draw, turn))
                ]
            ),
            outlook,
        )
        for kind, names in route.on_failure.items()
    }
    return Plan(
        route=route.model,
        configured=route.configured,
        steps=_fit_first(_first_of_each(steps), outlook),
        redirects=redirects,
        total_s=route.timeouts.total_s,
        retry_share=route.retry.share,
        stream_recovery=route.stream_recovery,
        hedge=route.hedge,
    )


def fixed_plans(routes: Routes) -> dict[str, Plan]:
    """Return the plans that chance and turns have no part in, by the route's name.

    Most routes have one; building it for every call would cost more than looking it up.
    """
    return {
        name: build_plan(route, routes.find, _never)
        for name, route in routes.by_name.items()
        if _is_fixed(route) and follows_order(route, routes)
    }


class Lot:
    """One draw among the targets that are left: up to which mark it is whose, and what follows.

    What is past all marks is the last one's. `drawn` are the places of those before. What follows
    is built once it is drawn.
    """

    __slots__ = ("drawn", "follow", "left", "marks", "total")

    def __init__(self, weights: Sequence[int], drawn: tuple[int, ...] = ()) -> None:
        self.drawn = drawn
        self.left = [place for place in range(len(weights)) if place not in drawn]
        *self.marks, self.total = accumulate(weights[place] for place in self.left)
        self.follow: list[Lot | Plan | None] = [None] * len(self.left)


class Lots:
    """The plans of a route whose targets are drawn by weight and by nothing else."""

    def __init__(self, route: Route, routes: Routes) -> None:
        self._route = route
        self._routes = routes
        self._weights = [group[0].target.weight for group in route.choices]
        self._first = self._following(())

    def drawn(self, draw: Draw) -> Plan:
        """Draw an order as `weighted_order` does; return its plan.

        It is for when nothing stands in the way of any target.
        """
        lot = self._first
        while isinstance(lot, Lot):
            place = bisect_right(lot.marks, draw() * lot.total)
            following = lot.follow[place]
            if following is None:
                following = self._following((*lot.drawn, lot.left[place]))
                lot.follow[place] = following
            lot = following
        return lot

    def _following(self, drawn: tuple[int, ...]) -> Lot | Plan:
        """Return what comes after these places were drawn: one that is left is not drawn for."""
        if len(self._weights) - len(drawn) > 1:
            return Lot(self._weights, drawn)
        left = [place for place in range(len(self._weights)) if place not in drawn]
        order = [self._route.choices[place][0] for place in (*drawn, *left)]
        return build_plan(self._route, self._routes.find, _never, order=order)


def lots_of(routes: Routes) -> dict[str, Lots]:
    """Return the lots of those routes that have some, by the route's name."""
    return {
        name: Lots(route, routes)
        for name, route in routes.by_name.items()
        if route.strategy == "weighted"
        and route.sticky == "off"
        and len(route.choices) <= MOST_IN_LOTS
        and all(len(group) == 1 for group in route.choices)
        and follows_order(route, routes)
    }


def follows_order(route: Route, routes: Routes) -> bool:
    """Return whether the plan of a route is known when the order of its own targets is.

    As long as nothing stands in the way of any target, that is.
    """
    others = [*route.fallbacks, *(name for names in route.on_failure.values() for name in names)]
    return all(_is_fixed(found) for other in others if (found := routes.find(other)))


def _is_fixed(route: Route) -> bool:
    if len(route.choices) == 1 and len(route.choices[0]) == 1:
        return True
    one_each = all(len(group) == 1 for group in route.choices)
    return route.strategy == "priority" and route.sticky == "off" and one_each


def _never() -> float:
    raise AssertionError("a fixed plan was drawn for")


def _steps(route: Route, order: Sequence[WeightedTarget]) -> list[Step]:
    return [
        Step(
            route=route.model,
            target=choice.target,
            retry=route.retry,
            timeouts=route.timeouts,
            breaker=route.breaker,
            hold_output_tokens=route.hold_output_tokens,
            price=choice.price,
            limits=choice.limits,
        )
        for choice in order
    ]


def _first_of_each(steps: Sequence[Step]) -> tuple[Step, ...]:
    seen: set[tuple[str, str, str]] = set()
    kept = []
    for step in steps:
        key = (step.target.provider, step.target.model, step.target.credential)
        if key not in seen:
            seen.add(key)
            kept.append(step)
    return tuple(kept)


def _fit_first(steps: tuple[Step, ...], outlook: Outlook) -> tuple[Step, ...]:
    unfit = tuple(step for step in steps if not outlook.is_fit(step.target))
    if not unfit:
        return steps
    return (*(step for step in steps if step not in unfit), *unfit)
