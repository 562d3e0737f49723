"""Which requests are asked of two targets, and how long the first of them has for itself."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.attempts.chain import Try
from shared.attempts.hedge import Hedged, Race, Waits, second_of
from shared.attempts.retry_budget import Allowance
from shared.attempts.stream import UpstreamStream
from shared.clock import Clock
from shared.gateway.attempt import Attempt
from shared.gateway.runner import Runner
from shared.health.book import HealthBook
from shared.ledger.books import Outcome
from shared.providers.exchange import Reply
from shared.routing.plan import Plan
from shared.telemetry.tally import observe_hedge

Won = TypeVar("Won")
WholeCall = Callable[[Try], Awaitable[tuple[Reply, Attempt]]]
StreamCall = Callable[[Try], Awaitable[tuple[UpstreamStream, Attempt]]]


class Hedging:
    """Keeps how long the callers of hedged routes have waited. One per process."""

    def __init__(self, clock: Clock, health: HealthBook) -> None:
        self._clock = clock
        self._health = health
        self._waits: dict[tuple[str, bool], Waits] = {}  # by the file's name; streams apart

    def whole(self, call: WholeCall, plan: Plan, runner: Runner, allowance: Allowance) -> WholeCall:
        """Return the call for a whole answer, hedged where the plan says so."""
        if not plan.hedge.enabled:
            return call
        waits = self._of(plan, stream=False)

        async def measured(tried: Try) -> tuple[Reply, Attempt]:
            began_s = self._clock.monotonic()
            won = await call(tried)
            waits.add(self._clock.monotonic() - began_s)
            return won

        async def lost(_late: tuple[Reply, Attempt]) -> None:
            """Nothing: both have answered, both are paid."""

        hedged = self._hedged(measured, plan, waits, allowance, lost)
        if hedged is None:
            return measured

        async def winner_last(tried: Try) -> tuple[Reply, Attempt]:
            reply, attempt = await hedged(tried)
            good = attempt.opening.attempt_id
            runner.shown.sort(key=lambda shown: shown.id == good)
            return reply, attempt

        return winner_last

    def stream(
        self, call: StreamCall, plan: Plan, runner: Runner, allowance: Allowance
    ) -> StreamCall:
        """Return the call for a stream, hedged where the plan says so."""
        if not plan.hedge.enabled:
            return call
        waits = self._of(plan, stream=True)

        async def measured(tried: Try) -> tuple[UpstreamStream, Attempt]:
            upstream, attempt = await call(tried)
            waits.add(upstream.first_token_s)
            return upstream, attempt

        async def lost(late: tuple[UpstreamStream, Attempt]) -> None:
            upstream, attempt = late
            runner.close_stream(attempt, upstream, Outcome.CANCELLED)
            await upstream.aclose()

        return self._hedged(measured, plan, waits, allowance, lost) or measured

    def _of(self, plan: Plan, *, stream: bool) -> Waits:
        return self._waits.setdefault((plan.configured, stream), Waits())

    def _hedged(
        self,
        call: Callable[[Try], Awaitable[Won]],
        plan: Plan,
        waits: Waits,
        allowance: Allowance,
        lost: Callable[[Won], Awaitable[None]],
    ) -> Hedged[Won] | None:
        after_s = plan.hedge.after_s or waits.slow_s()
        second = second_of(plan, lambda step: self._health.is_fit(step.target))
        if after_s is None or second is None:
            return None
        return Hedged(
            call,
            second,
            after_s,
            clock=self._clock,
            allowance=allowance,
            lost=lost,
            raced=_count,
        )


def _count(race: Race) -> None:
    observe_hedge("second" if race.second else "first")
