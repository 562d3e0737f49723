"""The config's own price of a target, compiled."""

import hashlib
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from shared.config.price import Price, PriceStep, PriceTier, Rates
from shared.ledger.rates import CONFIG, CompiledPrice, Rate, nano

_AS = {
    "cache_read": "input",
    "cache_read_audio": "cache_read",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "reasoning": "output",
    "input_audio": "input",
    "output_audio": "output",
    "input_image": "input",
    "output_image": "output",
}
"""What each kind of tokens costs as, where the file gives it no rate; in an order that works."""
_KINDS = ("input", "output", *_AS)


def from_config(price: Price) -> CompiledPrice:
    """Return the price; its version is a fingerprint of its figures."""
    standard = _rates(price)
    for step in price.steps:
        standard = _stepped(standard, step)
    version = hashlib.blake2b(msgspec.json.encode(price), digest_size=6).hexdigest()
    tiers = {tier.name: _tier(price, tier, standard, version) for tier in price.tiers}
    return msgspec.structs.replace(_compiled(price, standard, version), tiers=tiers)


def _tier(
    price: Price, tier: PriceTier, standard: Mapping[str, Rate], version: str
) -> CompiledPrice:
    factor = Decimal(tier.factor)
    rates = {kind: rate.times(factor) for kind, rate in standard.items()} | _rates(tier)
    return _compiled(price, rates, version, factor)


def _rates(given: Rates) -> dict[str, Rate]:
    """Return the rates that the file gives, by the kind of tokens."""
    named = {kind: getattr(given, f"{kind}_per_mtok") for kind in _KINDS}
    return {kind: Rate(base=nano(usd)) for kind, usd in named.items() if usd is not None}


def _stepped(rates: Mapping[str, Rate], step: PriceStep) -> dict[str, Rate]:
    """Return the rates with one more step; what it leaves out keeps its rate."""
    stepped = dict(rates)
    for kind, rate in _rates(step).items():
        below = _found(rates, kind)
        steps = (*below.steps, (step.above_tokens, rate.base))
        stepped[kind] = Rate(base=below.base, steps=steps)
    return stepped


def _found(rates: Mapping[str, Rate], kind: str) -> Rate:
    """Return a kind's rate, else that of the kind it costs as."""
    known = rates.get(kind)
    return _found(rates, _AS[kind]) if known is None else known


def _compiled(
    price: Price, rates: Mapping[str, Rate], version: str, factor: Decimal = Decimal(1)
) -> CompiledPrice:
    found = {kind: _found(rates, kind) for kind in _KINDS}
    return CompiledPrice(
        input=found["input"],
        output=found["output"],
        cache_read=found["cache_read"],
        cache_read_audio=found["cache_read_audio"],
        cache_write=found["cache_write"],
        cache_write_1h=found["cache_write_1h"],
        reasoning=found["reasoning"],
        input_audio=found["input_audio"],
        output_audio=found["output_audio"],
        input_image=found["input_image"],
        output_image=found["output_image"],
        per_request_nanousd=nano(price.per_request_usd),
        per_1000_searches_nanousd=nano(price.per_web_search_usd) * 1000,
        per_mchar_nanousd=nano(Decimal(price.per_million_characters_usd) * factor),
        per_audio_hour_nanousd=nano(Decimal(price.per_audio_hour_usd) * factor),
        source=CONFIG,
        version=version,
    )
