"""Token counts in the words of OpenAI's Responses, both ways."""

from typing import Any

import msgspec

from shared.chat.usage import Usage


class _Inside(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _Outside(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct, gc=False):
    """`usage` of a response."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Inside | None = None
    output_tokens_details: _Outside | None = None


def usage_of(usage: object, service_tier: str | None = None) -> Usage | None:
    """Return what was used; None where nothing, or nothing readable, is said."""
    try:
        wire = msgspec.convert(usage, WireUsage | None, strict=False)
    except msgspec.ValidationError:
        return None
    if wire is None or (wire.input_tokens is None and wire.output_tokens is None):
        return None
    inside = wire.input_tokens_details or _Inside()
    outside = wire.output_tokens_details or _Outside()
    taken, given = wire.input_tokens or 0, wire.output_tokens or 0
    return Usage(
        input_tokens=taken,
        output_tokens=given,
        cache_read_tokens=min(inside.cached_tokens or 0, taken),
        cache_write_tokens=inside.cache_write_tokens or 0,
        reasoning_tokens=min(outside.reasoning_tokens or 0, given),
        service_tier=service_tier,
    )


def render_usage(usage: Usage) -> dict[str, Any]:
    """Return the `usage` of a response, with both its details."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
