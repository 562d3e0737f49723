"""Streams that go by the cache: one that is kept on its way, and one that is told from it."""

from collections.abc import Iterator

from typing_extensions import override

from shared.cache.entry import Entry
from shared.errors import FailedAttempt
from shared.gateway.answer import CacheTold, CostDoubt, ServedStream, noting
from shared.gateway.leading import Led, NotedBooks
from shared.gateway.replay import Recording, told_again
from shared.limits.limiter import Standing
from shared.providers.exchange import Pieces, Taker
from shared.providers.request import InferenceRequest


class RecordedStream(Pieces):
    """Passes a stream on, and keeps the whole answer once it has ended as it should."""

    def __init__(
        self,
        stream: ServedStream,
        cache: CacheTold,
        led: Led,
        recording: Recording,
        noted: NotedBooks,
    ) -> None:
        self.cache: CacheTold | None = cache
        self._stream = stream
        self._led = led
        self._recording = recording
        self._noted = noted

    @property
    def route(self) -> str:
        """The route that was asked for."""
        return self._stream.route

    @property
    def provider(self) -> str:
        """Who answers."""
        return self._stream.provider

    @property
    def model(self) -> str:
        """The upstream model asked."""
        return self._stream.model

    @property
    def tries(self) -> int:
        """How many calls it took to get here."""
        return self._stream.tries

    @property
    def attempts(self) -> tuple[FailedAttempt, ...]:
        """The tries so far."""
        return self._stream.attempts

    @property
    def cost_doubt(self) -> CostDoubt | None:
        """What is not sure of the cost."""
        return self._stream.cost_doubt

    @property
    def waited_ms(self) -> int:
        """How long providers have taken so far."""
        return self._stream.waited_ms

    @property
    def dropped(self) -> tuple[str, ...]:
        """The caller's fields that the target could not be asked."""
        return self._stream.dropped

    @property
    def standing(self) -> Standing | None:
        """What is left of the caller's limits."""
        return self._stream.standing

    def pass_to(self, taker: Taker) -> None:
        """Give `taker` pieces as they arrive, and keep them as any others."""
        self._stream.pass_to(noting(taker, self._recording.add))

    @override
    async def piece(self) -> bytes | None:
        try:
            piece = await self._stream.piece()
        except Exception:
            self._led.found(None)  # broken off: the others had better not wait for each other
            raise
        if piece is None:
            self._keep()
        else:
            self._recording.add(piece)
        return piece

    async def aclose(self) -> None:
        """Free the upstream at once and settle; safe to call twice."""
        self._led.give_up()
        await self._stream.aclose()

    def _keep(self) -> None:
        good = self._noted.good
        body = None if good is None else self._recording.body(good.usage)
        if good is None or body is None:
            self._led.found(None)
            return
        entry = Entry(
            body=body,
            route=self.route,
            provider=self.provider,
            model=self.model,
            reported_model=good.reported_model,
            usage=good.usage,
            cost_nanousd=good.cost_nanousd,
            dropped=self.dropped,
        )
        self._led.streamed(entry, good.opening.route)


class ReplayedStream(Pieces):
    """A kept answer as a stream: nobody is asked, nothing is charged."""

    tries = 0
    attempts: tuple[FailedAttempt, ...] = ()
    standing: Standing | None = None
    cost_doubt: CostDoubt | None = None

    def __init__(self, entry: Entry, cache: CacheTold, pieces: Iterator[bytes]) -> None:
        self.cache: CacheTold | None = cache
        self.waited_ms = cache.waited_ms
        self.route = entry.route
        self.provider = entry.provider
        self.model = entry.model
        self.dropped = entry.dropped
        self._pieces = pieces

    def pass_to(self, taker: Taker) -> None:
        """Do nothing: all of it is here, and nobody waits."""

    @override
    async def piece(self) -> bytes | None:
        return next(self._pieces, None)

    async def aclose(self) -> None:
        """Need no more."""


def replayed(request: InferenceRequest, entry: Entry, told: CacheTold) -> ReplayedStream | None:
    """Return a kept answer as a stream, None where it cannot be told as one."""
    pieces = told_again(request, entry.body)
    return None if pieces is None else ReplayedStream(entry, told, pieces)
