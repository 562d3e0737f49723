"""What a call passes before any provider is asked: its limits, then a hold of its cost."""

from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from shared.chat.usage import Usage
from shared.clock import Clock, Deadline
from shared.errors import BudgetExceeded, PermissionDenied, RateLimitExceeded
from shared.gateway.answer import CallContext
from shared.gateway.capacity import FullBook
from shared.gateway.catalog import Catalog
from shared.identity import Principal
from shared.ids import IdMaker
from shared.ledger.binding import Asked, Place
from shared.ledger.cost import worst_cost_of
from shared.ledger.estimate import worst_case
from shared.ledger.holds import Hold, Holds
from shared.ledger.rates import CompiledPrice
from shared.limits.limiter import Limiter, Scope, Standing, Taken
from shared.limits.rules import undone
from shared.limits.scopes import ScopeBook
from shared.providers.request import InferenceRequest, filled_in
from shared.routing.plan import Plan, Step
from shared.store.records import BudgetRef
from shared.telemetry.tally import (
    observe_budget_refusal,
    observe_full_target,
    observe_limit_refusal,
)

SLOT_SLACK_S = 5.0
"""A slot outlives its call's deadline by this, so that it never ends before the call does."""


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """What one request can use and cost at most at a step; None where no price is known.

    It keeps the step, so that no other has its id.
    """

    step: Step
    usage: Usage
    price: CompiledPrice | None
    cost_nanousd: int | None


class Estimates(msgspec.Struct, eq=False, gc=False):
    """What one request can use and cost at most, at each target that it may go to."""

    _request: InferenceRequest
    _catalog: Catalog
    _usages: dict[int, Usage] = {}
    _known: dict[int, Estimate] = {}

    def at(self, step: Step) -> Estimate:
        """Return what it can use and cost there."""
        known = self._known.get(id(step))
        if known is None:
            catalog, asked, target = self._catalog, self._request, step.target
            hold = step.hold_output_tokens
            if target.params or target.provider in catalog.filling:
                asked = filled_in(asked, catalog.params(target), hold_output_tokens=hold)
            usage = self._usages.get(hold) if asked is self._request else None
            if usage is None:
                usage = worst_case(asked, hold_output_tokens=hold)
                if asked is self._request:
                    self._usages[hold] = usage
            price = catalog.price(target, step.price)
            cost = None
            if price is not None:
                tier = asked.service_tier if price.tiers else None
                cost = worst_cost_of(usage, price, tier)
            known = self._known[id(step)] = Estimate(step, usage, price, cost)
        return known

    def differing(self, plan: Plan) -> tuple[Step, ...]:
        """Return the steps of a plan that stand for all of them here."""
        return self._catalog.differing(plan)

    def most_tokens(self, steps: Iterable[Step]) -> int:
        """Return the tokens of the dearest target, input and output together."""
        most = 0
        for step in steps:
            used = self.at(step).usage
            tokens = used.input_tokens + used.output_tokens
            if tokens > most:  # noqa: PLR1730 (a call of max costs more than this line)
                most = tokens
        return most

    def most_nanousd(self, steps: Iterable[Step]) -> int | None:
        """Return the cost at the dearest target; None where no price is known at all."""
        most: int | None = None
        for step in steps:
            cost = self.at(step).cost_nanousd
            if cost is not None and (most is None or cost > most):
                most = cost
        return most


def places_of(plan: Plan) -> tuple[Place, ...]:
    """Return where a call of the plan may go, each place once; redirects are spare ones."""

    def place(step: Step) -> Place:
        configured = plan.configured if step.route == plan.route else step.route
        return Place(step.route, configured, step.target.provider)

    steps = [place(step) for step in plan.steps]
    redirects = [place(step) for steps in plan.redirects.values() for step in steps]
    spare = [one._replace(spare=True) for one in redirects]
    return tuple(dict.fromkeys((*steps, *spare)))


