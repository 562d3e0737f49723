"""One call to a provider, from its opening in the books to its one charge."""

import msgspec

from shared.chat.usage import Usage, bounded
from shared.clock import Clock
from shared.errors import CHAIN_CODES, FailedAttempt, FailureKind, GatewayError, UpstreamError
from shared.gateway.admission import Room, Ticket
from shared.gateway.answer import CostDoubt
from shared.health.book import HealthBook, Watched
from shared.health.breaker import GOOD, SILENT, Verdict
from shared.ledger.books import Books, Charge, Opening, Outcome
from shared.ledger.cost import cost_of, disagrees
from shared.ledger.rates import ESTIMATE, CompiledPrice
from shared.providers.target import Target
from shared.telemetry.tally import observe_attempt, observe_doubt

SUCCEEDED = Outcome.SUCCEEDED
"""For every call: Python 3.11 goes a long way to a member by its class."""

_FAULTS = frozenset(
    {
        FailureKind.OVERLOADED,
        FailureKind.SERVER_ERROR,
        FailureKind.TIMEOUT,
        FailureKind.CONNECTION,
        FailureKind.MALFORMED,
        FailureKind.CREDENTIAL,
    }
)


class Attempt(msgspec.Struct, eq=False):
    """One call that has been opened in the books; closes itself exactly once.

    `estimated`: its cost, once it is known, comes from made-up counts or another's price.
    """

    opening: Opening
    _clock: Clock
    _books: Books
    _price: CompiledPrice | None
    _ticket: Ticket
    _health: HealthBook
    _target: Target
    _room: Room | None
    _watched: Watched | None
    _started_s: float
    cost_nanousd: int | None = None
    estimated: bool = False
    _closed: bool = False

    def close(
        self,
        outcome: Outcome,
        usage: Usage | None,
        *,
        error: GatewayError | None = None,
        reported_model: str | None = None,
        first_token_s: float | None = None,
    ) -> FailedAttempt:
        """Write the charge and return the attempt as callers see it.

        No `usage`: the provider refused, and bills nothing.
        """
        opening, elapsed_s = self.opening, self._clock.monotonic() - self._started_s
        upstream = error if isinstance(error, UpstreamError) else None
        code = None if error is None else _code_of(error)
        word, duration_ms = outcome._value_, round(elapsed_s * 1000)  # .value without its call
        well = 200 if outcome is SUCCEEDED else None
        status_code = well if upstream is None else upstream.status
        if not self._closed:
            self._closed = True
            billed, usage = usage is not None, bounded(usage or Usage())
            self.cost_nanousd = cost = self._cost(usage) if billed else 0
            self._books.close(
                Charge(
                    opening=opening,
                    outcome=outcome,
                    usage=usage,
                    cost_nanousd=cost,
                    code=code,
                    status_code=status_code,
                    reported_model=reported_model,
                    duration_ms=duration_ms,
                    first_token_ms=None if first_token_s is None else round(first_token_s * 1000),
                    ended_at=self._clock.now(),
                )
            )
            self._ticket.spend(usage, cost, opening.budgets)
            if self._room is not None:
                self._end_room(self._room, usage, upstream)
            if self._watched is not None:
                taken_s = elapsed_s if first_token_s is None else first_token_s
                if outcome is SUCCEEDED and upstream is None:
                    self._health.ended(self._watched, GOOD, taken_s)
                else:
                    self._tell_health(self._watched, outcome, upstream, taken_s)
            observe_attempt(opening.provider, word, code, elapsed_s, usage, cost)
            if usage.estimated or self.estimated or usage.reported_nanousd is not None:
                self._tell_doubts(usage)
        return FailedAttempt(
            id=opening.attempt_id,
            provider=opening.provider,
            model=opening.model,
            outcome=word,
            kind=None if upstream is None else upstream.kind.value,
            status_code=status_code,
            duration_ms=duration_ms,
            message=None if error is None else error.message,
        )

    def _end_room(self, room: Room, usage: Usage, error: UpstreamError | None) -> None:
        if error is not None and not error.sent:
            room.leave()
        else:
            room.settle(usage)

    @property
    def doubt(self) -> CostDoubt | None:
        """What is not sure of its cost, as far as is known by now."""
        if self._price is None:
            return "unknown"
        return "estimated" if self.estimated or self._price.source == ESTIMATE else None

    def _cost(self, usage: Usage) -> int | None:
        """Return what it cost; where the price is a guess, by the provider's own account."""
        price = self._price
        if price is None:
            return None
        self.estimated = usage.estimated or price.source == ESTIMATE
        if price.source == ESTIMATE and usage.reported_nanousd is not None:
            return usage.reported_nanousd
        return cost_of(usage, price)

    def _tell_doubts(self, usage: Usage) -> None:
        provider, cost, reported = self.opening.provider, self.cost_nanousd, usage.reported_nanousd
        if usage.estimated:
            observe_doubt(provider, "usage")
        elif self.estimated:
            observe_doubt(provider, "price")
        elif cost is not None and reported is not None and disagrees(cost, reported):
            observe_doubt(provider, "reported")

    def _tell_health(
        self, watched: Watched, outcome: Outcome, error: UpstreamError | None, elapsed_s: float
    ) -> None:
        if error is not None and error.sent:
            self._health.learn(self._target, error)
        reason = None if error is None else error.kind.value
        self._health.ended(watched, verdict_of(outcome, error), elapsed_s, reason)


def verdict_of(outcome: Outcome, error: UpstreamError | None) -> Verdict:
    """Return what an attempt says of its target; what its caller did or asked says nothing.

    Nor does a limit that was reached: that is a fact with an end, not a fault.
    """
    if outcome is SUCCEEDED:
        return GOOD
    return Verdict.BAD if error is not None and error.kind in _FAULTS else SILENT


def _code_of(error: GatewayError) -> str:
    return CHAIN_CODES[error.kind] if isinstance(error, UpstreamError) else error.code
