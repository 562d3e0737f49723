"""Cache marks within Anthropic's bounds: four, and those that last longer first."""

from collections.abc import Iterator, Mapping
from typing import Any

MOST_MARKS = 4


def bound_marks(body: Mapping[str, Any]) -> None:
    """Take out the marks of a request body that Anthropic would refuse.

    Kept are the first, which other conversations share, and the last. An hour after five minutes is
    five minutes too.
    """
    most = MOST_MARKS - ("cache_control" in body)
    marked = list(_marked(body))
    for block in marked[1 : len(marked) - most + 1]:
        del block["cache_control"]
    short = False
    for block in _marked(body):
        if "ttl" not in block["cache_control"]:
            short = True
        elif short:
            block["cache_control"] = {"type": "ephemeral"}


def _marked(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what carries a mark, in the order in which Anthropic reads a prompt."""
    blocks = [*body.get("tools", ()), *body.get("system", ())]
    for turn in body["messages"]:
        blocks += turn["content"]
    yield from (b for b in blocks if isinstance(b, dict) and "cache_control" in b)
