"""One request on a connection and its answer: uvicorn's cycle, in half the system calls.

uvicorn writes the head of an answer and its body apart. Here the head waits for the first piece of
the body, at most until the event loop turns, and both leave in one write. Whoever makes the answer
can watch the connection (`api.connection`) without a task of its own.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import cast

from litestar.types import Message
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from api.connection import CONNECTION

BODYLESS = frozenset({204, 304})

_NOBODY: Sequence[asyncio.Future[None]] = ()


class Arrival:
    """As `asyncio.Event`, without its queue: 760 bytes of every call in which hardly one waits."""

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting = _NOBODY

    def is_set(self) -> bool:
        """Return whether `set` was called and `clear` has not been since."""
        return self._is_set

    def set(self) -> None:
        """Let all go on who wait, and who come."""
        self._is_set = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting = _NOBODY

    def clear(self) -> None:
        """Have who comes wait."""
        self._is_set = False

    async def wait(self) -> bool:
        """Return True once it is set."""
        if not self._is_set:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting = [*self._waiting, waiter]
            await waiter
        return True


class Cycle(RequestResponseCycle):
    """As uvicorn's; `lost` is to be called when the connection is.

    `wait_for_body` lifts the connection's own limit on how long the body may take.
    """

    def __init__(
        self,
        connection: HttpToolsProtocol,
        *,
        keep_alive: bool,
        wait_for_body: Callable[[], None],
    ) -> None:
        super().__init__(
            scope=connection.scope,
            transport=connection.transport,
            flow=connection.flow,
            logger=connection.logger,
            access_logger=connection.access_logger,
            access_log=False,
            default_headers=connection.server_state.default_headers,
            message_event=cast("asyncio.Event", Arrival()),
            expect_100_continue=connection.expect_100_continue,
            keep_alive=keep_alive,
            on_response=connection.on_response_complete,
        )
        self._head = b""
        self._flush: asyncio.Handle | None = None
        self._gone: Callable[[], None] | None = None
        self._wait_for_body = wait_for_body
        self._is_head = self.scope["method"] == "HEAD"
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]

    # What `api.connection.Connection` promises

    def take_whole(self) -> bytes | None:
        """Return what nobody has taken of the body once that has arrived whole, else None."""
        waits = self.more_body or not self.message_event.is_set() or self.waiting_for_100_continue
        if waits or self.disconnected or self.response_complete:
            return None
        if self.flow.read_paused:
            self.flow.resume_reading()
        self.message_event.clear()
        body, self.body = self.body, bytearray()
        return bytes(body)

    def take_time(self) -> None:
        """Leave it to whoever reads the body how long it may take."""
        if self.more_body:
            self._wait_for_body()

    def watch(self, gone: Callable[[], None]) -> None:
        """Have `gone` called when the connection is lost, at once if it is."""
        self._gone = gone
        self.flow.resume_reading()  # its end is seen only while it is read
        if self.disconnected:
            gone()

    def unwatch(self) -> None:
        """Forget what `watch` was given."""
        self._gone = None

    def lost(self) -> None:
        """Take note that nobody is there any more to read the answer."""
        if self.response_complete:
            return
        self.disconnected = True
        self.message_event.set()
        if self._gone is not None:
            self._gone()
        self._let_go()

    # ASGI

    @override
    async def send(self, message: Message) -> None:  # type: ignore[override]
        """Take the next part of the answer; waits while the caller reads too slowly."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.body":
            self._body(message.get("body", b""), more=message.get("more_body", False))
        elif message["type"] == "http.response.start" and not self.response_started:
            self._start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"The ASGI message {message['type']!r} does not belong here.")

    def answer(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer; its headers tell the length.

        Returns False, and has done nothing, where it has to be sent in ASGI's way.
        """
        if self.disconnected:
            return True
        if self.flow.write_paused or self.response_started or self._is_head or status in BODYLESS:
            return False
        head = self._head_of(status, headers)
        self.expected_content_length -= len(body)
        if not self.transport.is_closing():
            self.transport.write(head + body)
        self._complete()
        return True

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._head = self._head_of(status, headers)
        self._flush = asyncio.get_running_loop().call_soon(self._write, b"")

    def _head_of(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the head as it is sent, with its consequences noted."""
        self.response_started = True
        self.waiting_for_100_continue = False
        fields = [*self.default_headers, *headers]
        said = b"".join(chain.from_iterable(fields))
        if b"\n" in said or b"\r" in said:
            raise RuntimeError("A header of the answer has a line break in it.")
        named = dict(fields)
        if (length := named.get(b"content-length")) is not None:
            self.expected_content_length = int(length)
            self.chunked_encoding = False
        elif b"transfer-encoding" in named:
            self.chunked_encoding = True
        if b"connection" in named and any(
            name == b"connection" and b"close" in value.lower() for name, value in fields
        ):
            self.keep_alive = False
        elif not self.keep_alive:
            fields.append((b"connection", b"close"))
        if self.chunked_encoding is None and not self._is_head and status not in BODYLESS:
            self.chunked_encoding = True
            fields.append((b"transfer-encoding", b"chunked"))
        # For each of twenty lines a step in C instead of ten in Python.
        return STATUS_LINE[status] + b"\r\n".join((*map(b": ".join, fields), b"", b""))

    def _body(self, body: bytes, *, more: bool) -> None:
        if not self.response_started or self.response_complete:
            raise RuntimeError("There is no answer under way that this body belongs to.")
        if self._is_head:
            self.expected_content_length = 0
            body = b""
        elif self.chunked_encoding:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if not more:
                body += b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("The answer is longer than its content-length.")
        self._write(body)
        if not more:
            self._complete()

    def _write(self, data: bytes) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
            data = self._head + data
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def _complete(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("The answer is shorter than its content-length.")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self._let_go()
        self.on_response()

    def _let_go(self) -> None:
        """Leave no circle of references: all of a call would stay until the collector looks."""
        self.scope["extensions"] = {}
