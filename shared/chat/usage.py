"""Token counts of one attempt, in one shape for every provider."""

import msgspec

MOST_TOKENS = 1_000_000_000
"""More than any call uses; its cost, and sums of thousands of such, still fit 64 bits."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What an attempt used, in tokens.

    `input_tokens` includes cache reads and writes, audio and images; `output_tokens` includes
    reasoning; `cache_write_1h_tokens` are those of the cache writes that are kept for an hour,
    `cache_read_audio_tokens` those of the reads that are sound, which `input_audio_tokens` are not.
    `estimated` marks counts we made up because the provider sent none. `service_tier` is the one
    the provider says it used; `reported_nanousd` is the cost by its own account.
    `input_characters` and `input_audio_ms` (milliseconds) are what speech and its transcription are
    sold by where no tokens are counted. `web_searches` are those the provider made for the call.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_read_audio_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    input_characters: int = 0
    input_audio_ms: int = 0
    web_searches: int = 0
    estimated: bool = False
    service_tier: str | None = None
    reported_nanousd: int | None = None


def bounded(usage: Usage) -> Usage:
    """Return the usage with every count cut to 0..MOST_TOKENS.

    Callers and providers may write any number; a ledger row must fit the database.
    """
    bits = (
        usage.input_tokens
        | usage.output_tokens
        | usage.cache_read_tokens
        | usage.cache_read_audio_tokens
        | usage.cache_write_tokens
        | usage.cache_write_1h_tokens
        | usage.reasoning_tokens
        | usage.input_audio_tokens
        | usage.output_audio_tokens
        | usage.input_image_tokens
        | usage.output_image_tokens
        | usage.input_characters
        | usage.input_audio_ms
        | usage.web_searches
    )
    if 0 <= bits <= MOST_TOKENS:  # below zero as soon as one is, and never below the largest
        return usage
    cut = {name: min(max(getattr(usage, name), 0), MOST_TOKENS) for name in COUNTS}
    return msgspec.structs.replace(usage, **cut)


_UNITS = ("_tokens", "_characters", "_ms", "_searches")
COUNTS = tuple(name for name in Usage.__struct_fields__ if name.endswith(_UNITS))
