"""What Claude's models can and cannot, by their names; everything unknown is let through.

Source: Anthropic's model pages and the 400s of its API, state of November 2026.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import msgspec

_NAME = re.compile(
    r"claude-(?:(?P<family>[a-z]+)-(?P<major>\d)(?:[-.](?P<minor>\d))?(?!\d)"
    r"|(?P<old>\d)(?:[-.](?P<old_minor>\d))?(?!\d)(?:-(?P<old_family>[a-z]+))?)"
)
_MYTHICAL = frozenset({"fable", "mythos"})

DEFAULT_MAX_TOKENS = 4_096
"""`max_tokens` where neither the caller nor the table below knows it; Anthropic demands one."""


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """One model's abilities.

    `output_limit` is in tokens. `sampling`: takes temperature and its kin; `one_sampler`: not both
    temperature and top_p. `thinking` is how it is asked to: not at all, by a `budget`, or
    `adaptive`ly. `efforts` are the levels it knows, lowest first. `thinks_unasked` thinks unless
    switched off, by `off`; None cannot be switched off. `forces_tools`: takes tool_choice any and
    tool. `prefill`: continues a last assistant message. `schema`: knows output_config.format.
    """

    output_limit: int = DEFAULT_MAX_TOKENS
    sampling: bool = True
    one_sampler: bool = False
    thinking: Literal["none", "budget", "adaptive"] = "budget"
    efforts: tuple[str, ...] = ()
    thinks_unasked: bool = False
    off: str | None = "disabled"
    forces_tools: bool = True
    prefill: bool = True
    schema: bool = False


@lru_cache(maxsize=512)
def quirks_of(model: str) -> Quirks:
    """Return what a model can, by the Claude name inside its id (of Bedrock and Vertex too).

    An unknown family counts as the newest of its number; what is no Claude gets the defaults.
    """
    found = _NAME.search(model.lower())
    if found is None:
        return Quirks()
    if found["old"] is not None:
        family, version = (
            found["old_family"] or "",
            (int(found["old"]), int(found["old_minor"] or 0)),
        )
    else:
        family, version = found["family"], (int(found["major"]), int(found["minor"] or 0))
    new = version >= (4, 7) or family in _MYTHICAL
    always = family in _MYTHICAL or (family == "opus" and version >= (5, 5))
    between = family == "sonnet" and version >= (5, 5)
    return Quirks(
        output_limit=_output_limit(family, version),
        sampling=not new,
        one_sampler=version >= (4, 1),
        thinking=_thinking(version, new=new),
        efforts=_efforts(family, version, new=new),
        thinks_unasked=always or version >= ((5, 5) if family == "haiku" else (5, 0)),
        off=None if always else "between_tools" if between else "disabled",
        forces_tools=not (always or between),
        prefill=version < (4, 6) and not new,
        schema=version >= (4, 5) or (family == "opus" and version >= (4, 1)) or new,
    )


def effort_for(wanted: str, efforts: tuple[str, ...]) -> str:
    """Return the level nearest below what is wanted, the lowest if there is none below."""
    order = ("minimal", "low", "medium", "high", "xhigh", "max")
    rank = order.index(wanted) if wanted in order else order.index("medium")
    below = [level for level in efforts if order.index(level) <= rank]
    return below[-1] if below else efforts[0]


BUDGETS: Mapping[str, int] = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 10_000,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 32_768,
}
"""Tokens to think with, by effort, for models that are given a budget."""


def _output_limit(family: str, version: tuple[int, int]) -> int:
    if version >= (4, 6) or family in _MYTHICAL:
        return 128_000
    if version >= (4, 0):
        return 32_000 if family == "opus" and version < (4, 5) else 64_000
    if version >= (3, 7):
        return 64_000
    return 8_192 if version >= (3, 5) else 4_096


def _thinking(version: tuple[int, int], *, new: bool) -> Literal["none", "budget", "adaptive"]:
    if new or version >= (4, 6):
        return "adaptive"
    return "budget" if version >= (3, 7) else "none"


def _efforts(family: str, version: tuple[int, int], *, new: bool) -> tuple[str, ...]:
    if new:
        return ("low", "medium", "high", "xhigh", "max")
    if version >= (4, 6):
        return ("low", "medium", "high", "max")
    return ("low", "medium", "high") if family == "opus" and version >= (4, 5) else ()
