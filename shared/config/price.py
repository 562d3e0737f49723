"""What the file says of prices: of the tokens of a model, of its service tiers, and factors."""

from decimal import Decimal
from typing import Literal

import msgspec

from shared.config.section import Factor, Positive, Section, Usd

UnknownPrice = Literal["null", "deny", "estimate"]


class Rates(Section, frozen=True, kw_only=True):
    """USD by what is counted, decimals as text; None means as said at each."""

    input_per_mtok: Usd | None = None
    """Input."""
    output_per_mtok: Usd | None = None
    """Output."""
    cache_read_per_mtok: Usd | None = None
    """Input read from the provider's cache. None: as `input_per_mtok`."""
    cache_read_audio_per_mtok: Usd | None = None
    """Sound read from it. None: as `cache_read_per_mtok`."""
    cache_write_per_mtok: Usd | None = None
    """Input written to it. None: as `input_per_mtok`."""
    cache_write_1h_per_mtok: Usd | None = None
    """Input written to it for an hour. None: as `cache_write_per_mtok`."""
    reasoning_per_mtok: Usd | None = None
    """Reasoning. None: as `output_per_mtok`."""
    input_audio_per_mtok: Usd | None = None
    """Sound in the input. None: as `input_per_mtok`."""
    output_audio_per_mtok: Usd | None = None
    """Sound in the output. None: as `output_per_mtok`."""
    input_image_per_mtok: Usd | None = None
    """Pictures in the input. None: as `input_per_mtok`."""
    output_image_per_mtok: Usd | None = None
    """Pictures in the output. None: as `output_per_mtok`."""


class PriceStep(Rates, frozen=True, kw_only=True):
    """The rates of calls with a long prompt; those that are not given stay as they are."""

    above_tokens: Positive
    """How many tokens of prompt a call must pass for its rates to be these, all of them."""


class PriceTier(Rates, frozen=True, kw_only=True):
    """The rates of a service tier; those that are not given are the price's own, by the factor."""

    name: str
    """The tier as answers call it: `flex`, `priority`, `fast`, or `batch`."""
    factor: Factor = "1"
    """What the price's own rates are multiplied with."""


class Price(Rates, frozen=True, kw_only=True):
    """What a model's use costs; it replaces the built-in list whole."""

    input_per_mtok: Usd
    """Input."""
    output_per_mtok: Usd
    """Output."""
    per_request_usd: Usd = "0"
    """Each call that is answered."""
    per_web_search_usd: Usd = "0"
    """Each search of the web that the provider makes for a call."""
    per_million_characters_usd: Usd = "0"
    """A million characters that are spoken."""
    per_audio_hour_usd: Usd = "0"
    """An hour of sound that is heard."""
    steps: tuple[PriceStep, ...] = ()
    """Rates of calls with a long prompt, the shortest first."""
    tiers: tuple[PriceTier, ...] = ()
    """Rates of service tiers. A tier that has none costs what the others do."""


class PriceTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How the price of a route's target is found.

    `price` is the config's own, None where the list decides; `factor` is what its route and target
    multiply it with. `alike` are the targets, as provider, model and the config's price, of which
    one stands in for an unknown price that is to be estimated.
    """

    price: Price | None = None
    factor: Factor = "1"
    unknown: UnknownPrice = "null"
    alike: tuple[tuple[str, str, Price | None], ...] = ()


def product(*factors: str) -> str:
    """Return factors multiplied, as plain text: `0.9`."""
    whole = Decimal(1)
    for factor in factors:
        whole *= Decimal(factor)
    return format(whole.normalize(), "f")
