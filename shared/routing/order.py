"""In which order a route's targets are tried; pure.

A strategy orders them, and stickiness puts one first.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from shared.providers.target import Target
from shared.routing.route import Route, WeightedTarget

Draw = Callable[[], float]
"""Returns a number in [0, 1); randomness as an argument."""


class Outlook(Protocol):
    """How targets are now, as far as this process knows."""

    def is_fit(self, target: Target) -> bool:
        """Return whether a call may be expected to go through."""

    def latency_s(self, target: Target) -> float:
        """Return how long its calls take, 0 when it was never asked."""

    def busy(self, target: Target) -> int:
        """Return how many calls are under way."""


class Calm:
    """An outlook for whoever has none: all are fit, idle and unknown."""

    def is_fit(self, _target: Target) -> bool:
        """Return True."""
        return True

    def latency_s(self, _target: Target) -> float:
        """Return 0: never asked."""
        return 0.0

    def busy(self, _target: Target) -> int:
        """Return 0."""
        return 0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request decides about its targets.

    Requests of one `sticky` key prefer one target. `cost_of` says what the request can cost at a
    target in nano-dollars, None where no price is known.
    """

    sticky: str | None = None
    cost_of: Callable[[WeightedTarget], int | None] = lambda _: None


def ordered(
    route: Route, facts: Facts, outlook: Outlook, draw: Draw, turn: int
) -> list[WeightedTarget]:
    """Return the route's targets, each of their credentials, in the order they are to be tried.

    With a sticky key the fit one that it is most drawn to comes first, whatever the strategy says.
    """
    match route.strategy:
        case "least_latency":
            choices = _by_latency(_all(route), outlook, draw)
        case "least_busy":
            choices = _by_busyness(_all(route), outlook, draw)
        case "least_cost":
            choices = sorted(_all(route), key=lambda one: _cost_key(facts.cost_of(one)))
        case _:
            choices = [
                one for group in _groups(route, draw, turn) for one in _shuffled(group, draw)
            ]
    if facts.sticky is not None:
        key = facts.sticky
        # The next of the fit ones takes the place of a home that is not, for all calls of a key.
        first = max(choices, key=lambda one: (outlook.is_fit(one.target), affinity(key, one)))
        choices = [first, *(one for one in choices if one is not first)]
    return choices


def affinity(key: str, choice: WeightedTarget) -> float:
    """Return how much a key is drawn to a target: rendezvous hashing, in proportion to weights.

    A target that comes or goes moves only the keys it wins or had (Thaler and Ravishankar, 1998;
    the logarithm weighs as in Schindelhauer and Schomaker, 2005).
    """
    target = choice.target
    name = f"{key}\x00{target.provider}\x00{target.model}\x00{target.credential}"
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    unit = (int.from_bytes(digest) + 1) / (2**64 + 1)
    return -target.weight * choice.weight / math.log(unit)


def weighted_order(weights: Sequence[int], draw: Draw) -> list[int]:
    """Return the indexes in an order drawn without replacement, by weight."""
    left, total = list(range(len(weights))), sum(weights)
    order = []
    while len(left) > 1:
        mark = draw() * total
        chosen = left[-1]
        for index in left:
            mark -= weights[index]
            if mark < 0:
                chosen = index
                break
        left.remove(chosen)
        order.append(chosen)
        total -= weights[chosen]
    return order + left


def _all(route: Route) -> list[WeightedTarget]:
    return [one for group in route.choices for one in group]


def _groups(route: Route, draw: Draw, turn: int) -> Iterable[Sequence[WeightedTarget]]:
    groups = list(route.choices)
    match route.strategy:
        case "weighted":
            weights = [group[0].target.weight for group in groups]
            return [groups[index] for index in weighted_order(weights, draw)]
        case "round_robin":
            start = turn % len(groups)
            return groups[start:] + groups[:start]
        case _:
            return groups


def _shuffled(group: Sequence[WeightedTarget], draw: Draw) -> Sequence[WeightedTarget]:
    if len(group) == 1:
        return group
    return [group[index] for index in weighted_order([one.weight for one in group], draw)]


def _by_latency(
    choices: list[WeightedTarget], outlook: Outlook, draw: Draw
) -> list[WeightedTarget]:
    """Return the better of two drawn at random first, then the others from the best.

    Always the best alone would send everybody to the target that was measured last (Mitzenmacher,
    2001: the power of two choices).
    """

    def load(choice: WeightedTarget) -> float:
        return outlook.latency_s(choice.target) * (outlook.busy(choice.target) + 1)

    by_chance = weighted_order([1] * len(choices), draw)
    first = min(by_chance[:2], key=lambda index: load(choices[index]))
    others = sorted(
        (index for index in by_chance if index != first), key=lambda i: load(choices[i])
    )
    return [choices[index] for index in (first, *others)]


def _by_busyness(
    choices: list[WeightedTarget], outlook: Outlook, draw: Draw
) -> list[WeightedTarget]:
    def load(choice: WeightedTarget) -> float:
        return (outlook.busy(choice.target) + 1) / (choice.target.weight * choice.weight)

    by_chance = weighted_order([1] * len(choices), draw)
    return [choices[index] for index in sorted(by_chance, key=lambda i: load(choices[i]))]


def _cost_key(cost_nanousd: int | None) -> tuple[bool, int]:
    return (cost_nanousd is None, cost_nanousd or 0)
