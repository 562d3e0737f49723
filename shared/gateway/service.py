"""`Gateway.complete` and `Gateway.stream`: the product, the same for the API and for workers."""

from collections.abc import Awaitable
from typing import Any

import msgspec

from shared.attempts.chain import run_chain
from shared.attempts.remedy import LEAST_ATTEMPT_S
from shared.attempts.retry_budget import Allowance
from shared.clock import Deadline
from shared.crowd import NEXT_TURN
from shared.errors import (
    ChainFailed,
    DeadlineExceeded,
    FailureKind,
    GatewayError,
    ModelNotFound,
)
from shared.gateway.admission import Estimates, Ticket
from shared.gateway.answer import Answer, CallContext, ServedStream
from shared.gateway.capacity import Capacity
from shared.gateway.explaining import explain
from shared.gateway.failure import kept
from shared.gateway.hedging import Hedging
from shared.gateway.leading import Led, answer_of
from shared.gateway.parse import parse_request
from shared.gateway.planning import Planner
from shared.gateway.recovery import Recovery, may_recover
from shared.gateway.retries import Allowances
from shared.gateway.runner import Kit, Runner
from shared.gateway.stream import AnswerStream
from shared.identity import Principal
from shared.ledger.books import Books
from shared.ledger.holds import Holds
from shared.providers.request import InferenceRequest
from shared.routing.order import Draw
from shared.routing.plan import Plan
from shared.routing.position import resumed
from shared.routing.route import Route, direct_route
from shared.routing.rules import first_match

PROVIDER_MODELS = "provider_models"
"""The scope that lets a key address `provider/model` without a route."""