class Ticket(msgspec.Struct, eq=False):
    """One admitted call: what it has taken from limits and budgets, given back by `close`.

    `standing` is what is left of the caller's limits, None where there are none.
    """

    estimates: Estimates
    hold: Hold | None
    standing: Standing | None
    _limiter: Limiter
    _taken: Taken | None
    _used_tokens: int = 0
    _asked: bool = False

    def spend(
        self, usage: Usage, cost_nanousd: int | None, budgets: tuple[BudgetRef, ...] = ()
    ) -> None:
        """Count an attempt that has ended, in its budgets too. Never fails."""
        self._asked = True
        self._used_tokens += usage.input_tokens + usage.output_tokens
        if self.hold is not None and cost_nanousd:
            self.hold.spend(cost_nanousd, budgets)

    def untouched(self) -> Standing | None:
        """Return what is left of the caller's limits where the call comes to no attempt."""
        if self.standing is None or self._taken is None:
            return self.standing
        return undone(self.standing, tokens=self._taken.tokens)

    def denied(self, step: Step) -> PermissionDenied | None:
        """Return why nothing may be called there whose price is unknown, None when it may."""
        hold = self.hold
        walled = hold is not None and hold.at(step.route, step.target.provider).rejects
        if not walled and step.price.unknown != "deny":
            return None
        why = "a budget that rejects applies to this key" if walled else "its route denies that"
        return PermissionDenied(
            f"The price of {step.target.name} is unknown, and {why}; set `price` on the route or "
            "its target.",
            param="model",
        )

    def narrowed(self, plan: Plan) -> Plan:
        """Return the plan without the steps whose own budgets are spent."""
        hold = self.hold
        if hold is None or hold.is_good_everywhere:
            return plan

        def covered(steps: tuple[Step, ...]) -> tuple[Step, ...]:
            return tuple(one for one in steps if hold.covers(one.route, one.target.provider))

        redirects = {kind: covered(steps) for kind, steps in plan.redirects.items()}
        return msgspec.structs.replace(plan, steps=covered(plan.steps), redirects=redirects)

    def close(self) -> None:
        """End the call: free its slot, settle its tokens, let the rest of its hold go.

        A call that came to no attempt has cost its caller nothing, not even the request. A second
        time changes nothing. Never waits, never fails.
        """
        taken, self._taken = self._taken, None
        if taken is not None and self._asked:
            self._limiter.give_back(taken, used_tokens=self._used_tokens)
        elif taken is not None:
            self._limiter.undo(taken)
        if self.hold is not None:
            self.hold.release()


class Room:
    """What one attempt has taken of its target's limits."""

    __slots__ = ("_limiter", "_taken")

    def __init__(self, limiter: Limiter, taken: Taken) -> None:
        self._limiter = limiter
        self._taken = taken

    def settle(self, usage: Usage) -> None:
        """End the attempt: free its slot, correct its tokens to those it used. Never fails."""
        used_tokens = usage.input_tokens + usage.output_tokens
        self._limiter.give_back(self._taken, used_tokens=used_tokens)

    def leave(self) -> None:
        """End it as if it had never been, for the target was not asked. Never fails."""
        self._limiter.undo(self._taken)


class Admission:
    """Admits calls, or says why not. One per process and config."""

    def __init__(
        self,
        limiter: Limiter,
        scopes: ScopeBook,
        clock: Clock,
        ids: IdMaker,
        refused: Callable[[BudgetExceeded], None] | None = None,
    ) -> None:
        """`refused` hears of each call that a budget refused."""
        self._limiter = limiter
        self._scopes = scopes
        self._clock = clock
        self._ids = ids
        self._refused = refused
        self.full = FullBook(clock)

    async def admit(
        self,
        principal: Principal,
        plan: Plan,
        estimates: Estimates,
        *,
        holds: Holds,
        deadline: Deadline,
        context: CallContext,
    ) -> Ticket:
        """Take the call's limits, then hold its money; all or nothing. `close` the ticket.

        Raises:
            RateLimitExceeded: a rate, or as many calls as may run do.
            Overloaded: Redis is away and the policy is to refuse.
            BudgetExceeded: the money is spent, or held by other calls for too long.
            StoreUnavailable: no money is at hand and the database cannot be asked for some.
        """
        steps = estimates.differing(plan)
        scopes = self._scopes.find(principal, route=plan.configured, user=context.user)
        taken: Taken | None = None
        if scopes:
            try:
                taken = await self._limiter.take(
                    scopes,
                    tokens=estimates.most_tokens(steps),
                    # A job may run again, so its id names no single call.
                    slot=context.request_id if context.job_id is None else self._ids("slot"),
                    slot_s=deadline.left_s(self._clock) + SLOT_SLACK_S,
                )
            except RateLimitExceeded as error:
                observe_limit_refusal(error.limit_source)
                scope = error.limit_source.rpartition("/")[0]
                if scope == f"route:{plan.configured}":
                    self.full.learn(scope, error)
                raise
        try:
            hold = await holds.hold(
                principal,
                estimates.most_nanousd(steps),
                deadline=deadline,
                asked=Asked(user=context.user, tags=context.tags, places=partial(places_of, plan)),
            )
        except BaseException as error:
            if isinstance(error, BudgetExceeded):
                observe_budget_refusal("reject")
                if self._refused is not None:
                    self._refused(error)
            if taken is not None:
                self._limiter.undo(taken)
            raise
        standing = None if taken is None else taken.standing
        return Ticket(estimates, hold, standing, self._limiter, taken)

    async def enter(self, step: Step, limits: Scope, estimates: Estimates, left_s: float) -> Room:
        """Take one attempt's share of its target's limits. Settle or leave the room it gives.

        `left_s` are the seconds that the attempt may last.

        Raises:
            RateLimitExceeded: the target has as much as it may.
            Overloaded: Redis is away and the policy is to refuse.
        """
        try:
            taken = await self._limiter.take(
                (limits,),
                tokens=estimates.most_tokens((step,)),
                slot=self._ids("slot"),
                slot_s=left_s + SLOT_SLACK_S,
            )
        except RateLimitExceeded as error:
            observe_full_target(step.target.provider)
            self.full.learn(limits.name, error)
            raise
        return Room(self._limiter, taken)
