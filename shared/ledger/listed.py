"""Prices of the list inside genai-prices, compiled.

The list has a few figures finer than a nano-dollar per million tokens, which come from a division.
"""

import importlib.metadata
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from shared.ledger.rates import CompiledPrice, Phase, Rate, nano
from shared.ledger.tiers import tiers_of

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, TieredPrices

SOURCE = "genai-prices"
_FREE = Rate(base=0)


def from_list(model: "ModelInfo", at: datetime | None) -> CompiledPrice | None:
    """Return what the list says of a model; None where that is nothing that we can count.

    Of prices that begin on a date the one in force `at` that moment is taken, the newest when no
    moment is given; of prices by the hour the dearest. Its phases are those that come later, and
    those of each hour.
    """
    from genai_prices.types import ModelPrice, TimeOfDateConstraint

    if isinstance(model.prices, ModelPrice):
        return _with_tiers(model, model.prices, at)
    by_hour = [p for p in model.prices if isinstance(p.constraint, TimeOfDateConstraint)]
    dated = [p for p in model.prices if p not in by_hour]
    later = [] if at is None else [p for p in dated if not _has_begun(p, at)]
    current = [p for p in dated if p not in later] or dated[:1]
    candidates = [p.prices for p in (*current[-1:], *by_hour)]
    dearest = max(candidates, key=lambda price: _rate(price.input_mtok, _FREE).base)
    price = _with_tiers(model, dearest, at)
    if price is None or not (later or by_hour):
        return price
    kept = (_phase(model, one, at) for one in (*current[-1:], *later, *by_hour))
    return msgspec.structs.replace(price, phases=tuple(phase for phase in kept if phase))


def _has_begun(price: "ConditionalPrice", at: datetime) -> bool:
    return price.constraint is None or price.constraint.active(at)


def _phase(model: "ModelInfo", one: "ConditionalPrice", at: datetime | None) -> Phase | None:
    from genai_prices.types import StartDateConstraint, TimeOfDateConstraint

    begins, hours = None, None
    if isinstance(one.constraint, StartDateConstraint):
        begins = datetime.combine(one.constraint.start_date, time(), UTC)
    elif isinstance(one.constraint, TimeOfDateConstraint):
        hours = _second(one.constraint.start_time), _second(one.constraint.end_time)
    # Tiers of its own time: those that begin with it, where it is still to come.
    price = _with_tiers(model, one.prices, None if at is None else max(at, begins or at))
    return None if price is None else Phase(price=price, begins=begins, hours=hours)


def _second(moment: time) -> int:
    """Return the second of the UTC day; a time without a zone is UTC."""
    offset = moment.utcoffset()
    second = moment.hour * 3600 + moment.minute * 60 + moment.second
    return (second - (int(offset.total_seconds()) if offset else 0)) % 86_400


def _with_tiers(
    model: "ModelInfo", standard: "ModelPrice", at: datetime | None
) -> CompiledPrice | None:
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
    base = _rate(price.input_mtok, _FREE)
    output = _rate(price.output_mtok, _FREE)
    return CompiledPrice(
        input=base,
        output=output,
        cache_read=_rate(price.cache_read_mtok, base),
        cache_write=_rate(price.cache_write_mtok, base),
        input_audio=_rate(price.input_audio_mtok, base),
        output_audio=_rate(price.output_audio_mtok, output),
        cache_read_audio=_own_rate(price.cache_audio_read_mtok),
        cache_write_1h=_own_rate(price.cache_write_1h_mtok),
        reasoning=_own_rate(price.output_reasoning_mtok),
        input_image=_own_rate(price.input_image_mtok),
        output_image=_own_rate(price.output_image_mtok),
        per_request_nanousd=_rate(price.requests_kcount, _FREE).base // 1000,
        per_1000_searches_nanousd=_rate(price.web_searches_kcount, _FREE).base,
        per_mchar_nanousd=_rate(price.input_mchars, _FREE).base,
        per_audio_hour_nanousd=_rate(hours, _FREE).base,
        source=SOURCE,
        version=importlib.metadata.version(SOURCE),
    )


def _rate(price: "Decimal | TieredPrices | None", otherwise: Rate) -> Rate:
    if price is None:
        return otherwise
    if isinstance(price, Decimal):
        return Rate(base=nano(price))
    return Rate(base=nano(price.base), steps=tuple((s.start, nano(s.price)) for s in price.tiers))


def _own_rate(price: "Decimal | TieredPrices | None") -> Rate | None:
    return None if price is None else _rate(price, _FREE)
