"""Anthropic's `usage` object as our Usage: what it counts apart is added up."""

from collections.abc import Mapping
from typing import Any

from shared.chat.usage import Usage
from shared.providers.dialects.counts import count_in, part_in


def merged(before: Mapping[str, object], after: object) -> Mapping[str, object]:
    """Return a stream's counts so far: they are cumulative, what is null says nothing."""
    if not isinstance(after, Mapping):
        return before
    return {**before, **{name: value for name, value in after.items() if value is not None}}


def usage_from(wire: object, *, estimated: bool = False) -> Usage | None:
    """Return the counts, or None when neither input nor output is counted.

    Anthropic's `input_tokens` leave out what was read from and written to the cache. `estimated`
    marks those of a stream's head, which do not know the output yet. `service_tier` is OpenAI's
    `default` for the standard one, and `fast` where that speed was used.
    """
    if not isinstance(wire, Mapping):
        return None
    plain, output = count_in(wire, "input_tokens"), count_in(wire, "output_tokens")
    if plain is None and output is None:
        return None
    split = part_in(wire, "cache_creation")
    hour = count_in(split, "ephemeral_1h_input_tokens") or 0
    write = count_in(wire, "cache_creation_input_tokens")
    if write is None:
        write = hour + (count_in(split, "ephemeral_5m_input_tokens") or 0)
    read = count_in(wire, "cache_read_input_tokens") or 0
    thoughts = count_in(part_in(wire, "output_tokens_details"), "thinking_tokens") or 0
    return Usage(
        input_tokens=(plain or 0) + write + read,
        output_tokens=output or 0,
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=min(hour, write),
        reasoning_tokens=min(thoughts, output or 0),
        web_searches=count_in(part_in(wire, "server_tool_use"), "web_search_requests") or 0,
        estimated=estimated,
        service_tier=_tier(wire),
    )


def _tier(wire: Mapping[Any, object]) -> str | None:
    if wire.get("speed") == "fast":
        return "fast"
    tier = wire.get("service_tier")
    if not isinstance(tier, str):
        return None
    return "default" if tier == "standard" else tier
