"""One connection to an HTTP/1.1 server, for one call at a time."""

import asyncio
import select
from typing import Protocol, cast

from typing_extensions import override

from shared.corked import Corked
from shared.errors import StoreUnavailable
from shared.providers.http1_answer import Answer
from shared.providers.http1_failures import broke_off, no_answer, not_http
from shared.providers.http1_gather import Gathering, Pace
from shared.providers.http1_parse import Parser, Unreadable
from shared.providers.http1_request import Head, Origin

READ_AHEAD_BYTES = 256 * 1024
"""Buffered for a reader who is busy; above it the server has to wait."""
_JOINED_BYTES = 64 * 1024
"""A larger body is not copied behind its head."""


class Home(Protocol):
    """Where connections live."""

    loop: asyncio.AbstractEventLoop
    read_buffer: memoryview
    """Lent to a connection for the time of one read."""
    gathering: Gathering

    def made(self, connection: "Connection") -> None:
        """Take in a connection that has begun."""

    def freed(self, connection: "Connection") -> None:
        """Take a connection back that is fit for another call."""

    def lost(self, connection: "Connection") -> None:
        """Forget a connection that has ended."""


class Connection(asyncio.BaseProtocol):
    """Carries one call after the other, each until its answer is whole.

    The first answer is there from the beginning, because a server may speak first: one that is
    overloaded does, and so does one that speaks no HTTP.
    """

    __slots__ = (
        "_answer",
        "_home",
        "_pace",
        "_parser",
        "_sent",
        "_transport",
        "idle_since_s",
        "origin",
        "reused",
    )

    def __init__(self, home: Home, origin: Origin, answer: Answer) -> None:
        self.origin = origin
        self.reused = False
        self.idle_since_s = 0.0
        self._home = home
        self._transport: asyncio.Transport | None = None
        self._parser = Parser(answer)
        self._pace = Pace(home.gathering)
        self._answer: Answer | None = answer
        self._sent = False
        answer.begin(self)

    def call(self, answer: Answer) -> None:
        """Begin another call; nothing is sent yet."""
        self.reused = True
        self._parser.begin(answer)
        self._pace.begin()
        self._answer = answer
        self._sent = False
        answer.begin(self)

    def send(self, head: Head, body: bytes) -> None:
        """Write the request in one piece as the loop's turn ends; nothing if the connection has."""
        transport = self._transport
        if self._answer is None or transport is None or transport.is_closing():
            return
        self._sent = True
        if head.method == "HEAD":
            self._parser.expect_no_body()
        if len(body) > _JOINED_BYTES:
            transport.writelines((head.with_length(len(body)), body))
        else:
            transport.write(head.with_body(body))

    def refused(self, error: Exception) -> None:
        """Fail the call, of which nothing was sent: the books could not be written before."""
        answer = self._answer
        self.abandon()
        if answer is not None:
            answer.fail(StoreUnavailable(str(error)), error)

    def is_fit(self) -> bool:
        """Return whether another call may be sent, as far as the loop knows."""
        return self._transport is not None and not self._transport.is_closing()

    def is_quiet(self) -> bool:
        """Look at the socket itself: the loop may not have told yet that the server has gone."""
        if self._transport is None:
            return False
        descriptor = self._transport.get_extra_info("socket").fileno()
        if descriptor < 0:
            return False
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Say goodbye and close; for a connection without a call."""
        if self._transport is not None:
            self._transport.close()

    def abandon(self) -> None:
        """Close at once: nobody wants the rest, and an abandoned stream is billed to its end."""
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    def cut(self) -> None:
        """Close at once; a call under way fails."""
        self._parser.until_close = False
        if self._transport is not None:
            self._transport.abort()

    def resume(self) -> None:
        """Read on after a pause."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # Called by the event loop.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = Corked(
            cast("asyncio.Transport", transport), self._home.loop, self.refused
        )
        self._home.made(self)
        if self._answer is None:
            self._transport.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._home.lost(self)
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if exc is None and self._parser.until_close:
            answer.end()
        elif answer.opened:
            answer.fail(broke_off("the connection ended"), exc)
        else:
            answer.unheard = not self._parser.heard
            answer.fail(no_answer(self.origin.host, sent=self._sent), exc)

    def eof_received(self) -> None:
        """Let the transport close itself; `connection_lost` does the rest."""

    def feed(self, data: bytes) -> None:
        """Take bytes from the server."""
        answer = self._answer
        if answer is None:
            # Nobody asked: whatever it is, the next answer would not be the next call's.
            self.abandon()
            return
        parser = self._parser
        piece = parser.chunks(data)
        if piece is not None:
            if answer.push(piece):
                if self._pace.is_fast(parser.pieces):
                    self._gather()
                return
        else:
            try:
                parser.feed(data)
            except Unreadable as error:
                self._stop(answer, error)
                return
            if parser.complete:
                self._finish(answer)
                return
            answer.arrived()
        if answer.buffered_bytes > READ_AHEAD_BYTES and not answer.paused:
            self._pause(answer)

    def _stop(self, answer: Answer, error: Exception) -> None:
        """End the connection after bytes that make no sense, or that came after the end."""
        self.abandon()
        if self._parser.complete:
            answer.end()
        elif answer.opened:
            answer.fail(broke_off("its framing is broken"), error)
        else:
            answer.fail(not_http(self.origin.host), error)

    def _finish(self, answer: Answer) -> None:
        self._answer = None
        answer.end()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not self._sent or transport.get_write_buffer_size():
            # It answered before it had the whole request, which nobody will ever read now.
            transport.abort()
        elif self._parser.keeps_alive:
            if answer.paused:
                answer.paused = False
                transport.resume_reading()
            self._home.freed(self)
        else:
            transport.close()

    def _gather(self) -> None:
        """Leave what comes next where it is for some milliseconds."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._home.gathering.wait(self._read_on)

    def _read_on(self) -> None:
        """Read what has come meanwhile, unless the reader has enough."""
        if self._answer is not None and not self._answer.paused:
            self.resume()

    def _pause(self, answer: Answer) -> None:
        if self._transport is not None and not self._transport.is_closing():
            answer.paused = True
            self._transport.pause_reading()


class PlainConnection(Connection, asyncio.Protocol):
    """Without TLS: the loop hands over what it has read."""

    __slots__ = ()

    data_received = Connection.feed


class TlsConnection(Connection, asyncio.BufferedProtocol):
    """With TLS: read into a buffer of ours.

    Else the loop allocates 256 KiB for each piece, which costs more than all the rest. What is
    gathered waits here, and the transport is not paused: it reads on, and when the connection ends
    it forgets what it has not handed over.
    """

    __slots__ = ("_gathered",)

    def __init__(self, home: Home, origin: Origin, answer: Answer) -> None:
        super().__init__(home, origin, answer)
        self._gathered: bytearray | None = None

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        return self._home.read_buffer

    @override
    def buffer_updated(self, nbytes: int) -> None:
        gathered, data = self._gathered, self._home.read_buffer[:nbytes]
        if gathered is None:
            self.feed(bytes(data))
            return
        gathered += data
        if len(gathered) > READ_AHEAD_BYTES:
            self._read_on()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._read_on()
        super().connection_lost(exc)

    @override
    def _gather(self) -> None:
        self._gathered = bytearray()
        self._home.gathering.wait(self._read_on)

    @override
    def _read_on(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered and self._answer is not None:
            self.feed(bytes(gathered))
