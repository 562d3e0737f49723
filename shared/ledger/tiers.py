"""The list's prices of service tiers: flex, priority, batch …, by the names that answers give."""

from copy import copy
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_TOLD = {("processing", "batch"): "batch", ("speed", "fast"): "fast"}
"""What answers call a tier that the list knows by another word: Anthropic's batches and speed."""


def tiers_of(
    model: "ModelInfo", standard: "ModelPrice", at: datetime | None
) -> dict[str, "ModelPrice"]:
    """Return the price of each tier that has one of its own in force `at` that moment.

    A tier's price is the standard one but for what the list says of it; a moment of None means the
    newest.
    """
    found: dict[str, ModelPrice] = {}
    for variant in model.price_variants or ():
        begun = variant.constraint is None or at is None or variant.constraint.active(at)
        if len(variant.when) != 1 or not begun:
            continue
        [(word, value)] = variant.when.items()
        tier = value if word == "service_tier" else _TOLD.get((word, value))
        if tier is None:
            continue
        varied = found.setdefault(tier, copy(standard))
        named = {name: rate for name, rate in vars(variant.prices).items() if rate is not None}
        vars(varied).update(named)
    return {tier: price for tier, price in found.items() if price != standard}
