"""The configured providers, ready to be called, and what their models cost."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from itertools import chain

import msgspec

from shared.config.model import Config, ProviderConfig
from shared.config.price import Price, PriceTerms, product
from shared.ledger.prices import compile_price, dearest, likely_price
from shared.ledger.rates import ESTIMATE, CompiledPrice, scaled
from shared.providers.adapter import Adapter
from shared.providers.exchange import Exchange
from shared.providers.registry import adapter_for
from shared.providers.relay import operators
from shared.providers.request import InferenceRequest
from shared.providers.target import Target
from shared.routing.plan import Plan, Step, fixed_plans, follows_order, lots_of
from shared.routing.route import Routes, compile_routes
from shared.routing.rules import header_names

PRICES_KEPT = 1_000
"""Looking one up takes 50 microseconds. Callers invent models under a wildcard: no more is kept."""


class Provider:
    """One configured provider with its adapter; holds secrets, so it is no Struct with a repr.

    `authorizer` obtains its credentials where the config does not hold them. `prepares` says that
    calls may have to wait for something before they are made: credentials, or files at URLs.
    """

    def __init__(self, config: ProviderConfig, adapter: Adapter) -> None:
        self.config = config
        self.adapter = adapter
        self.authorizer = adapter.authorizer(config)
        fetches = type(adapter).fetches is not Adapter.fetches
        self.prepares = fetches or self.authorizer is not None

    def exchange(
        self, request: InferenceRequest, target: Target, obtained: str | None = None
    ) -> Exchange:
        """Return one attempt's conversation, with the target's credential in its headers.

        `obtained` is the authorizer's and goes before the config's.
        """
        secret = self.secret(target) if obtained is None else obtained
        return self.adapter.exchange(self.config, secret, request, target)

    def secret(self, target: Target) -> str | None:
        """Return the credential that the config has for the target."""
        for named in self.config.api_keys:
            if named.name == target.credential:
                return named.key
        return self.config.api_key


class Catalog:
    """Everything a config says about what can be called; swapped whole on reload."""

    def __init__(self, config: Config, at: datetime) -> None:
        self.routes: Routes = compile_routes(config)
        self.rule_headers = header_names(config.routes)
        self.providers: Mapping[str, Provider] = {
            name: Provider(provider, adapter_for(provider.kind))
            for name, provider in config.providers.items()
        }
        self.plans = fixed_plans(self.routes)
        self.lots = lots_of(self.routes)
        self.drawn: dict[str, dict[tuple[int, ...], Plan]] = {
            name: {}
            for name, route in self.routes.by_name.items()
            if name not in self.plans
            and name not in self.lots
            and follows_order(route, self.routes)
        }
        """Plans by the order that was drawn of a route's targets, by their `id`."""
        self._differing: dict[int, tuple[Plan, tuple[Step, ...]]] = {}
        self.filling = frozenset(name for name, one in config.providers.items() if one.params)
        """The providers with fields of the operator's for every call."""
        self._at = at  # listed prices have dates
        self._price = lru_cache(maxsize=PRICES_KEPT)(self._compiled)
        self._priced: dict[int, tuple[Target, PriceTerms, CompiledPrice | None]] = {}
        """By the `id` of a target, which costs a third of hashing what a price follows from."""
        for route in self.routes.by_name.values():
            for group in route.choices:
                self.price(group[0].target, group[0].price)

    def differing(self, plan: Plan) -> tuple[Step, ...]:
        """Return the steps of a plan at which a call may be estimated at different amounts.

        Those that only some failures lead to are among them: the call may cost what they cost.
        Targets of one price and route are estimated alike, but for what the operator adds; the
        first of them is there for all.
        """
        if len(plan.steps) == 1 and not plan.redirects:
            return plan.steps
        known = self._differing.get(id(plan))
        if known is not None and known[0] is plan:
            return known[1]
        priced: list[tuple[int, CompiledPrice | None, Mapping[str, object]]] = []
        steps = []
        for step in chain(plan.steps, *plan.redirects.values()):
            target = step.target
            price = self.price(target, step.price)
            key = step.hold_output_tokens, price, self.params(target)
            if key not in priced:
                priced.append(key)
                steps.append(step)
        if len(self._differing) >= PRICES_KEPT:
            self._differing.clear()
        self._differing[id(plan)] = plan, tuple(steps)
        return tuple(steps)

    def price(self, target: Target, terms: PriceTerms) -> CompiledPrice | None:
        """Return what the target costs, by its route's terms; None where nobody knows."""
        known = self._priced.get(id(target))
        if known is not None and known[0] is target and known[1] is terms:
            return known[2]
        price = self._price(target.provider, target.known_as, terms)
        if len(self._priced) >= PRICES_KEPT:
            self._priced.clear()
        self._priced[id(target)] = target, terms, price
        return price

    def params(self, target: Target) -> Mapping[str, object]:
        """Return the fields that the operator adds to calls to the target."""
        return operators(self.providers[target.provider].config, target)

    def _compiled(self, provider: str, model: str, terms: PriceTerms) -> CompiledPrice | None:
        price = self._found(provider, model, terms.price)
        if price is None and terms.unknown == "estimate":
            price = self._likely(model, terms)
        if price is None:
            return None
        config = self.providers[provider].config
        factor = product(terms.factor, config.price_factor)
        return scaled(price, Decimal(factor), Decimal(config.regional_factor))

    def _found(self, provider: str, model: str, given: Price | None) -> CompiledPrice | None:
        config = self.providers[provider].config
        return compile_price(config.kind, model, given, base_url=config.base_url, at=self._at)

    def _likely(self, model: str, terms: PriceTerms) -> CompiledPrice | None:
        """Return the dearest price of a route's other targets, else of anybody's such model."""
        known = (
            msgspec.structs.replace(price, source=ESTIMATE, version=f"{price.version} {other[0]}")
            for other in terms.alike
            if (price := self._found(*other)) is not None
        )
        return dearest(known) or likely_price(model, self._at)
