"""Money of one attempt: integer nano-dollars, rounded once."""

from shared.chat.usage import Usage
from shared.ledger.prices import CompiledPrice, Rate

NANOUSD_PER_USD = 1_000_000_000
_TOKENS_PER_MTOK = 1_000_000
_CHARACTERS_PER_MCHAR = 1_000_000
_MS_PER_HOUR = 3_600_000


def cost_of(usage: Usage, price: CompiledPrice) -> int:
    """Return the cost in nano-dollars.

    Exact in integers and rounded once at the end, half up. The length of the whole prompt chooses
    the step of every rate, output included, as all vendors do it. Cached and audio tokens are
    subsets; when they overlap (cached audio), the cache counts first. The tier is the one that the
    answer names, whatever was asked for.
    """
    price = price.of(usage.service_tier)
    prompt = usage.input_tokens
    cache_read = min(usage.cache_read_tokens, prompt)
    cache_write = min(usage.cache_write_tokens, prompt - cache_read)
    hour = min(usage.cache_write_1h_tokens, cache_write)
    audio_in = min(usage.input_audio_tokens, prompt - cache_read - cache_write)
    audio_out = min(usage.output_audio_tokens, usage.output_tokens)
    nanousd_tokens = 0
    for tokens, rate in (
        (prompt - cache_read - cache_write - audio_in, price.input),
        (cache_read, price.cache_read),
        (cache_write - hour, price.cache_write),
        (hour, price.cache_write_1h or price.cache_write),
        (audio_in, price.input_audio),
        (usage.output_tokens - audio_out, price.output),
        (audio_out, price.output_audio),
    ):
        if tokens:
            nanousd_tokens += tokens * rate.at(prompt)
    if usage.input_image_tokens or usage.output_image_tokens:
        nanousd_tokens += _pictures(usage, price)
    per_call = price.per_request_nanousd
    if usage.input_characters or usage.input_audio_ms:
        per_call += _pieces(usage, price)
    return per_call + (nanousd_tokens + _TOKENS_PER_MTOK // 2) // _TOKENS_PER_MTOK


def worst_cost_of(usage: Usage, price: CompiledPrice) -> int:
    """Return what the counts can cost at most: every token at its dearest rate, rounded up.

    For holds: whether the prompt will be written to a cache is not known before the call.
    """
    dearest_in = _dearest(
        price.input,
        price.cache_write,
        price.cache_write_1h,
        price.cache_read,
        price.input_audio,
        price.input_image,
    )
    dearest_out = _dearest(price.output, price.output_audio, price.output_image)
    nanousd_tokens = usage.input_tokens * dearest_in + usage.output_tokens * dearest_out
    pieces = _pieces(usage, price) if usage.input_characters or usage.input_audio_ms else 0
    return price.per_request_nanousd + pieces - (-nanousd_tokens // _TOKENS_PER_MTOK)


def usd_text(nanousd: int) -> str:
    """Return dollars as a plain decimal with all its digits: `0.0000375`, `12`."""
    sign = "-" if nanousd < 0 else ""
    whole, part = divmod(abs(nanousd), NANOUSD_PER_USD)
    digits = f"{part:09d}".rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def _pictures(usage: Usage, price: CompiledPrice) -> int:
    """Return what tokens of pictures cost more than other tokens, times a million."""
    more = 0
    for tokens, own, other in (
        (min(usage.input_image_tokens, usage.input_tokens), price.input_image, price.input),
        (min(usage.output_image_tokens, usage.output_tokens), price.output_image, price.output),
    ):
        if own is not None:
            more += tokens * (own.at(usage.input_tokens) - other.at(usage.input_tokens))
    return more


def _pieces(usage: Usage, price: CompiledPrice) -> int:
    """Return what characters and sound cost, each rounded up."""
    characters = -(-usage.input_characters * price.per_mchar_nanousd // _CHARACTERS_PER_MCHAR)
    sound = -(-usage.input_audio_ms * price.per_audio_hour_nanousd // _MS_PER_HOUR)
    return characters + sound


def _dearest(*rates: Rate | None) -> int:
    most = 0
    for rate in filter(None, rates):
        most = max(most, rate.base)
        for _, step in rate.steps:
            most = max(most, step)
    return most
