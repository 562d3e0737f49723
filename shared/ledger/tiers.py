"""The list's prices of service tiers: flex, priority, batch …, by the names that answers give."""

from copy import copy
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_BATCH = {"processing": "batch"}
"""How the list says what Anthropic's answers call the tier `batch`."""


def tiers_of(
    model: "ModelInfo", standard: "ModelPrice", at: datetime | None
) -> dict[str, "ModelPrice"]:
    """Return the price of each tier that has one of its own in force `at` that moment.

    A tier's price is the standard one but for what the list says of it; a moment of None means the
    newest.
    """
    found: dict[str, ModelPrice] = {}
    for variant in model.price_variants or ():
        tier = "batch" if variant.when == _BATCH else variant.when.get("service_tier")
        begun = variant.constraint is None or at is None or variant.constraint.active(at)
        if tier is None or len(variant.when) > 1 or not begun:
            continue
        varied = found.setdefault(tier, copy(standard))
        named = {name: rate for name, rate in vars(variant.prices).items() if rate is not None}
        vars(varied).update(named)
    return {tier: price for tier, price in found.items() if price != standard}
