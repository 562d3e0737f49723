"""Prices compiled once into plain integers; a library lookup per call costs 50 microseconds.

Source of the list: the data inside genai-prices.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from shared.config.price import Price
from shared.ledger.given import from_config
from shared.ledger.listed import from_list
from shared.ledger.rates import ESTIMATE, CompiledPrice

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

PROVIDER_IDS = {
    "anthropic": "anthropic",
    "azure_openai": "azure",
    "bedrock": "aws",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "gemini": "google",
    "groq": "groq",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "openai": "openai",
    "openrouter": "openrouter",
    "together": "together",
    "xai": "x-ai",
    "zai": "zai",
}
"""What the list calls each kind. Kinds that are not here sell nothing (Ollama, vLLM, the mock)."""


def compile_price(
    kind: str,
    model: str,
    override: Price | None = None,
    *,
    base_url: str | None = None,
    at: datetime | None = None,
) -> CompiledPrice | None:
    """Return the price of a provider kind's model, None when nobody knows it.

    An override from the config replaces the list whole. `base_url` finds the vendor of kinds that
    name none (`openai_compatible`). `at` says which of the list's prices are in force: see
    `from_list`.
    """
    if override is not None:
        return from_config(override)
    listed = _listed(kind, model, base_url)
    return None if listed is None else from_list(listed, at)


def likely_price(model: str, at: datetime | None = None) -> CompiledPrice | None:
    """Return the dearest price of anybody who sells a model of that name, None when nobody does.

    Its version says whose it is.
    """
    return dearest(
        msgspec.structs.replace(price, source=ESTIMATE, version=f"{price.version} {seller}")
        for seller, price in _sold(model, at)
    )


def dearest(prices: Iterator[CompiledPrice]) -> CompiledPrice | None:
    """Return the price with the highest rates of input and output together, None of none."""
    return max(prices, key=lambda price: price.input.most + price.output.most, default=None)


def _listed(kind: str, model: str, base_url: str | None) -> "ModelInfo | None":
    provider_id = PROVIDER_IDS.get(kind)
    address = base_url if kind == "openai_compatible" else None
    if provider_id is None and address is None:
        return None
    # Only now: the list takes a tenth of a process's start.
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    try:
        provider: Provider = snapshot.find_provider(None, provider_id, address)
    except LookupError:
        return None
    return provider.find_model(model, all_providers=snapshot.providers)


def _sold(model: str, at: datetime | None) -> Iterator[tuple[str, CompiledPrice]]:
    from genai_prices.data_snapshot import get_snapshot

    for provider in get_snapshot().providers:
        found = provider.find_model(model)
        price = None if found is None else from_list(found, at)
        if price is not None:
            yield provider.id, price
