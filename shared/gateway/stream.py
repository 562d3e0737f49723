"""A stream on its way to a caller. It owns its settlement: one place, whatever happens."""

from shared.attempts.stream import UpstreamStream
from shared.errors import FailedAttempt, StreamInterrupted, UpstreamError
from shared.gateway.attempt import Attempt
from shared.gateway.runner import Runner
from shared.ledger.books import Outcome
from shared.ledger.cost import usd_text
from shared.limits.limiter import Standing


class AnswerStream:
    """Yields bytes in the served dialect, the first of them with content.

    Raises StreamInterrupted when the upstream breaks: an explicit error event is then due, never a
    made-up end. `aclose` before the end means that the caller has gone.
    """

    def __init__(
        self, route: str, runner: Runner, upstream: UpstreamStream, attempt: Attempt
    ) -> None:
        self.route = route
        self.provider = attempt.opening.provider
        self.model = attempt.opening.model
        self._runner = runner
        self._upstream = upstream
        self._attempt = attempt
        self._settled = False

    @property
    def attempts(self) -> tuple[FailedAttempt, ...]:
        """The tries so far; the one that streams is listed once it has ended."""
        return tuple(self._runner.shown)

    @property
    def tries(self) -> int:
        """How many calls it took to get here."""
        return self._attempt.opening.number

    @property
    def waited_ms(self) -> int:
        """How long providers have taken so far: failed tries, then this one's first token."""
        failed_ms = sum(attempt.duration_ms for attempt in self._runner.shown)
        return failed_ms + round(self._upstream.first_token_s * 1000)

    @property
    def standing(self) -> Standing | None:
        """What is left of the caller's limits."""
        return self._runner.ticket.standing

    def __aiter__(self) -> "AnswerStream":
        return self

    async def __anext__(self) -> bytes:
        while not self._settled:
            try:
                piece = await self._upstream.piece()
            except UpstreamError as error:
                self._settle(Outcome.INTERRUPTED, error)
                raise StreamInterrupted(
                    f"The answer broke off and is not complete: {error.message}"
                ) from error
            if piece is None:
                self._settle(Outcome.SUCCEEDED)
                return self._upstream.scanner.closing(self._cost_text())
            if piece:
                return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Free the upstream at once and settle; safe to call twice."""
        if not self._settled:
            self._settle(Outcome.CANCELLED)
        await self._upstream.aclose()

    def _settle(self, outcome: Outcome, error: UpstreamError | None = None) -> None:
        self._settled = True
        self._runner.close_stream(self._attempt, self._upstream, outcome, error)
        self._runner.ticket.close()

    def _cost_text(self) -> str | None:
        if self._attempt.cost_nanousd is None:
            return None
        return usd_text(self._runner.spent_nanousd)
