"""Money of one attempt: integer nano-dollars, rounded once."""

from shared.chat.usage import Usage
from shared.ledger.rates import CompiledPrice

NANOUSD_PER_USD = 1_000_000_000
_SHARE = 18_000_000
"""Parts of a nano-dollar: a million tokens and the 3,600,000 ms of an hour both divide it."""
_PER_MILLION = _SHARE // 1_000_000
_PER_HOUR = _SHARE // 3_600_000
_PER_1000 = _SHARE // 1_000


def cost_of(usage: Usage, price: CompiledPrice) -> int:
    """Return the cost in nano-dollars.

    Exact in integers and rounded once at the end, half up. The length of the whole prompt chooses
    the step of every rate, output included, as all vendors do it. Cached, audio, image and
    reasoning tokens are subsets; when they overlap, the first of them counts. The tier is the one
    that the answer names, whatever was asked for.
    """
    if usage.service_tier is not None:
        price = price.of(usage.service_tier)
    parts = _tokens(usage, price) * _PER_MILLION
    if usage.input_characters or usage.input_audio_ms or usage.web_searches:
        parts += _pieces(usage, price)
    return price.per_request_nanousd + (parts + _SHARE // 2) // _SHARE


def worst_cost_of(usage: Usage, price: CompiledPrice, tier: str | None = None) -> int:
    """Return what the counts can cost at most: every token at its dearest rate, rounded up.

    For holds: whether the prompt will be written to a cache is not known before the call, nor
    whether the service `tier` that is asked for will be given.
    """
    if tier is not None and price.tiers:
        return max(worst_cost_of(usage, one) for one in price.asked(tier))
    tokens = usage.input_tokens * price.dearest_in + usage.output_tokens * price.dearest_out
    parts = tokens * _PER_MILLION
    if usage.input_characters or usage.input_audio_ms or usage.web_searches:
        parts += _pieces(usage, price)
    return price.per_request_nanousd - (-parts // _SHARE)


def disagrees(cost_nanousd: int, reported_nanousd: int) -> bool:
    """Return whether a cost differs from the provider's own account by more than 1 %."""
    return abs(cost_nanousd - reported_nanousd) * 100 > max(cost_nanousd, reported_nanousd)


def usd_text(nanousd: int) -> str:
    """Return dollars as a plain decimal with all its digits: `0.0000375`, `12`."""
    sign = "-" if nanousd < 0 else ""
    whole, part = divmod(abs(nanousd), NANOUSD_PER_USD)
    digits = f"{part:09d}".rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def _tokens(usage: Usage, price: CompiledPrice) -> int:
    """Return what the tokens cost, in millionths of a nano-dollar; each is counted once."""
    prompt = usage.input_tokens
    if not (
        usage.cache_read_tokens
        or usage.cache_write_tokens
        or usage.reasoning_tokens
        or usage.input_audio_tokens
        or usage.output_audio_tokens
        or usage.input_image_tokens
        or usage.output_image_tokens
    ):  # as of most calls; what follows would come to the same
        input_rate, output_rate = price.input, price.output
        if not (input_rate.steps or output_rate.steps):
            return prompt * input_rate.base + usage.output_tokens * output_rate.base
        return prompt * input_rate.at(prompt) + usage.output_tokens * output_rate.at(prompt)
    read_sound = min(usage.cache_read_audio_tokens, usage.cache_read_tokens)
    hour = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    total, plain = 0, prompt
    for tokens, rate in (
        (usage.cache_read_tokens - read_sound, price.cache_read),
        (read_sound, price.cache_read_audio or price.cache_read),
        (usage.cache_write_tokens - hour, price.cache_write),
        (hour, price.cache_write_1h or price.cache_write),
        (usage.input_audio_tokens, price.input_audio),
        (usage.input_image_tokens, price.input_image or price.input),
    ):
        if tokens:
            counted = min(tokens, plain)
            plain -= counted
            total += counted * rate.at(prompt)
    total += plain * price.input.at(prompt)
    plain = usage.output_tokens
    for tokens, rate in (
        (usage.output_audio_tokens, price.output_audio),
        (usage.output_image_tokens, price.output_image or price.output),
        (usage.reasoning_tokens, price.reasoning or price.output),
    ):
        if tokens:
            counted = min(tokens, plain)
            plain -= counted
            total += counted * rate.at(prompt)
    return total + plain * price.output.at(prompt)


def _pieces(usage: Usage, price: CompiledPrice) -> int:
    """Return what characters, sound and searches cost, in shares of a nano-dollar."""
    return (
        usage.input_characters * price.per_mchar_nanousd * _PER_MILLION
        + usage.input_audio_ms * price.per_audio_hour_nanousd * _PER_HOUR
        + usage.web_searches * price.per_1000_searches_nanousd * _PER_1000
    )
