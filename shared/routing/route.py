"""Routes compiled from the config: a public model name, its targets, its policies."""

from collections.abc import Mapping, Sequence

import msgspec

from shared.config.model import (
    Breaker,
    Config,
    Hedge,
    ProviderConfig,
    Retry,
    RouteConfig,
    Sticky,
    Strategy,
    StreamRecovery,
    TargetConfig,
    Timeouts,
)
from shared.config.price import Price, PriceTerms, product
from shared.errors import FailureKind
from shared.limits.limiter import Scope
from shared.limits.scopes import target_scopes
from shared.providers.target import Target
from shared.routing.rules import Rule, compile_rules


class WeightedTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A target and its share; one per credential when a provider has several.

    `price` says how its price is found. `limits` are the target's own, one count for all of its
    credentials.
    """

    target: Target
    weight: int
    price: PriceTerms = PriceTerms()
    limits: Scope | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What `model` means.

    `choices` are groups: one for each configured target, with an entry for each credential that
    may be used. `configured` is the name in the file: a wildcard's routes have many names, this one
    is the same for all of them.
    """

    model: str
    configured: str
    strategy: Strategy
    choices: tuple[tuple[WeightedTarget, ...], ...]
    rules: tuple[Rule, ...] = ()
    fallbacks: tuple[str, ...] = ()
    on_failure: Mapping[FailureKind, tuple[str, ...]] = {}
    timeouts: Timeouts = Timeouts()
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    sticky: Sticky = "off"
    stream_recovery: StreamRecovery = "off"
    hedge: Hedge = Hedge()
    hold_output_tokens: int = 4096


class Routes(msgspec.Struct, frozen=True, kw_only=True):
    """Every route by its name, aliases beside them, wildcards (`openai/*`) apart."""

    by_name: Mapping[str, Route]
    aliases: Mapping[str, str] = {}
    wildcards: tuple[tuple[str, Route], ...] = ()

    def find(self, model: str) -> Route | None:
        """Return the route for a name, an alias or the longest matching wildcard."""
        route = self.by_name.get(model) or self.by_name.get(self.aliases.get(model, ""))
        if route is not None:
            return route
        for prefix, wildcard in self.wildcards:
            if model.startswith(prefix) and len(model) > len(prefix):
                return resolved(wildcard, prefix, model)
        return None

    def names(self) -> list[str]:
        """Return what callers may ask for by name, routes first, then aliases."""
        return [*self.by_name, *self.aliases]


def compile_routes(config: Config) -> Routes:
    """Return the routes of a checked config, in the file's order."""
    by_name: dict[str, Route] = {}
    aliases: dict[str, str] = {}
    wildcards: list[tuple[str, Route]] = []
    limits = target_scopes(config)
    models = {name: one.model for one in config.routes for name in (one.model, *one.aliases)}
    for entry in config.routes:
        route = _compiled(entry, config.providers, limits, models)
        if entry.model.endswith("*"):
            wildcards.append((entry.model[:-1], route))
        else:
            by_name[entry.model] = route
        aliases |= dict.fromkeys(entry.aliases, entry.model)
    wildcards.sort(key=lambda pair: -len(pair[0]))
    return Routes(by_name=by_name, aliases=aliases, wildcards=tuple(wildcards))


def direct_route(model: str, providers: Mapping[str, ProviderConfig]) -> Route | None:
    """Return a route for `provider/model`, addressed without one in the file."""
    provider, slash, upstream = model.partition("/")
    if not slash or not upstream or provider not in providers:
        return None
    target = Target(provider=provider, model=upstream, credential="")
    return Route(
        model=model,
        configured=f"{provider}/*",
        strategy="priority",
        choices=(_by_credential(target, providers[provider], PriceTerms()),),
    )


def resolved(wildcard: Route, prefix: str, model: str) -> Route:
    """Return a wildcard's route for one name; a `*` in a target's model takes what matched."""
    matched = model[len(prefix) :]

    def filled(choice: WeightedTarget) -> WeightedTarget:
        upstream = choice.target.model.replace("*", matched)
        target = msgspec.structs.replace(choice.target, model=upstream)
        alike = tuple(
            (who, name.replace("*", matched), own) for who, name, own in choice.price.alike
        )
        price = msgspec.structs.replace(choice.price, alike=alike)
        return msgspec.structs.replace(choice, target=target, price=price)

    choices = tuple(tuple(filled(choice) for choice in group) for group in wildcard.choices)
    return msgspec.structs.replace(wildcard, model=model, choices=choices)


def _compiled(
    entry: RouteConfig,
    providers: Mapping[str, ProviderConfig],
    limits: Mapping[tuple[str, int], Scope],
    models: Mapping[str, str],
) -> Route:
    choices = []
    for number, target in enumerate(entry.targets):
        provider = providers[target.provider]
        named = Target(
            provider=target.provider,
            model=target.model,
            base_model=target.base_model,
            weight=target.weight,
            credential=target.credential or "",
            params=target.params,
            headers=target.headers,
            capabilities=target.capabilities,
            unsupported=entry.unsupported,
        )
        scope = limits.get((entry.model, number))
        choices.append(_by_credential(named, provider, _terms(entry, target), scope))
    return Route(
        model=entry.model,
        configured=entry.model,
        strategy=entry.strategy,
        choices=tuple(choices),
        rules=compile_rules(entry.rules, models),
        fallbacks=entry.fallbacks,
        on_failure={FailureKind(kind): names for kind, names in entry.on_failure.items()},
        timeouts=entry.timeouts,
        retry=entry.retry,
        breaker=entry.breaker,
        sticky=entry.sticky,
        stream_recovery=entry.stream_recovery,
        hedge=entry.hedge,
        hold_output_tokens=entry.hold_output_tokens,
    )


def _terms(entry: RouteConfig, target: TargetConfig) -> PriceTerms:
    others = (other for other in entry.targets if other is not target)
    return PriceTerms(
        price=target.price or entry.price,
        factor=product(entry.price_factor, target.price_factor),
        unknown=entry.unknown_price,
        alike=tuple(map(_priced_as, others)) if entry.unknown_price == "estimate" else (),
    )


def _priced_as(target: TargetConfig) -> tuple[str, str, Price | None]:
    return target.provider, target.base_model or target.model, target.price


def _by_credential(
    target: Target, provider: ProviderConfig, price: PriceTerms, limits: Scope | None = None
) -> tuple[WeightedTarget, ...]:
    names: Sequence[tuple[str, int]] = [(key.name, key.weight) for key in provider.api_keys]
    if target.credential:
        names = [(target.credential, 1)]
    return tuple(
        WeightedTarget(
            target=msgspec.structs.replace(target, credential=name),
            weight=weight,
            price=price,
            limits=limits,
        )
        for name, weight in names or [("default", 1)]
    )
