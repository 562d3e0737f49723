"""Token counts in the words of OpenAI's Responses, both ways."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

import msgspec

from shared.chat.usage import Usage
from shared.providers.dialects.counts import count_in, part_in
from shared.providers.dialects.openai_usage import reported_nanousd

_SEARCH = b'"web_search_call"'
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Inside(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None


class _Outside(msgspec.Struct, gc=False):
    reasoning_tokens: _Count | None = None


class WireUsage(msgspec.Struct, gc=False):
    """`usage` of a response."""

    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    input_tokens_details: _Inside | None = None
    output_tokens_details: _Outside | None = None
    cost: object = None
    cost_in_usd_ticks: object = None


class _Action(msgspec.Struct, gc=False):
    type: str = "search"


class _Item(msgspec.Struct, gc=False):
    type: str = ""
    action: _Action | None = None


_decode_items = msgspec.json.Decoder(list[_Item]).decode


def searches_in(output: bytes | memoryview | msgspec.Raw) -> int:
    """Return how many searches of the web the items of a response show.

    OpenAI charges for those that search, not for those that open or read a page.
    """
    if _SEARCH not in bytes(output):
        return 0
    try:
        items = _decode_items(output)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    calls = (item.action or _Action() for item in items if item.type == "web_search_call")
    return sum(call.type == "search" for call in calls)


def usage_of(
    usage: object, service_tier: str | None = None, *, web_searches: int = 0
) -> Usage | None:
    """Return what was used; None where nothing, or nothing readable, is said.

    What is no count is left out, whatever it stands beside; without the output it is `estimated`.
    """
    wire = _cleaned(usage) if isinstance(usage, Mapping) else None
    if wire is None or (wire.input_tokens is None and wire.output_tokens is None):
        return None
    inside = wire.input_tokens_details or _Inside()
    outside = wire.output_tokens_details or _Outside()
    taken, given = wire.input_tokens or 0, wire.output_tokens or 0
    read = min(inside.cached_tokens or 0, taken)
    return Usage(
        input_tokens=taken,
        output_tokens=given,
        cache_read_tokens=read,
        cache_write_tokens=min(inside.cache_write_tokens or 0, taken - read),
        reasoning_tokens=min(outside.reasoning_tokens or 0, given),
        web_searches=web_searches,
        estimated=wire.output_tokens is None,
        service_tier=service_tier,
        reported_nanousd=reported_nanousd(wire.cost, wire.cost_in_usd_ticks),
    )


def _cleaned(usage: Mapping[Any, object]) -> WireUsage:
    with suppress(msgspec.ValidationError):
        return msgspec.convert(usage, WireUsage, strict=False)
    inside = part_in(usage, "input_tokens_details")
    outside = part_in(usage, "output_tokens_details")
    split = part_in(inside, "cache_write_tokens")  # some tell it by how long it is kept
    written = [count_in(split, name) or 0 for name in split]
    return WireUsage(
        input_tokens=count_in(usage, "input_tokens"),
        output_tokens=count_in(usage, "output_tokens"),
        input_tokens_details=_Inside(
            cached_tokens=count_in(inside, "cached_tokens"),
            cache_write_tokens=sum(written) or count_in(inside, "cache_write_tokens"),
        ),
        output_tokens_details=_Outside(reasoning_tokens=count_in(outside, "reasoning_tokens")),
        cost=usage.get("cost"),
        cost_in_usd_ticks=usage.get("cost_in_usd_ticks"),
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
