"""OpenAI's `usage` object, and what its imitators make of it, as our Usage.

Sources: OpenAI's types (prompt_tokens_details, completion_tokens_details), DeepSeek
(prompt_cache_hit_tokens), Mistral (num_cached_tokens), xAI (reasoning beside the completion),
Groq (`x_groq.usage`), Perplexity (num_search_queries, `cost.total_cost`), OpenRouter
(`server_tool_use` of Claude).
"""

from collections.abc import Mapping
from contextlib import suppress
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any

import msgspec

from shared.chat.usage import MOST_TOKENS, Usage
from shared.providers.dialects.counts import count_in, part_in

_NANO = Decimal(10) ** 9
_MOST_USD = 1_000_000
"""No call costs more; a number beyond is no cost, and would not fit the books."""
_MOST_TICKS = _MOST_USD * 10**10

MOST_TIER = 64
"""Characters of a tier's name that are kept."""

_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Inside(msgspec.Struct, gc=False):
    """`prompt_tokens_details`."""

    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    audio_tokens: _Count | None = None


class _Outside(msgspec.Struct, gc=False):
    """`completion_tokens_details`."""

    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None


class _Tools(msgspec.Struct, gc=False):
    """`server_tool_use`."""

    web_search_requests: _Count | None = None


class WireUsage(msgspec.Struct, gc=False):
    """The usage object as nearly everybody sends it, decoded in one go."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None
    prompt_tokens_details: _Inside | None = None
    completion_tokens_details: _Outside | None = None
    prompt_cache_hit_tokens: _Count | None = None
    num_cached_tokens: _Count | None = None
    num_search_queries: _Count | None = None
    server_tool_use: _Tools | None = None
    cost: Any = None
    cost_in_usd_ticks: Any = None


def usage_from(usage: object, tier: object = None) -> Usage | None:
    """Return the counts, or None when there is no usable usage object.

    Counts that are no counts (text, negative, null) are left out, whatever they stand beside.
    `tier` is the answer's own `service_tier`: what was used, not what was asked.
    """
    return usage_of_wire(_cleaned(usage), tier) if isinstance(usage, Mapping) else None


def usage_of_wire(wire: WireUsage | None, tier: object = None) -> Usage | None:
    """Return the counts, or None when neither prompt nor completion is counted.

    An explicit zero is a zero; a side that is not counted is what the total leaves for it, and
    unknown without one. Subsets are cut down to what they are a part of, so that prices never go
    negative.
    """
    if wire is None or (wire.prompt_tokens is None and wire.completion_tokens is None):
        return None
    prompt, completion, total = wire.prompt_tokens, wire.completion_tokens, wire.total_tokens
    if total is not None and total > MOST_TOKENS:
        total = None
    estimated = total is None and (prompt is None or completion is None)
    if prompt is None:
        prompt = max(0, (total or 0) - (completion or 0))
    elif completion is None:
        completion = max(0, (total or 0) - prompt)
    completion = completion or 0
    cache_read, cache_write, audio_in = _inside(wire)
    outside = wire.completion_tokens_details
    reasoning = audio_out = 0
    if outside is not None:
        reasoning, audio_out = outside.reasoning_tokens or 0, outside.audio_tokens or 0
    if reasoning and wire.total_tokens == prompt + completion + reasoning:
        completion += reasoning  # xAI's chat puts it beside the completion, not inside
    if cache_read or cache_write or audio_in or reasoning or audio_out:
        cache_read = min(cache_read, prompt)
        cache_write = min(cache_write, prompt - cache_read)
        audio_in = min(audio_in, prompt - cache_read - cache_write)
        reasoning, audio_out = min(reasoning, completion), min(audio_out, completion)
    tools = wire.server_tool_use
    searches = 0 if tools is None else tools.web_search_requests or 0
    tells_cost = wire.cost is not None or wire.cost_in_usd_ticks is not None
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=reasoning,
        input_audio_tokens=audio_in,
        output_audio_tokens=audio_out,
        web_searches=wire.num_search_queries or searches,
        estimated=estimated,
        service_tier=None if tier is None else named_tier(tier),
        reported_nanousd=reported_nanousd(wire.cost, wire.cost_in_usd_ticks)
        if tells_cost
        else None,
    )


def named_tier(tier: object) -> str | None:
    """Return the name of a tier as it is kept; None where it is none."""
    return tier[:MOST_TIER] if isinstance(tier, str) and tier else None


def _inside(wire: WireUsage) -> tuple[int, int, int]:
    """Return what is told of the prompt: tokens read from a cache, written to it, and of sound."""
    cache_read, cache_write, audio = wire.prompt_cache_hit_tokens, 0, 0
    inside = wire.prompt_tokens_details
    if inside is not None:
        cache_write, audio = inside.cache_write_tokens or 0, inside.audio_tokens or 0
        if inside.cached_tokens is not None:
            cache_read = inside.cached_tokens
    if cache_read is None:
        cache_read = wire.num_cached_tokens or 0
    return cache_read, cache_write, audio


def reported_nanousd(cost: object, ticks: object = None) -> int | None:
    """Return what the provider says it charges.

    OpenRouter in USD, Perplexity as the total of a list of them, xAI in ticks of 1e-10 USD.
    """
    if isinstance(cost, Mapping):
        cost = cost.get("total_cost")
    if isinstance(ticks, int) and not isinstance(ticks, bool) and 0 <= ticks <= _MOST_TICKS:
        return (ticks + 5) // 10
    if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost <= _MOST_USD:
        return int((Decimal(str(cost)) * _NANO).to_integral_value(ROUND_HALF_UP))
    return None


def usage_in(answer: Mapping[str, object]) -> object:
    """Return the raw usage object of an answer or chunk, wherever its vendor puts it."""
    usage = answer.get("usage")
    if usage is None:
        return part_in(answer, "x_groq").get("usage")
    return usage


def _cleaned(usage: Mapping[Any, object]) -> WireUsage:
    """Return the counts that are counts; imitators send text, nulls and floats among them."""
    with suppress(msgspec.ValidationError):
        return msgspec.convert(usage, WireUsage)
    inside = part_in(usage, "prompt_tokens_details")
    outside = part_in(usage, "completion_tokens_details")
    return WireUsage(
        prompt_tokens=count_in(usage, "prompt_tokens"),
        completion_tokens=count_in(usage, "completion_tokens"),
        total_tokens=count_in(usage, "total_tokens"),
        prompt_tokens_details=_Inside(
            cached_tokens=count_in(inside, "cached_tokens"),
            cache_write_tokens=count_in(inside, "cache_write_tokens"),
            audio_tokens=count_in(inside, "audio_tokens"),
        ),
        completion_tokens_details=_Outside(
            reasoning_tokens=count_in(outside, "reasoning_tokens"),
            audio_tokens=count_in(outside, "audio_tokens"),
        ),
        prompt_cache_hit_tokens=count_in(usage, "prompt_cache_hit_tokens"),
        num_cached_tokens=count_in(usage, "num_cached_tokens"),
        num_search_queries=count_in(usage, "num_search_queries"),
        server_tool_use=_Tools(
            web_search_requests=count_in(part_in(usage, "server_tool_use"), "web_search_requests")
        ),
        cost=usage.get("cost"),
        cost_in_usd_ticks=usage.get("cost_in_usd_ticks"),
    )