class Gateway:
    """Plans, runs and settles. Writes nothing durable itself: that is the books' part."""

    def __init__(self, kit: Kit, draw: Draw) -> None:
        self.kit = kit
        self._capacity = Capacity(kit.catalog, kit.health, kit.admission.full)
        self._draw = draw
        self._planner = Planner(draw)
        self._allowances = Allowances(kit.clock, kit.health)
        self._hedging = Hedging(kit.clock, kit.health)

    async def complete(
        self,
        principal: Principal,
        request: InferenceRequest,
        *,
        deadline: Deadline,
        books: Books,
        holds: Holds,
        context: CallContext,
        route: Route | None = None,
    ) -> Answer:
        """Return a whole answer in the served dialect. `route`: where it is known already.

        Raises:
            ModelNotFound: no route of that name for this key.
            RateLimitExceeded, BudgetExceeded, Overloaded: see `Admission.admit`.
            ChainFailed: no target answered.
            DeadlineExceeded: the caller's own, shorter time ran out.
            StoreUnavailable: no money could be held, or the books could not be opened; nothing
                was called.
        """
        led: Led | None = None
        if context.cache is not None:
            await NEXT_TURN
            led = self._led(principal, request, context, route)
        if led is not None:
            if not led.is_ready:
                given = await led.given(principal, context, deadline, answer_of)
                if given is not None:
                    return given
            route, deadline = led.route, led.until or deadline
        try:
            route = route or self._route(principal, request.head.model, context)
            plan, deadline = self._plan(route, request, deadline, context)
            ticket = await self._admit(principal, plan, request, holds, deadline, context)
            plan = ticket.narrowed(plan)
            runner = Runner(self.kit, principal, request, books, context, ticket)
            allowance = self._allowances.of(plan)
            try:
                reply, attempt = await run_chain(
                    plan,
                    self._hedging.whole(runner.whole, plan, runner, allowance),
                    clock=self.kit.clock,
                    deadline=deadline,
                    draw=self._draw,
                    allowance=allowance,
                )
            except ChainFailed as failure:
                raise self._shown(failure, runner, request, deadline, context) from failure
            finally:
                ticket.close()
            told = None if led is None else led.told
            answer = runner.answer(plan.route, reply, attempt, told)
        except BaseException as failure:
            if led is not None:
                led.fail(failure)
            raise
        if led is not None:
            led.answered(answer)
        return answer

    async def stream(
        self,
        principal: Principal,
        request: InferenceRequest,
        *,
        deadline: Deadline,
        books: Books,
        holds: Holds,
        context: CallContext,
        route: Route | None = None,
    ) -> ServedStream:
        """Return a stream whose first content has arrived. The caller must close it.

        Raises what `complete` raises.
        """
        route = route or self._route(principal, request.head.model, context)
        plan, deadline = self._plan(route, request, deadline, context)
        ticket = await self._admit(principal, plan, request, holds, deadline, context)
        plan = ticket.narrowed(plan)
        runner = Runner(self.kit, principal, request, books, context, ticket)
        allowance = self._allowances.of(plan)
        recovery = self._recovery(plan, runner, request, deadline, allowance)
        first = runner.stream if recovery is None else recovery.first
        call = self._hedging.stream(first, plan, runner, allowance)
        try:
            upstream, attempt = await run_chain(
                plan,
                call,
                clock=self.kit.clock,
                deadline=deadline,
                draw=self._draw,
                allowance=allowance,
            )
        except BaseException as error:
            ticket.close()
            if isinstance(error, ChainFailed):
                raise self._shown(error, runner, request, deadline, context) from error
            raise
        return AnswerStream(plan.route, runner, upstream, attempt, recovery)

    def _recovery(
        self,
        plan: Plan,
        runner: Runner,
        request: InferenceRequest,
        deadline: Deadline,
        allowance: Allowance,
    ) -> Recovery | None:
        if plan.stream_recovery == "off" or not may_recover(request):
            return None
        return Recovery(
            plan.stream_recovery,
            plan,
            runner,
            request,
            catalog=self.kit.catalog,
            clock=self.kit.clock,
            deadline=deadline,
            draw=self._draw,
            allowance=allowance,
        )

    def models(self, principal: Principal) -> list[str]:
        """Return what the key may ask for by name, routes first, then aliases."""
        routes = self.kit.catalog.routes
        named = [(name, routes.find(name)) for name in routes.names()]
        return [
            name
            for name, route in named
            if route is not None and principal.may_ask(name, route.model, route.configured)
        ]

    def standing_still(self) -> frozenset[str]:
        """Return the models that no call can be made of just now; see `Capacity`."""
        return self._capacity.standing_still()

    def check(self, principal: Principal, model: str) -> None:
        """Return if the key may ask for the model; for jobs, before they are accepted.

        Raises:
            ModelNotFound: no route of that name for this key.
        """
        self._route(principal, model)

    def counts_tokens(self, principal: Principal, model: str, context: CallContext) -> bool:
        """Return whether the model's first target can be asked how many tokens a question has.

        Raises:
            ModelNotFound: no route of that name for this key.
        """
        first = self._route(principal, model, context).choices[0][0].target
        return self.kit.catalog.providers[first.provider].adapter.counts_tokens

    def explain(self, model: str, context: CallContext) -> dict[str, Any] | None:
        """Return what would be tried for a short chat of the model now; None without a route."""
        asked = self.kit.catalog.routes.find(model)
        if asked is None:
            return None
        rule = first_match(asked.rules, context.tags, context.headers or {})
        route = asked if rule is None else self.kit.catalog.routes.by_name[rule.route]
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        request = parse_request("/v1/chat/completions", msgspec.json.encode(body))
        plan = self._planner.plan(
            self.kit.catalog, self.kit.health, route, request, context, counts=False
        )
        return explain(asked, rule, route, plan, self.kit.catalog, self.kit.health)

    def _led(
        self,
        _principal: Principal,
        _request: InferenceRequest,
        _context: CallContext,
        _route: Route | None,
        /,
    ) -> Led | None:
        """Return the call as a cache sees it; here there is none, see `CachingGateway`."""
        return None

    def _admit(
        self,
        principal: Principal,
        plan: Plan,
        request: InferenceRequest,
        holds: Holds,
        deadline: Deadline,
        context: CallContext,
    ) -> Awaitable[Ticket]:
        return self.kit.admission.admit(
            principal,
            plan,
            Estimates(request, self.kit.catalog),
            holds=holds,
            deadline=deadline,
            context=context,
        )

    def _plan(
        self,
        route: Route,
        request: InferenceRequest,
        deadline: Deadline,
        context: CallContext,
    ) -> tuple[Plan, Deadline]:
        plan = self._planner.plan(self.kit.catalog, self.kit.health, route, request, context)
        if context.position is not None:
            plan = resumed(plan, context.position, self.kit.health)
        total = Deadline.after(plan.total_s, self.kit.clock)
        return plan, total if total.at_s < deadline.at_s else deadline

    def _route(self, principal: Principal, model: str, context: CallContext | None = None) -> Route:
        """Return the route that a key asks for; for a call, the one that its rules lead to."""
        catalog = self.kit.catalog
        route = catalog.routes.find(model)
        if route is None and PROVIDER_MODELS in principal.scopes:
            configured = {name: one.config for name, one in catalog.providers.items()}
            route = direct_route(model, configured)
        if route is None or not principal.may_ask(model, route.model, route.configured):
            raise ModelNotFound(
                f"The model '{model}' does not exist or this key may not use it; "
                "GET /v1/models lists those it may.",
                param="model",
            )
        if context is None or not route.rules:
            return route
        rule = first_match(route.rules, context.tags, context.headers or {})
        return route if rule is None else catalog.routes.by_name[rule.route]

    def _shown(
        self,
        failure: ChainFailed,
        runner: Runner,
        request: InferenceRequest,
        deadline: Deadline,
        context: CallContext,
    ) -> GatewayError:
        """Return the failure, or the caller's own deadline when that is what ended the chain.

        A provider that does not know the model of a `provider/model` address means the caller's.
        """
        failure.spent_nanousd = runner.spent_nanousd
        if kept(failure) is not None:
            return failure
        if context.own_deadline and deadline.left_s(self.kit.clock) < LEAST_ATTEMPT_S:
            late = DeadlineExceeded(
                "The time given by X-Sluiceway-Timeout was over before any target answered.",
                attempts=failure.attempts,
            )
            late.spent_nanousd = runner.spent_nanousd
            return late
        error = failure.error
        unknown = error is not None and error.sent and error.kind is FailureKind.NOT_FOUND
        if unknown and self.kit.catalog.routes.find(request.head.model) is None:
            failure.code = ModelNotFound.code  # type: ignore[misc]  # as ChainFailed itself does
        return failure
