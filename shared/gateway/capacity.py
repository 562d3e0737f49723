"""Which models no call can be made of just now: jobs that ask for them wait where they are."""

from collections.abc import Mapping

from shared.clock import Clock
from shared.errors import RateLimitExceeded
from shared.gateway.catalog import Catalog
from shared.health.book import HealthBook
from shared.routing.route import Route, WeightedTarget

MOST_KNOWN = 10_000
LONGEST_S = 60.0
"""A refusal is believed for so long at most: the next call may be a smaller one."""


class FullBook:
    """The limits of our own, of routes and targets, that have refused a call, until they may not.

    One per process; its methods belong to the event loop.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s: dict[str, float] = {}

    def learn(self, scope: str, error: RateLimitExceeded) -> None:
        """Take note that the scope's limits have refused a call."""
        if len(self._until_s) >= MOST_KNOWN:
            self._until_s.clear()
        self._until_s[scope] = self._clock.monotonic() + min(LONGEST_S, error.retry_after_s)

    def now(self) -> Mapping[str, float]:
        """Return the scopes that are full, and until when, monotonic."""
        now_s = self._clock.monotonic()
        self._until_s = {name: at_s for name, at_s in self._until_s.items() if at_s > now_s}
        return self._until_s


class Capacity:
    """What could be called, by what this process has seen. One per process and catalog."""

    def __init__(self, catalog: Catalog, health: HealthBook, full: FullBook) -> None:
        self._catalog = catalog
        self._health = health
        self._full = full

    def standing_still(self) -> frozenset[str]:
        """Return the models, by the names that callers ask for, that no target would take.

        Each target is parked, limited, full or behind an open breaker, those of fallbacks and
        redirects too.
        Models under a wildcard are without number and not among them.
        """
        full = self._full.now()
        if self._health.all_closed and not full:
            return frozenset()
        routes = self._catalog.routes
        still = {name for name, route in routes.by_name.items() if self._stands(route, full)}
        still = {  # a rule may lead a call to a route that goes on
            name
            for name in still
            if all(rule.route in still for rule in routes.by_name[name].rules)
        }
        return frozenset(still | {one for one, name in routes.aliases.items() if name in still})

    def _stands(self, route: Route, full: Mapping[str, float]) -> bool:
        if f"route:{route.configured}" in full:
            return True
        redirects = (name for names in route.on_failure.values() for name in names)
        others = [self._catalog.routes.find(name) for name in (*route.fallbacks, *redirects)]
        return not any(
            self._takes(choice, full)
            for one in (route, *others)
            if one is not None
            for group in one.choices
            for choice in group
        )

    def _takes(self, choice: WeightedTarget, full: Mapping[str, float]) -> bool:
        if choice.limits is not None and choice.limits.name in full:
            return False
        return self._health.is_fit(choice.target)
