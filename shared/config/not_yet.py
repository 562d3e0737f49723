"""What the file may say and this version does not do; never ignored in silence.

The table is the list: who makes a feature work removes its row, and nothing else. Pure.
"""

from collections.abc import Callable, Iterator

import msgspec

from shared.config.model import Breaker, Config, Limits, RouteConfig

Places = Iterator[str]
"""The paths at which a file uses a feature."""

_STRATEGIES = frozenset({"priority", "weighted", "round_robin"})


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that is read and not obeyed; `effect` says what happens instead."""

    feature: str
    effect: str
    places: Callable[[Config], Places]


def not_yet(config: Config) -> tuple[str, ...]:
    """Return a sentence for each feature that the config uses and this version lacks."""
    found = ((gap, list(gap.places(config))) for gap in GAPS)
    return tuple(
        f"not in this version yet: {gap.feature} ({_listed(places)}); {gap.effect}"
        for gap, places in found
        if places
    )


def _listed(places: list[str], most: int = 3) -> str:
    more = len(places) - most
    return ", ".join(places[:most]) + (f" and {more} more" if more > 0 else "")


def _target_limits(config: Config) -> Places:
    for route in config.routes:
        for number, target in enumerate(route.targets):
            if target.limits is not None and target.limits != Limits():
                yield f'routes["{route.model}"].targets[{number}].limits'


def _budgets(config: Config) -> Places:
    for route in config.routes:
        if route.budgets:
            yield f'routes["{route.model}"].budgets'
    for tenant in config.tenants:
        if tenant.users is not None and tenant.users.budgets:
            yield f'tenants["{tenant.id}"].users.budgets'
    if config.budgets:
        yield "budgets"


def _routes_with(field: str, uses: Callable[[RouteConfig], bool]) -> Callable[[Config], Places]:
    def places(config: Config) -> Places:
        for route in config.routes:
            if uses(route):
                yield f'routes["{route.model}"].{field}'

    return places


def _capabilities(config: Config) -> Places:
    for route in config.routes:
        for number, target in enumerate(route.targets):
            if target.capabilities:
                yield f'routes["{route.model}"].targets[{number}].capabilities'


def _alerts(config: Config) -> Places:
    for name in config.alerts.__struct_fields__:
        if getattr(config.alerts, name) is not None:
            yield f"alerts.{name}"


GAPS: tuple[Gap, ...] = (
    Gap(feature="limits of a target", effect="it is not limited", places=_target_limits),
    Gap(
        feature="budgets of routes, of users and at the top level",
        effect="costs are recorded, nothing is refused",
        places=_budgets,
    ),
    Gap(feature="alerts", effect="none is sent", places=_alerts),
    Gap(
        feature="the response cache",
        effect="every call reaches a provider",
        places=lambda config: iter(["cache.enabled"] if config.cache.enabled else []),
    ),
    Gap(
        feature="this strategy",
        effect="targets are tried in the file's order",
        places=_routes_with("strategy", lambda route: route.strategy not in _STRATEGIES),
    ),
    Gap(
        feature="the breaker",
        effect="failing targets are tried on every call",
        places=_routes_with("breaker", lambda route: route.breaker != Breaker()),
    ),
    Gap(
        feature="stream recovery",
        effect="a cut stream ends in an error event",
        places=_routes_with("stream_recovery", lambda route: route.stream_recovery != "off"),
    ),
    Gap(
        feature="refusing unsupported parameters",
        effect="they are passed on or dropped",
        places=_routes_with("unsupported", lambda route: route.unsupported != "drop"),
    ),
    Gap(
        feature="rules for unknown prices",
        effect="the cost is null",
        places=_routes_with("unknown_price", lambda route: route.unknown_price != "null"),
    ),
    Gap(feature="declared capabilities", effect="they are not consulted", places=_capabilities),
    Gap(
        feature="trusted proxies",
        effect="forwarded addresses are ignored",
        places=lambda config: iter(
            ["server.trusted_proxies"] if config.server.trusted_proxies else []
        ),
    ),
)
"""Remove a row when its feature works."""
