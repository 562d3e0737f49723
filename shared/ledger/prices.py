"""Prices compiled once into plain integers; a library lookup per call costs 50 microseconds.

Rates are nano-dollars per million tokens: USD to 9 places, finer figures rounded half up (the
list has a few that come from a division). Source of the list: the data inside genai-prices.
"""

import importlib.metadata
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

import msgspec

from shared.config.model import Price

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

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

_NANO = Decimal(10) ** 9
_CONFIG = "config"


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Nano-dollars per million tokens; `steps` are (prompt tokens, rate), lowest first."""

    base: int
    steps: tuple[tuple[int, int], ...] = ()

    def at(self, prompt_tokens: int) -> int:
        """Return the rate of a call with so long a prompt; a step counts above its threshold."""
        rate = self.base
        for threshold, step in self.steps:
            if prompt_tokens > threshold:
                rate = step
        return rate


class CompiledPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What one target's tokens cost. `source` says where the figures come from."""

    input: Rate
    output: Rate
    cache_read: Rate
    cache_write: Rate
    input_audio: Rate
    output_audio: Rate
    per_request_nanousd: int = 0
    source: str = _CONFIG


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
    name none (`openai_compatible`). Of prices that begin on a date the one in force `at` that
    moment is taken, the newest when no moment is given; of prices by time of day the dearest.
    """
    if override is not None:
        return _from_config(override)
    listed = _listed(kind, model, base_url)
    return None if listed is None else _from_list(listed, at)


def _from_config(price: Price) -> CompiledPrice:
    base = Rate(base=_nano(price.input_per_mtok))
    output = Rate(base=_nano(price.output_per_mtok))
    read, write = price.cache_read_per_mtok, price.cache_write_per_mtok
    return CompiledPrice(
        input=base,
        output=output,
        cache_read=base if read is None else Rate(base=_nano(read)),
        cache_write=base if write is None else Rate(base=_nano(write)),
        input_audio=base,
        output_audio=output,
    )


def _listed(kind: str, model: str, base_url: str | None) -> "ModelInfo | None":
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    provider_id = PROVIDER_IDS.get(kind)
    address = base_url if kind == "openai_compatible" else None
    if provider_id is None and address is None:
        return None
    try:
        provider: Provider = snapshot.find_provider(None, provider_id, address)
    except LookupError:
        return None
    return provider.find_model(model, all_providers=snapshot.providers)


def _from_list(model: "ModelInfo", at: datetime | None) -> CompiledPrice | None:
    price = _in_force(model, at)
    if price.input_mtok is None and price.output_mtok is None:
        return None
    free = Rate(base=0)
    base = _rate(price.input_mtok, free)
    output = _rate(price.output_mtok, free)
    per_thousand = price.requests_kcount
    return CompiledPrice(
        input=base,
        output=output,
        cache_read=_rate(price.cache_read_mtok, base),
        cache_write=_rate(price.cache_write_mtok, base),
        input_audio=_rate(price.input_audio_mtok, base),
        output_audio=_rate(price.output_audio_mtok, output),
        per_request_nanousd=_rate(per_thousand, free).base // 1000,
        source=f"genai-prices {importlib.metadata.version('genai-prices')}",
    )


def _in_force(model: "ModelInfo", at: datetime | None) -> "ModelPrice":
    from genai_prices.types import (
        ModelPrice,
        StartDateConstraint,
        TimeOfDateConstraint,
    )

    if isinstance(model.prices, ModelPrice):
        return model.prices
    by_hour = [p for p in model.prices if isinstance(p.constraint, TimeOfDateConstraint)]
    dated = [p for p in model.prices if not isinstance(p.constraint, TimeOfDateConstraint)]
    begun = [
        p
        for p in dated
        if at is None
        or not isinstance(p.constraint, StartDateConstraint)
        or p.constraint.active(at)
    ]
    current = (begun or dated or by_hour)[-1].prices
    candidates = [current, *(p.prices for p in by_hour)]
    return max(candidates, key=lambda price: _rate(price.input_mtok, Rate(base=0)).base)


def _rate(price: "Decimal | TieredPrices | None", otherwise: Rate) -> Rate:
    if price is None:
        return otherwise
    if isinstance(price, Decimal):
        return Rate(base=_nano(price))
    steps = tuple((tier.start, _nano(tier.price)) for tier in price.tiers)
    return Rate(base=_nano(price.base), steps=steps)


def _nano(usd: str | Decimal) -> int:
    return int((Decimal(usd) * _NANO).to_integral_value(ROUND_HALF_UP))
