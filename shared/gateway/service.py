"""`Gateway.complete` and `Gateway.stream`: the product, the same for the API and for workers."""

from collections import Counter

from shared.attempts.chain import run_chain
from shared.attempts.remedy import LEAST_ATTEMPT_S
from shared.clock import Deadline
from shared.errors import (
    ChainFailed,
    DeadlineExceeded,
    FailureKind,
    GatewayError,
    ModelNotFound,
)
from shared.gateway.admission import Estimates, Ticket
from shared.gateway.answer import Answer, CallContext
from shared.gateway.failure import kept
from shared.gateway.runner import Kit, Runner
from shared.gateway.stream import AnswerStream
from shared.identity import Principal
from shared.ledger.books import Books
from shared.ledger.holds import Holds
from shared.providers.request import InferenceRequest
from shared.routing.plan import Draw, Plan, build_plan
from shared.routing.route import Route, direct_route

PROVIDER_MODELS = "provider_models"
"""The scope that lets a key address `provider/model` without a route."""


class Gateway:
    """Plans, runs and settles. Writes nothing durable itself: that is the books' part."""

    def __init__(self, kit: Kit, draw: Draw) -> None:
        self.kit = kit
        self._draw = draw
        self._turns: Counter[str] = Counter()

    async def complete(
        self,
        principal: Principal,
        request: InferenceRequest,
        *,
        deadline: Deadline,
        books: Books,
        holds: Holds,
        context: CallContext,
    ) -> Answer:
        """Return a whole answer in the served dialect.

        Raises:
            ModelNotFound: no route of that name for this key.
            RateLimitExceeded, BudgetExceeded, Overloaded: see `Admission.admit`.
            ChainFailed: no target answered.
            DeadlineExceeded: the caller's own, shorter time ran out.
            StoreUnavailable: no money could be held, or the books could not be opened; nothing
                was called.
        """
        plan, deadline = self._plan(principal, request, deadline)
        ticket = await self._admit(principal, plan, request, holds, deadline, context)
        runner = Runner(self.kit, principal, request, books, context, ticket)
        try:
            reply, attempt = await run_chain(
                plan, runner.whole, clock=self.kit.clock, deadline=deadline, draw=self._draw
            )
        except ChainFailed as failure:
            raise self._shown(failure, request, deadline, context) from failure
        finally:
            ticket.close()
        return Answer(
            body=reply.body,
            route=plan.route,
            provider=attempt.opening.provider,
            model=attempt.opening.model,
            reported_model=reply.model,
            attempts=tuple(runner.shown),
            usage=reply.usage,
            cost_nanousd=None if attempt.cost_nanousd is None else runner.spent_nanousd,
            standing=ticket.standing,
        )

    async def stream(
        self,
        principal: Principal,
        request: InferenceRequest,
        *,
        deadline: Deadline,
        books: Books,
        holds: Holds,
        context: CallContext,
    ) -> AnswerStream:
        """Return a stream whose first content has arrived. The caller must close it.

        Raises what `complete` raises.
        """
        plan, deadline = self._plan(principal, request, deadline)
        ticket = await self._admit(principal, plan, request, holds, deadline, context)
        runner = Runner(self.kit, principal, request, books, context, ticket)
        try:
            upstream, attempt = await run_chain(
                plan, runner.stream, clock=self.kit.clock, deadline=deadline, draw=self._draw
            )
        except BaseException as error:
            ticket.close()
            if isinstance(error, ChainFailed):
                raise self._shown(error, request, deadline, context) from error
            raise
        return AnswerStream(plan.route, runner, upstream, attempt)

    def check(self, principal: Principal, model: str) -> None:
        """Return if the key may ask for the model; for jobs, before they are accepted.

        Raises:
            ModelNotFound: no route of that name for this key.
        """
        self._route(principal, model)

    async def _admit(
        self,
        principal: Principal,
        plan: Plan,
        request: InferenceRequest,
        holds: Holds,
        deadline: Deadline,
        context: CallContext,
    ) -> Ticket:
        return await self.kit.admission.admit(
            principal,
            plan,
            Estimates(request, self.kit.catalog),
            holds=holds,
            deadline=deadline,
            context=context,
        )

    def _plan(
        self, principal: Principal, request: InferenceRequest, deadline: Deadline
    ) -> tuple[Plan, Deadline]:
        route = self._route(principal, request.head.model)
        plan = self.kit.catalog.plans.get(route.model)
        if plan is None:
            # By the file's name: those that callers invent under a wildcard are without number.
            turn = self._turns[route.configured]
            self._turns[route.configured] += 1
            plan = build_plan(route, self.kit.catalog.routes.find, self._draw, turn)
        total = Deadline.after(plan.total_s, self.kit.clock)
        return plan, total if total.at_s < deadline.at_s else deadline

    def _route(self, principal: Principal, model: str) -> Route:
        catalog = self.kit.catalog
        route = catalog.routes.find(model)
        if route is None and PROVIDER_MODELS in principal.scopes:
            configured = {name: one.config for name, one in catalog.providers.items()}
            route = direct_route(model, configured)
        if route is None:
            raise ModelNotFound(
                f"The model '{model}' does not exist or this key may not use it; "
                "GET /v1/models lists those it may.",
                param="model",
            )
        return route

    def _shown(
        self,
        failure: ChainFailed,
        request: InferenceRequest,
        deadline: Deadline,
        context: CallContext,
    ) -> GatewayError:
        """Return the failure, or the caller's own deadline when that is what ended the chain.

        A provider that does not know the model of a `provider/model` address means the caller's.
        """
        if kept(failure) is not None:
            return failure
        if context.own_deadline and deadline.left_s(self.kit.clock) < LEAST_ATTEMPT_S:
            return DeadlineExceeded(
                "The time given by X-Sluiceway-Timeout was over before any target answered."
            )
        error = failure.error
        unknown = error is not None and error.sent and error.kind is FailureKind.NOT_FOUND
        if unknown and self.kit.catalog.routes.find(request.head.model) is None:
            failure.code = ModelNotFound.code  # type: ignore[misc]  # as ChainFailed itself does
        return failure
