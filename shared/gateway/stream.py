"""A stream on its way to a caller. It owns its settlement: one place, whatever happens."""

import msgspec
from typing_extensions import override

from shared.attempts.recovery import Differs
from shared.attempts.stream import UpstreamStream
from shared.errors import FailedAttempt, GatewayError, StreamInterrupted, UpstreamError
from shared.gateway.answer import CacheTold, CostDoubt, noting
from shared.gateway.attempt import Attempt
from shared.gateway.recovery import Continued, Recovery
from shared.gateway.runner import Runner
from shared.ledger.books import Outcome
from shared.ledger.cost import usd_text
from shared.limits.limiter import Standing
from shared.providers.exchange import Pieces, Taker
from shared.telemetry.tally import observe_recovery


class AnswerStream(Pieces):
    """Bytes in the served dialect, the first of them with content.

    Raises StreamInterrupted when the upstream breaks: an explicit error event is then due, never a
    made-up end. Where the route allows it, others are asked first to go on. `aclose` before the
    end means that the caller has gone.
    """

    cache: CacheTold | None = None

    def __init__(
        self,
        route: str,
        runner: Runner,
        upstream: UpstreamStream,
        attempt: Attempt,
        recovery: Recovery | None = None,
    ) -> None:
        self.route = route
        self.provider = attempt.opening.provider
        self.model = attempt.opening.model
        self.tries = len(runner.shown) + 1
        """How many calls it took to the first content."""
        self._runner = runner
        self._upstream = upstream
        self._attempt = attempt
        self._recovery = recovery
        self._continued: Continued | None = None
        self._booked = False
        self._settled = False

    @property
    def attempts(self) -> tuple[FailedAttempt, ...]:
        """The tries so far; the one that streams is listed once it has ended."""
        return tuple(self._runner.shown)

    @property
    def cost_doubt(self) -> CostDoubt | None:
        """What is not sure of the cost, as far as is known so far."""
        return self._runner.doubt(self._attempt)

    @property
    def waited_ms(self) -> int:
        """How long providers have taken so far: failed tries, then this one's first token."""
        failed_ms = sum(attempt.duration_ms for attempt in self._runner.shown)
        return failed_ms + round(self._upstream.first_token_s * 1000)

    @property
    def dropped(self) -> tuple[str, ...]:
        """The caller's fields that the target could not be asked."""
        return self._runner.dropped

    @property
    def standing(self) -> Standing | None:
        """What is left of the caller's limits."""
        return self._runner.ticket.standing

    def pass_to(self, taker: Taker) -> None:
        """Give `taker` pieces as they arrive, while nobody else has had to go on."""
        if self._recovery is not None:
            taker = noting(taker, self._recovery.told.add)
        self._upstream.pass_to(taker)

    @override
    async def piece(self) -> bytes | None:
        while not self._settled:
            try:
                piece = await self._upstream.piece()
            except UpstreamError as error:
                if self._recovery is None:
                    self._settle(Outcome.INTERRUPTED, error)
                    raise _interrupted(error) from error
                last = await self._gone_on(self._recovery, error)
                if last is not None:
                    return last
                continue
            if self._recovery is not None:
                piece = self._told(self._recovery, piece)
            elif piece is None:
                self._settle(Outcome.SUCCEEDED)
                return self._upstream.scanner.closing(self._cost_text())
            if piece:
                return piece
        return None

    def _told(self, recovery: Recovery, piece: bytes | None) -> bytes:
        """Return the next bytes, remembered; those after the last event for None.

        Raises:
            StreamInterrupted: another target goes on with something else than was told.
        """
        try:
            if piece is None:
                self._settle(Outcome.SUCCEEDED)
                return self._closing()
            new = piece if self._continued is None else self._continued.splice.take(piece)
        except Differs as error:
            observe_recovery("failed")
            self._settle(Outcome.CANCELLED)
            raise StreamInterrupted(
                "The answer broke off and is not complete: another target would have said "
                "something else than what had been said."
            ) from error
        if new:
            recovery.told.add(new)
        return new

    async def _gone_on(self, recovery: Recovery, error: UpstreamError) -> bytes | None:
        """Go on with another stream; returns the last bytes where only the end mark was missing.

        Raises:
            StreamInterrupted: nobody can go on.
        """
        if self._upstream.out_of_time:
            self._settle(Outcome.INTERRUPTED, error)
            raise _interrupted(error) from error
        self._book(Outcome.INTERRUPTED, error)
        await self._upstream.aclose()
        try:
            if recovery.told.so_far().finished:
                self._settle(Outcome.INTERRUPTED)
                return self._closing()
            self._continued = await recovery.next(error)
        except GatewayError as failure:
            observe_recovery("failed")
            self._settle(Outcome.INTERRUPTED)
            raise _interrupted(error, failure) from failure
        self._upstream, self._attempt = self._continued.upstream, self._continued.attempt
        self._booked = False
        return None

    def _closing(self) -> bytes:
        scanner, cost = self._upstream.scanner, self._cost_text()
        last = scanner.closing(cost)
        continued = self._continued
        if continued is None:
            return last
        usage = scanner.usage
        if usage is not None and continued.said_bytes:
            # The beginning that another had written is part of the answer, not of the question.
            begun = self._runner.estimated(continued.said_bytes).output_tokens
            usage = msgspec.structs.replace(
                usage,
                input_tokens=max(0, usage.input_tokens - begun),
                output_tokens=usage.output_tokens + begun,
            )
        return continued.splice.closing(last, usage, cost)

    async def aclose(self) -> None:
        """Free the upstream at once and settle; safe to call twice."""
        if not self._settled:
            self._settle(Outcome.CANCELLED)
        await self._upstream.aclose()

    def _settle(self, outcome: Outcome, error: UpstreamError | None = None) -> None:
        self._settled = True
        self._book(outcome, error)
        self._runner.ticket.close()

    def _book(self, outcome: Outcome, error: UpstreamError | None = None) -> None:
        """Write how the attempt under way ended, once."""
        if not self._booked:
            self._booked = True
            self._runner.close_stream(self._attempt, self._upstream, outcome, error)

    def _cost_text(self) -> str | None:
        if self._attempt.cost_nanousd is None:
            return None
        return usd_text(self._runner.spent_nanousd)


def _interrupted(error: UpstreamError, failure: GatewayError | None = None) -> StreamInterrupted:
    """Return what the caller is told: why it broke, and why nobody goes on."""
    message = f"The answer broke off and is not complete: {error.message}"
    if failure is not None:
        message += f" Nobody goes on: {failure.message}"
    return StreamInterrupted(message, error=error)
