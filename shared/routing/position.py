"""Where a chain goes on that runs again: what it has tried, and what came of it. Pure."""

from collections.abc import Mapping

import msgspec

from shared.errors import CHAIN_CODES, FailureKind
from shared.routing.order import Outlook
from shared.routing.plan import Plan, Step

FOR_GOOD = frozenset({"context_length_exceeded", "content_filter"})
"""Failures by code that the same question meets again wherever it met them."""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A target that was asked, and the error's code; None when nobody knows what came of it."""

    provider: str
    model: str
    credential: str = ""
    code: str | None = None


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """The targets that the run before has asked, and those of earlier runs that failed for good."""

    tried: tuple[Tried, ...] = ()


def resumed(plan: Plan, position: Position, outlook: Outlook) -> Plan:
    """Return the plan of a chain that goes on: the same steps, what has failed comes last.

    Where it had been redirected after a failure that will come again, it begins there. A target
    whose call nobody knows the end of keeps its place: its worker died, which says nothing of it.
    Targets that are not fit now stay behind those that are.
    """
    failed = {(one.provider, one.model, one.credential) for one in position.tried if one.code}
    redirect = _redirect(plan.redirects, position)
    if redirect is not None:
        steps = plan.redirects[redirect]
        plan = msgspec.structs.replace(plan, steps=steps, redirects={}, redirected=redirect)

    def last(step: Step) -> tuple[bool, bool]:
        target = step.target
        key = (target.provider, target.model, target.credential)
        return not outlook.is_fit(target), key in failed

    return msgspec.structs.replace(plan, steps=tuple(sorted(plan.steps, key=last)))


def after_run(before: Position | None, tried: tuple[Tried, ...]) -> Position | None:
    """Return what the next run should know; None when that is nothing."""
    known = () if before is None else before.tried
    kept = tuple(one for one in known if one.code in FOR_GOOD and one not in tried)
    return Position(tried=kept + tried) if kept or tried else None


def _redirect(
    redirects: Mapping[FailureKind, tuple[Step, ...]], position: Position
) -> FailureKind | None:
    codes = {one.code for one in position.tried} & FOR_GOOD
    return next((kind for kind in redirects if CHAIN_CODES[kind] in codes), None)
