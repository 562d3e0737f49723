"""Asking targets that nobody asks, so that it is known how they are. Off unless a route says so.

Each probe is a call like any other, of one token: it costs, stands in the ledger, and is heard by
the target's breaker. Every API process asks for itself, as breakers are its own.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from shared.attempts.chain import AttemptFailed, TargetFull, Try
from shared.clock import Deadline
from shared.errors import GatewayError
from shared.gateway.admission import Estimates
from shared.gateway.answer import CallContext
from shared.gateway.catalog import Catalog
from shared.gateway.parse import parse_request
from shared.gateway.runner import Kit, Runner
from shared.identity import Principal
from shared.ledger.binding import NOTHING_ASKED, Asked
from shared.ledger.books import Books
from shared.ledger.holds import Hold
from shared.routing.order import Draw
from shared.routing.plan import Plan, Step, build_plan
from shared.telemetry.log import get_logger

log = get_logger("gateway")

LOOK_S = 1.0
LONGEST_S = 30.0
"""For one probe, where the route's own limit is longer."""

PROBER = Principal(tenant_id="sluiceway:probes", key_id="sluiceway:probes", key_name="probes")
"""Who asks, for the ledger: a name that no tenant can have."""


class _NoMoney:
    """Holds for whoever has no budget."""

    async def hold(
        self,
        _principal: Principal,
        _amount_nanousd: int | None,
        *,
        deadline: Deadline,  # noqa: ARG002 (the port's)
        asked: Asked = NOTHING_ASKED,  # noqa: ARG002 (the port's)
    ) -> Hold | None:
        return None


class Prober:
    """Looks every second whom nobody has asked for as long as its route allows."""

    def __init__(self, kit: Kit, books: Books, draw: Draw) -> None:
        self._kit = kit
        self._books = books
        self._plans = _probed(kit.catalog, draw)
        now_s = kit.clock.monotonic()
        # Spread from the start: processes that began together must not ask together.
        self._asked_s = {id(plan): now_s - draw() * _every_s(plan.steps[0]) for plan in self._plans}

    async def run(self) -> None:
        """Go on until cancelled; return at once where no route wants it."""
        while self._plans:
            await self.look()
            await self._kit.clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask all that are due, beside each other, and wait for their answers."""
        now_s = self._kit.clock.monotonic()
        due = [plan for plan in self._plans if self._is_due(plan, now_s)]
        for plan in due:
            self._asked_s[id(plan)] = now_s
        await asyncio.gather(*(self._ask(plan) for plan in due))

    def _is_due(self, plan: Plan, now_s: float) -> bool:
        [step] = plan.steps
        every_s = _every_s(step)
        if now_s - self._asked_s[id(plan)] < every_s:
            return False
        return self._kit.health.may_probe(step.target, every_s)

    async def _ask(self, plan: Plan) -> None:
        kit, [step] = self._kit, plan.steps
        limit_s = min(LONGEST_S, step.timeouts.attempt_s)
        body = {
            "model": plan.route,
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 1,
        }
        request = parse_request("/v1/chat/completions", msgspec.json.encode(body))
        context = CallContext(request_id=kit.ids("probe"))
        try:
            ticket = await kit.admission.admit(
                PROBER,
                plan,
                Estimates(request, kit.catalog),
                holds=_NoMoney(),
                deadline=Deadline.after(limit_s, kit.clock),
                context=context,
            )
            try:
                runner = Runner(kit, PROBER, request, self._books, context, ticket)
                await runner.whole(Try(step=step, number=1, limit_s=limit_s))
            finally:
                ticket.close()
        except (AttemptFailed, TargetFull, GatewayError):
            pass  # it has been told where it belongs, or there was no room to ask
        except Exception:
            log.exception("probe.failed", target=step.target.name)


def _probed(catalog: Catalog, draw: Draw) -> Sequence[Plan]:
    """Return a plan for each target whose route wants it asked; of several routes the first."""
    plans: dict[tuple[str, str, str], Plan] = {}
    for route in catalog.routes.by_name.values():
        if route.breaker.probe_s is None:
            continue
        plan = build_plan(route, catalog.routes.find, draw)
        for step in plan.steps:
            key = (step.target.provider, step.target.model, step.target.credential)
            if step.route == route.model and key not in plans:
                plans[key] = msgspec.structs.replace(plan, steps=(step,), redirects={})
    return list(plans.values())


def _every_s(step: Step) -> float:
    return step.breaker.probe_s or 0.0
