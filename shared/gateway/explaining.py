"""What would be tried for a model now, and why; for people."""

from typing import Any

import msgspec

from shared.gateway.catalog import Catalog
from shared.health.book import HealthBook
from shared.ledger.cost import usd_text
from shared.routing.plan import Plan, Step
from shared.routing.route import Route
from shared.routing.rules import Rule

_STRATEGIES = {
    "priority": "the file's order",
    "weighted": "drawn by weight",
    "round_robin": "one further at each call",
    "least_latency": "the better of two drawn at random, by time and calls under way",
    "least_cost": "the cheapest for the request first, unknown prices last",
    "least_busy": "the fewest calls under way first, by weight",
}
_STICKY = {
    "off": None,
    "session": "one session keeps its target while that is fit",
    "prompt_cache": "one `prompt_cache_key` keeps its target while that is fit",
}


def explain(
    asked: Route, rule: Rule | None, route: Route, plan: Plan, catalog: Catalog, health: HealthBook
) -> dict[str, Any]:
    """Return a plan in words and figures, as JSON; `rule` led to `route` from the one asked for."""
    return {
        "object": "route.explanation",
        "asked": asked.model,
        "rule": None if rule is None else f"rules[{rule.place}]",
        "model": plan.route,
        "configured": plan.configured,
        "strategy": route.strategy,
        "order": _STRATEGIES[route.strategy],
        "sticky": _STICKY[route.sticky],
        "total_s": plan.total_s,
        "targets": [
            _target(number, step, plan, catalog, health)
            for number, step in enumerate(plan.steps, start=1)
        ],
        "on_failure": {
            kind.value: [step.target.name for step in steps]
            for kind, steps in plan.redirects.items()
        },
    }


def _target(
    number: int, step: Step, plan: Plan, catalog: Catalog, health: HealthBook
) -> dict[str, Any]:
    price = catalog.price(step.target, step.price)
    return {
        "position": number,
        "provider": step.target.provider,
        "model": step.target.model,
        "credential": step.target.credential,
        "route": step.route,
        "fallback": step.route != plan.route,
        "weight": step.target.weight,
        "fit": health.is_fit(step.target),
        "latency_ms": round(health.latency_s(step.target) * 1000, 1),
        "in_flight": health.busy(step.target),
        "limits": None if step.limits is None else msgspec.to_builtins(step.limits.limits),
        "max_attempts": step.retry.max_attempts,
        "price": None
        if price is None
        else {
            "input_usd_per_mtok": usd_text(price.input.base),
            "output_usd_per_mtok": usd_text(price.output.base),
            "source": price.source,
        },
        "timeouts": {
            "connect_s": step.timeouts.connect_s,
            "first_token_s": step.timeouts.first_token_s,
            "idle_s": step.timeouts.idle_s,
            "attempt_s": step.timeouts.attempt_s,
        },
    }
