"""The configured providers, ready to be called, and what their models cost."""

from collections.abc import Mapping
from datetime import datetime

from shared.config.model import Config, ProviderConfig
from shared.ledger.prices import CompiledPrice, compile_price
from shared.providers.adapter import Adapter
from shared.providers.exchange import Exchange
from shared.providers.registry import adapter_for
from shared.providers.request import InferenceRequest
from shared.providers.target import Target
from shared.routing.route import Route, Routes, compile_routes


class Provider:
    """One configured provider with its adapter; holds secrets, so it is no Struct with a repr."""

    def __init__(self, config: ProviderConfig, adapter: Adapter) -> None:
        self.config = config
        self.adapter = adapter

    def exchange(self, request: InferenceRequest, target: Target) -> Exchange:
        """Return one attempt's conversation, with the target's credential in its headers."""
        return self.adapter.exchange(self.config, self._secret(target), request, target)

    def _secret(self, target: Target) -> str | None:
        for named in self.config.api_keys:
            if named.name == target.credential:
                return named.key
        return self.config.api_key


class Catalog:
    """Everything a config says about what can be called; swapped whole on reload."""

    def __init__(self, config: Config, at: datetime) -> None:
        self.routes: Routes = compile_routes(config)
        self.providers: Mapping[str, Provider] = {
            name: Provider(provider, adapter_for(provider.kind))
            for name, provider in config.providers.items()
        }
        self._at = at  # listed prices have dates
        self._overrides = {
            (route.model, target.provider, target.model): target.price or route.price
            for route in config.routes
            for target in route.targets
        }
        self._prices: dict[tuple[str, str, str], CompiledPrice | None] = {}
        for route in [*self.routes.by_name.values()]:
            self._compile(route)

    def price(self, route: str, target: Target) -> CompiledPrice | None:
        """Return the target's price; looked up in the list only the first time it is asked."""
        key = (route, target.provider, target.model)
        if key not in self._prices:
            config = self.providers[target.provider].config
            override = self._overrides.get(key)
            self._prices[key] = compile_price(
                config.kind, target.model, override, base_url=config.base_url, at=self._at
            )
        return self._prices[key]

    def _compile(self, route: Route) -> None:
        for group in route.choices:
            self.price(route.model, group[0].target)
