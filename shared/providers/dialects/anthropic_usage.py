"""Anthropic's `usage` object as our Usage: what it counts apart is added up."""

from collections.abc import Mapping
from typing import Any

from shared.chat.usage import Usage


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
    plain, output = _count(wire, "input_tokens"), _count(wire, "output_tokens")
    if plain is None and output is None:
        return None
    split = _part(wire, "cache_creation")
    hour = _count(split, "ephemeral_1h_input_tokens") or 0
    write = _count(wire, "cache_creation_input_tokens")
    if write is None:
        write = hour + (_count(split, "ephemeral_5m_input_tokens") or 0)
    read = _count(wire, "cache_read_input_tokens") or 0
    thoughts = _count(_part(wire, "output_tokens_details"), "thinking_tokens") or 0
    return Usage(
        input_tokens=(plain or 0) + write + read,
        output_tokens=output or 0,
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=min(hour, write),
        reasoning_tokens=min(thoughts, output or 0),
        web_searches=_count(_part(wire, "server_tool_use"), "web_search_requests") or 0,
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


def _part(wire: Mapping[Any, object], name: str) -> Mapping[Any, object]:
    found = wire.get(name)
    return found if isinstance(found, Mapping) else {}


def _count(wire: Mapping[Any, object], name: str) -> int | None:
    found = wire.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return int(found) if found >= 0 else None
