"""One call for a stream: silent until the first content, explicit about its end."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
from typing_extensions import override

from shared.attempts.in_time import beginning_in_time
from shared.attempts.whole import MAX_ANSWER_BYTES
from shared.clock import Clock
from shared.config.model import Timeouts
from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import (
    SUCCESS,
    Exchange,
    HttpResponse,
    OpenResponse,
    Pieces,
    PlainScanner,
    PushedChunks,
    Scan,
    StreamScanner,
    Taker,
    Transport,
    piece_by_piece,
)

DRAIN_S = 0.25
"""How long the end of a finished stream may take to arrive so that its connection is kept."""

FINISH_S = 1.0
"""How long the end mark may be late once every choice has its finish reason: nothing is missing."""

MAX_STREAM_BYTES = 64 * 1024 * 1024


class UpstreamStream(Pieces):
    """A provider's stream that has shown content; before that it may fail without a trace.

    Its pieces are bytes in the served dialect; UpstreamError is raised when the stream breaks.
    After the last of them `whole` is True. `out_of_time`: it broke because its own time, or all
    of the call's, was over while it flowed. Close it in any case.
    """

    def __init__(
        self, exchange: Exchange, transport: Transport, timeouts: Timeouts, clock: Clock
    ) -> None:
        self.scanner: StreamScanner = exchange.scanner()
        self.first_token_s = 0.0
        self.whole = False
        self.out_of_time = False
        self._exchange = exchange
        self._timeouts = timeouts
        self._clock = clock
        self._patience = clock.patience(self._patient_until_s)
        transport = beginning_in_time(transport, timeouts, clock)
        self._call = transport.open(exchange.request, connect_s=timeouts.connect_s)
        self._pushed: PushedChunks | None = None
        self._chunk: Callable[[], Awaitable[bytes | None]]
        self._held = b""
        self._ends_s = 0.0
        self._content_s = 0.0
        self._received_bytes = 0
        self._finish_s: float | None = None
        self._failure: UpstreamError | None = None
        self._taker: Taker = _nobody
        self._plain: Callable[[bytes], bytes | None] = _not_plain
        self._ahead: Scan | Exception | None = None
        self._ahead_bytes = 0
        self._silent = False
        self._closed = False

    async def open(self, limit_s: float) -> None:
        """Send and wait for the first content or a tool call; heads and comments do not count.

        Raises:
            UpstreamError: what went wrong; nothing has been passed on and all is closed again.
        """
        started_s = self._clock.monotonic()
        self._ends_s = started_s + min(self._timeouts.attempt_s, limit_s)
        first_s = min(self._timeouts.first_token_s, self._timeouts.attempt_s, limit_s)
        try:
            async with self._clock.timeout(first_s):
                response = await self._call.__aenter__()
                await self._check_head(response)
                chunks = response.chunks()
                self._pushed = chunks if isinstance(chunks, PushedChunks) else None
                self._chunk = piece_by_piece(chunks)
                await self._read_to_content()
        except TimeoutError as error:
            await self.aclose()
            raise UpstreamError(FailureKind.TIMEOUT, f"No content within {first_s:g} s.") from error
        except BaseException:
            await self.aclose()
            raise
        self._content_s = self._clock.monotonic()
        self.first_token_s = self._content_s - started_s

    async def _check_head(self, response: OpenResponse) -> None:
        if response.status not in SUCCESS:
            body = await response.read(MAX_ANSWER_BYTES)
            raise self._exchange.error_of(
                HttpResponse(status=response.status, headers=response.headers, body=body)
            )
        if (refused := self._exchange.refuse_head(response.status, response.headers)) is not None:
            raise refused

    async def _read_to_content(self) -> None:
        held = []
        while True:
            scan = self._scanned(await self._chunk())
            if scan.error is not None:
                raise scan.error
            held.append(scan.out)
            if scan.content_events or self.whole:
                self._held = b"".join(held)
                return

    def pass_to(self, taker: Taker) -> None:
        """Give `taker` what flows as it arrives, without waking whoever waits for the next piece.

        What it does not take, and all that ends a stream or may end it, is a piece as always.
        """
        if self._pushed is not None and not self.scanner.finished:
            self._taker = taker
            take = self._take
            if isinstance(self.scanner, PlainScanner):
                self._plain, take = self.scanner.plain, self._take_plain
            self._pushed.pass_to(take)

    def _take(self, chunk: bytes) -> bool:
        """Pass a chunk on at once, while somebody waits in `piece`, if that is all there is to do.

        Else it is read ahead, and `piece` goes on from there.
        """
        try:
            self._received_bytes += len(chunk)
            scan = self.scanner.feed(chunk)
            if (
                scan.error is None
                and not (scan.ended or self.scanner.finished)
                and self._received_bytes <= MAX_STREAM_BYTES
                and (not scan.out or self._taker(scan.out))
            ):
                if scan.content_events:
                    self._content_s = self._clock.monotonic()
                return True
            self._ahead = self._bounded(scan)
        except Exception as error:  # noqa: BLE001 (for `piece` to raise: here nobody would hear it)
            self._ahead = error
        self._ahead_bytes = len(chunk)
        return False

    def _take_plain(self, chunk: bytes) -> bool:
        """Do what `_take` does, where the scanner knows at a glance that the chunk is words."""
        try:
            plain = self._plain(chunk)
            if plain is None:
                return self._take(chunk)
            self._received_bytes = received_bytes = self._received_bytes + len(chunk)
            if received_bytes <= MAX_STREAM_BYTES and self._taker(plain):
                self._content_s = self._clock.monotonic()
                return True
            self._ahead = self._bounded(Scan(out=plain, content_events=1))
        except Exception as error:  # noqa: BLE001 (as in `_take`)
            self._ahead = error
        self._ahead_bytes = len(chunk)
        return False

    def _take_no_more(self) -> None:
        self._taker = _nobody
        if self._pushed is not None:
            self._pushed.pass_to(None)

    def _read_ahead(self, chunk: bytes) -> Scan:
        """Return what was found in the chunk's beginning by `_take`, with what is in its rest."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return self._fed(chunk)
        if isinstance(ahead, Exception):
            raise ahead
        rest = chunk[self._ahead_bytes :]
        if not rest or ahead.ended or ahead.error is not None:
            return ahead
        scan = self._fed(rest)
        events = ahead.content_events + scan.content_events
        return msgspec.structs.replace(scan, out=ahead.out + scan.out, content_events=events)

    def _fed(self, chunk: bytes) -> Scan:
        self._received_bytes += len(chunk)
        return self._bounded(self.scanner.feed(chunk))

    def _bounded(self, scan: Scan) -> Scan:
        if scan.error is None and self._received_bytes > MAX_STREAM_BYTES:
            error = UpstreamError(
                FailureKind.MALFORMED, f"The stream passed {MAX_STREAM_BYTES} bytes."
            )
            return msgspec.structs.replace(scan, error=error)
        return scan

    def _scanned(self, chunk: bytes | None) -> Scan:
        """Feed one chunk, or the end of the connection.

        `error` says that the stream broke, said so itself, or is larger than allowed.
        """
        if chunk is None:
            scan = self.scanner.finish()
            self.whole = True
        else:
            scan = self._read_ahead(chunk)
            self.whole = scan.ended
        if scan.error is not None:
            self.whole = False
        return scan

    @override
    async def piece(self) -> bytes | None:
        """Return the next bytes, which may be none, or None at the end of the whole answer.

        Raises:
            UpstreamError: the stream broke or stalled.
        """
        if self._held:
            held, self._held = self._held, b""
            return held
        if self._failure is not None:
            raise self._failure
        if self.whole:
            return None
        if self.scanner.finished and self._finish_s is None:
            self._expect_the_end()
        try:
            chunk = await self._patience.wait(self._chunk())
        except TimeoutError as error:
            if self._finish_s is not None:
                self.whole = self._silent = True
                return None
            raise self._too_slow() from error
        scan = self._scanned(chunk)
        if scan.error is not None:
            if not scan.out:
                raise scan.error
            self._failure = scan.error  # what came before it is sound
        if scan.content_events:
            self._content_s = self._clock.monotonic()
        return scan.out

    def _expect_the_end(self) -> None:
        """Shorten the patience: only an end mark is missing, and counts that nobody may send."""
        self._take_no_more()
        self._finish_s = self._clock.monotonic()
        self._patience.end()
        self._patience = self._clock.patience(self._patient_until_s)

    def _too_slow(self) -> UpstreamError:
        self.out_of_time = self._content_s + self._timeouts.idle_s > self._ends_s
        reason = (
            "The attempt's time was over before the stream ended."
            if self.out_of_time
            else f"No content for {self._timeouts.idle_s:g} s."
        )
        return UpstreamError(FailureKind.TIMEOUT, reason)

    def _patient_until_s(self) -> float:
        if self._finish_s is not None:
            return min(self._finish_s + FINISH_S, self._ends_s)
        return min(self._content_s + self._timeouts.idle_s, self._ends_s)

    async def aclose(self) -> None:
        """Free the connection: kept when the stream ended in order, else cut at once.

        An abandoned stream is billed to its end, so this never waits for more content.
        """
        if self._closed:
            return
        self._closed = True
        self._ahead = None
        self._take_no_more()
        self._patience.end()
        try:
            if self.whole and not self._silent:
                await self._drain()
        finally:
            await self._call.__aexit__(None, None, None)

    async def _drain(self) -> None:
        if self._pushed is not None and self._pushed.ended():
            return
        with suppress(TimeoutError, UpstreamError):
            async with self._clock.timeout(DRAIN_S):
                while await self._chunk() is not None:
                    pass


def _nobody(_piece: bytes) -> bool:
    return False


def _not_plain(_chunk: bytes) -> None:
    return None
