"""What one target's use costs, in plain integers. Rates are nano-dollars per million tokens."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

import msgspec

CONFIG = "config"
ESTIMATE = "estimate"
"""The source of a price that nobody gave for this target."""

_NANO = Decimal(10) ** 9
_ONE = Decimal(1)
_APART = frozenset({"per_request_nanousd", "per_1000_searches_nanousd"})
"""What regions do not make dearer: vendors raise what the model itself works."""
_PLAIN = frozenset({"auto", "default", "standard", "standard_only"})
"""What callers call no service tier in particular."""


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

    def times(self, factor: Decimal) -> "Rate":
        """Return the rate multiplied, each of its steps rounded half up."""
        steps = tuple((threshold, _rounded(step * factor)) for threshold, step in self.steps)
        return Rate(base=_rounded(self.base * factor), steps=steps)

    @property
    def most(self) -> int:
        """The dearest of its steps."""
        return max(self.base, *(step for _, step in self.steps), 0)


class CompiledPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What one target's use costs. `source` says where the figures come from, `version` which.

    A None is a rate like that of other tokens: sound read from a cache costs what reading costs,
    what is kept for an hour what writing does, pictures and reasoning what input and output do.
    Searches and characters are sold by the thousand and the million, sound by the hour.
    `tiers` are the prices of service tiers that have their own, `phases` those of other days and
    hours, the last one that is in force counts; beside them stands the dearest of any hour.
    `dearest_in` and `dearest_out` follow from the others: every call asks for them.
    """

    input: Rate
    output: Rate
    cache_read: Rate
    cache_write: Rate
    input_audio: Rate
    output_audio: Rate
    cache_read_audio: Rate | None = None
    cache_write_1h: Rate | None = None
    reasoning: Rate | None = None
    input_image: Rate | None = None
    output_image: Rate | None = None
    per_request_nanousd: int = 0
    per_1000_searches_nanousd: int = 0
    per_mchar_nanousd: int = 0
    per_audio_hour_nanousd: int = 0
    source: str = CONFIG
    version: str | None = None
    tiers: "Mapping[str, CompiledPrice]" = {}
    phases: "tuple[Phase, ...]" = ()
    dearest_in: int = 0
    dearest_out: int = 0

    def __post_init__(self) -> None:
        """Find the dearest rates of a token."""
        of_input = (
            *(self.input, self.input_audio, self.input_image, self.cache_read),
            *(self.cache_read_audio, self.cache_write, self.cache_write_1h),
        )
        of_output = (self.output, self.output_audio, self.output_image, self.reasoning)
        msgspec.structs.force_setattr(self, "dearest_in", _dearest(of_input))
        msgspec.structs.force_setattr(self, "dearest_out", _dearest(of_output))

    def of(self, tier: str | None) -> "CompiledPrice":
        """Return the price of a service tier: itself where that has none of its own."""
        return self if tier is None else self.tiers.get(tier, self)

    def asked(self, tier: str) -> "tuple[CompiledPrice, ...]":
        """Return the prices that a call may be charged which asks for this service tier.

        The plain one is always among them, for no provider has to give what is asked. Of a tier
        without a price of its own nobody knows what answers will call it: all of them.
        """
        found = self.tiers.get(tier)
        if found is not None:
            return self, found
        return (self,) if tier in _PLAIN else (self, *self.tiers.values())

    def at(self, moment: datetime) -> "CompiledPrice":
        """Return the price in force at that moment."""
        for phase in reversed(self.phases):
            if phase.covers(moment):
                return phase.price
        return self


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A price that begins on a day, or holds between two seconds of each UTC day."""

    price: CompiledPrice
    begins: datetime | None = None
    hours: tuple[int, int] | None = None

    def covers(self, moment: datetime) -> bool:
        """Return whether it is in force then; hours may lie around midnight."""
        if self.begins is not None and moment < self.begins:
            return False
        if self.hours is None:
            return True
        utc = moment.astimezone(UTC)
        second = utc.hour * 3600 + utc.minute * 60 + utc.second
        first, last = self.hours
        return first <= second < last if first <= last else second >= first or second < last


def scaled(price: CompiledPrice, factor: Decimal, regional: Decimal = _ONE) -> CompiledPrice:
    """Return the price with everything multiplied by `factor`, what the model works by both."""
    if factor == regional == _ONE:
        return price
    both = factor * regional
    changes: dict[str, object] = {}
    for name in price.__struct_fields__:
        value = getattr(price, name)
        if isinstance(value, Rate):
            changes[name] = value.times(both)
        elif isinstance(value, int):
            changes[name] = _rounded(value * (factor if name in _APART else both))
    return msgspec.structs.replace(
        price,
        **changes,
        version=f"{price.version} x{both.normalize():f}",
        tiers={name: scaled(tier, factor, regional) for name, tier in price.tiers.items()},
        phases=tuple(
            msgspec.structs.replace(phase, price=scaled(phase.price, factor, regional))
            for phase in price.phases
        ),
    )


def _dearest(rates: Iterable[Rate | None]) -> int:
    return max(rate.most for rate in rates if rate is not None)


def nano(usd: str | Decimal) -> int:
    """Return dollars as whole nano-dollars, finer figures rounded half up."""
    return _rounded(Decimal(usd) * _NANO)


def _rounded(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_HALF_UP))
