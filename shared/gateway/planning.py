"""From a request to its plan: what is known of it, and of the targets now."""

from collections import Counter
from collections.abc import Callable

from shared.gateway.answer import CallContext
from shared.gateway.catalog import Catalog
from shared.health.book import HealthBook
from shared.ledger.cost import worst_cost_of
from shared.ledger.estimate import worst_case
from shared.providers.request import InferenceRequest, filled_in
from shared.routing.order import Draw, Facts, ordered
from shared.routing.plan import MOST_DRAWN, Plan, build_plan
from shared.routing.route import Route, WeightedTarget


class Planner:
    """Plans calls; keeps whose turn it is on routes that take turns. One per process."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._turns: Counter[str] = Counter()

    def plan(
        self,
        catalog: Catalog,
        health: HealthBook,
        route: Route,
        request: InferenceRequest,
        context: CallContext,
        *,
        counts: bool = True,
    ) -> Plan:
        """Return the plan of one request; one that does not count is nobody's turn."""
        all_closed = health.all_closed
        if all_closed:
            fixed = catalog.plans.get(route.model)
            if fixed is not None:
                return fixed
            lots = catalog.lots.get(route.model)
            if lots is not None:
                return lots.drawn(self._draw)
        # By the file's name: those that callers invent under a wildcard are without number.
        turn = self._turns[route.configured]
        self._turns[route.configured] += counts
        facts = Facts(
            sticky=_sticky_key(route, request, context), cost_of=_costs(catalog, route, request)
        )
        order = ordered(route, facts, health, self._draw, turn)
        drawn = catalog.drawn.get(route.model) if all_closed else None
        key = tuple(map(id, order))
        plan = None if drawn is None else drawn.get(key)
        if plan is None:
            plan = build_plan(
                route,
                catalog.routes.find,
                self._draw,
                turn,
                facts=facts,
                outlook=health,
                order=order,
            )
            if drawn is not None and len(drawn) < MOST_DRAWN:
                drawn[key] = plan
        return plan


def _sticky_key(route: Route, request: InferenceRequest, context: CallContext) -> str | None:
    match route.sticky:
        case "session":
            return context.session or context.user
        case "prompt_cache":
            return request.head.prompt_cache_key or context.session or context.user
        case "off":
            return None


def _costs(
    catalog: Catalog, route: Route, request: InferenceRequest
) -> Callable[[WeightedTarget], int | None]:
    def cost_of(choice: WeightedTarget) -> int | None:
        price = catalog.price(choice.target, choice.price)
        if price is None:
            return None
        hold, params = route.hold_output_tokens, catalog.params(choice.target)
        asked = filled_in(request, params, hold_output_tokens=hold)
        usage = worst_case(asked, hold_output_tokens=hold)
        return worst_cost_of(usage, price, asked.service_tier)

    return cost_of
