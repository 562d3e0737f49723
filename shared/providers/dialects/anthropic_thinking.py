"""How much Claude is to think, settled with what else was asked: the answer's form goes first.

A forced tool, a prefilled answer, or (with a budget) calls whose thoughts are lost forbid thinking;
then it is left out and told as `reasoning_effort`.
"""

import msgspec

from shared.chat.request import Thinking
from shared.providers.dialects.anthropic_models import BUDGETS, Quirks, effort_for

LEAST_BUDGET = 1_024
_SHARE = (3, 4)
"""Of the caller's output bound that may go into thoughts."""


class ThinkingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The fields to send; `on` says that thoughts will come; `dropped` that a wish could not be."""

    max_tokens: int
    thinking: dict[str, object] | None = None
    effort: str | None = None
    on: bool = False
    dropped: bool = False


def plan_thinking(
    wish: Thinking | None, quirks: Quirks, *, max_tokens: int | None, blocked: bool
) -> ThinkingPlan:
    """Return how to ask for thoughts.

    `max_tokens` is the caller's bound on output, thoughts included, and is only raised where it
    leaves no room for the smallest budget. `blocked`: the request forbids thinking.
    """
    limit = max_tokens or quirks.output_limit
    wish = wish or Thinking()
    wants_on = wish.enabled or wish.budget_tokens is not None or wish.effort not in {None, "none"}
    wants_off = wish.enabled is False or wish.effort == "none"
    if wants_on and not wants_off and not blocked and quirks.thinking != "none":
        return _on(wish, quirks, limit)
    if not (wants_on or wants_off or blocked):
        return ThinkingPlan(max_tokens=limit, on=quirks.thinks_unasked)
    if not quirks.thinks_unasked:
        return ThinkingPlan(max_tokens=limit, dropped=wants_on and not wants_off)
    if quirks.off is None:
        lowest = quirks.efforts[0] if wants_off else None
        return ThinkingPlan(max_tokens=limit, effort=lowest, on=True, dropped=wants_off)
    switch: dict[str, object] = {"type": quirks.off}
    return ThinkingPlan(max_tokens=limit, thinking=switch, dropped=wants_on and not wants_off)


def _on(wish: Thinking, quirks: Quirks, limit: int) -> ThinkingPlan:
    effort = None
    if wish.effort is not None and quirks.efforts:
        effort = effort_for(wish.effort, quirks.efforts)
    thinking: dict[str, object]
    if quirks.thinking == "adaptive":
        thinking = {"type": "adaptive"}
        if effort is None and wish.budget_tokens is not None and quirks.efforts:
            effort = effort_for(_word(wish.budget_tokens), quirks.efforts)
    else:
        budget = wish.budget_tokens or BUDGETS.get(wish.effort or "", BUDGETS["medium"])
        room = limit * _SHARE[0] // _SHARE[1]
        budget = max(LEAST_BUDGET, min(budget, room))
        limit = limit if budget < limit else budget + limit
        thinking = {"type": "enabled", "budget_tokens": budget}
    if wish.summary is not None:
        thinking["display"] = "omitted" if wish.summary == "omitted" else "summarized"
    return ThinkingPlan(max_tokens=limit, thinking=thinking, effort=effort, on=True)


def _word(budget_tokens: int) -> str:
    """Return the effort whose budget comes nearest from below."""
    fitting = [
        word for word, tokens in BUDGETS.items() if tokens <= budget_tokens and word != "max"
    ]
    return fitting[-1] if fitting else "minimal"
