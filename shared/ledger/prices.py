"""Prices compiled once into plain integers; a library lookup per call costs 50 microseconds.

Rates are nano-dollars per million tokens: USD to 9 places, finer figures rounded half up (the
list has a few that come from a division). Source of the list: the data inside genai-prices.
"""

import importlib.metadata
from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

import msgspec

from shared.config.model import Price
from shared.ledger.tiers import tiers_of

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
    """What one target's tokens cost. `source` says where the figures come from.

    `cache_write_1h` is for what is kept for an hour, where that has a rate of its own.
    Pictures cost what other tokens do unless they have rates of their own. `per_mchar_nanousd` and
    `per_audio_hour_nanousd` are for what is sold by the million characters or the hour of sound.
    `tiers` are the prices of service tiers that have their own.
    """

    input: Rate
    output: Rate
    cache_read: Rate
    cache_write: Rate
    input_audio: Rate
    output_audio: Rate
    cache_write_1h: Rate | None = None
    input_image: Rate | None = None
    output_image: Rate | None = None
    per_request_nanousd: int = 0
    per_mchar_nanousd: int = 0
    per_audio_hour_nanousd: int = 0
    source: str = _CONFIG
    tiers: "Mapping[str, CompiledPrice]" = {}

    def of(self, tier: str | None) -> "CompiledPrice":
        """Return the price of a service tier: itself where that has none of its own."""
        return self if tier is None else self.tiers.get(tier, self)


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
    standard = _in_force(model, at)
    price = _compiled(standard)
    if price is None:
        return None
    tiers = {
        tier: compiled
        for tier, varied in tiers_of(model, standard, at).items()
        if (compiled := _compiled(varied)) is not None
    }
    return msgspec.structs.replace(price, tiers=tiers)


def _compiled(price: "ModelPrice") -> CompiledPrice | None:
    hours = price.input_audio_hours or price.audio_hours
    if all(one is None for one in (price.input_mtok, price.output_mtok, price.input_mchars, hours)):
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
        cache_write_1h=_own_rate(price.cache_write_1h_mtok),
        input_image=_own_rate(price.input_image_mtok),
        output_image=_own_rate(price.output_image_mtok),
        per_request_nanousd=_rate(per_thousand, free).base // 1000,
        per_mchar_nanousd=_rate(price.input_mchars, free).base,
        per_audio_hour_nanousd=_rate(hours, free).base,
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


def _own_rate(price: "Decimal | TieredPrices | None") -> Rate | None:
    return None if price is None else _rate(price, Rate(base=0))


def _nano(usd: str | Decimal) -> int:
    return int((Decimal(usd) * _NANO).to_integral_value(ROUND_HALF_UP))
