"""One request on a connection and its answer: what uvicorn's cycle does, in half the system calls.

uvicorn writes the head of an answer and its body apart. Here what a turn of the event loop has for
a connection leaves in one write (`shared.corked`), so the first piece of the body with the head.
Whoever makes the answer can watch the connection (`api.connection`) without a task of its own.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from litestar.types import Message, ReceiveMessage
from uvicorn._types import ASGI3Application, HTTPScope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.connection import CONNECTION
from shared.corked import Corked

BODYLESS = frozenset({204, 304})

# Looking for a byte by its number is at once; by a text, an exception is made and thrown away.
_CR, _LF = b"\r\n"

_NOBODY: Sequence[asyncio.Future[None]] = ()


class Arrival:
    """As `asyncio.Event`, set once and without its queue: 760 bytes where hardly two wait."""

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting = _NOBODY

    def set(self) -> None:
        """Let all go on who wait, and who come."""
        self._is_set = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting = _NOBODY

    async def wait(self) -> bool:
        """Return True once it is set."""
        if not self._is_set:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting = [*self._waiting, waiter]
            await waiter
        return True


class Cycle:
    """A request and its answer; `lost` is to be called when the connection is.

    `headers` are the request's by name, the last of a repeated one. `wait_for_body` lifts the
    connection's own limit on how long the body may take. `taken` counts the pieces that `take` has
    sent, and `last_taken` is the last of them.
    """

    __slots__ = (
        "_arrival",
        "_default_headers",
        "_gone",
        "_is_head",
        "_left_bytes",
        "_news",
        "_owner",
        "_takes",
        "_wait_for_body",
        "body",
        "chunked",
        "disconnected",
        "flow",
        "headers",
        "keep_alive",
        "last_taken",
        "loop",
        "more_body",
        "response_complete",
        "response_started",
        "scope",
        "taken",
        "transport",
        "waiting_for_100_continue",
    )

    def __init__(
        self,
        owner: HttpToolsProtocol,
        scope: HTTPScope,
        headers: dict[bytes, bytes],
        *,
        keep_alive: bool,
        wait_for_body: Callable[[], None],
    ) -> None:
        self.scope = scope
        self.headers = headers
        self.transport: Corked = owner.transport  # type: ignore[assignment]  # by `api.protocol`
        self.flow = owner.flow
        self.loop = owner.loop
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = owner.expect_100_continue
        self.body: bytes | bytearray = b""
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self._owner = owner
        # As they are now: a server that stops replaces them, and those who came before are served.
        self._default_headers = owner.server_state.default_headers
        self._wait_for_body = wait_for_body
        self._news = False  # since `receive` has returned
        self._arrival: Arrival | None = None
        self._gone: Callable[[], None] | None = None
        self._is_head = scope["method"] == "HEAD"
        self.chunked: bool | None = None
        self._takes = False
        self.taken = 0
        self.last_taken: bytes | None = None
        self._left_bytes = 0  # of the answer, by its content-length
        scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]

    # What the connection tells

    def arrived(self, piece: bytes) -> int:
        """Take a piece of the request's body, and return how much of it waits now."""
        held = self.body
        if not held:
            held = piece  # most come in one, which is passed on as it is
        else:
            if isinstance(held, bytes):
                held = bytearray(held)
            held += piece
        self.body = held
        self.tell()
        return len(held)

    def tell(self) -> None:
        """Have `receive` return: there is more to say, or nothing any more."""
        self._news = True
        arrival = self._arrival
        if arrival is not None:
            self._arrival = None
            arrival.set()

    def lost(self) -> None:
        """Take note that nobody is there any more to read the answer."""
        if self.response_complete or self.disconnected:
            return
        self.disconnected = True
        self._takes = False
        self.tell()
        if self._gone is not None:
            self._gone()
        self._let_go()

    # What `api.connection.Connection` promises

    def take_whole(self) -> bytes | None:
        """Return what nobody has taken of the body once that has arrived whole, else None."""
        waits = self.more_body or not self._news or self.waiting_for_100_continue
        if waits or self.disconnected or self.response_complete:
            return None
        if self.flow.read_paused:
            self.flow.resume_reading()
        self._news = False
        body, self.body = self.body, b""
        return bytes(body)

    def take_time(self) -> None:
        """Leave it to whoever reads the body how long it may take."""
        if self.more_body:
            self._wait_for_body()

    def watch(self, gone: Callable[[], None]) -> None:
        """Have `gone` called when the connection is lost, at once if it is."""
        self._gone = gone
        if self.flow.read_paused:
            self.flow.resume_reading()  # its end is seen only while it is read
        if self.disconnected:
            gone()

    def unwatch(self) -> None:
        """Forget what `watch` was given."""
        self._gone = None

    # ASGI

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Have the app answer; one that does not leaves a 500, or an end in the middle."""
        try:
            await app(self.scope, self.receive, self.send)  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 (as uvicorn has it: also of a cancel)
            self._broken("Exception in ASGI application\n", error)
            if not self.response_started:
                await self._fail()
            else:
                self.transport.close()
        else:
            if self.response_complete or self.disconnected:
                return
            if not self.response_started:
                self._broken("ASGI callable returned without starting response.")
                await self._fail()
            else:
                self._broken("ASGI callable returned without completing response.")
                self.transport.close()

    def _broken(self, what: str, error: BaseException | None = None) -> None:
        self._owner.logger.error(what, exc_info=error)

    async def _fail(self) -> None:
        body = b"Internal Server Error"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def receive(self) -> ReceiveMessage:
        """Return the next part of the request; waits for it."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            if not self._news:
                if self._arrival is None:
                    self._arrival = Arrival()
                await self._arrival.wait()
            self._news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, b""
        return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """Take the next part of the answer; waits while the caller reads too slowly."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.body":
            self._body(message.get("body", b""), more=message.get("more_body", False))
        elif message["type"] == "http.response.start" and not self.response_started:
            self._write(self._head_of(message["status"], message.get("headers", ())))
        else:
            raise RuntimeError(f"The ASGI message {message['type']!r} does not belong here.")

    def let_take(self, *, may: bool) -> None:
        """Say whether `take` may send; it does while an answer in chunks is under way."""
        ended = self.response_complete or self.disconnected or self._is_head
        self._takes = may and bool(self.chunked) and not ended

    def take(self, piece: bytes) -> bool:
        """Send a piece of an answer in chunks; False where that may not be, or cannot at once."""
        if not self._takes or self.flow.write_paused or not piece:
            return False
        self.taken += 1
        self.last_taken = piece
        self.transport.pass_on(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    def end(self) -> bool:
        """Send the end of an answer in chunks; False where that may not be, or cannot at once."""
        if not self._takes or self.flow.write_paused:
            return False
        self._body(b"", more=False)
        return True

    def answer(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], lines: bytes, body: bytes
    ) -> bool:
        """Send a whole answer; its headers tell the length, `lines` are headers that are ready.

        Returns False, and has done nothing, where it has to be sent in ASGI's way.
        """
        if self.disconnected:
            return True
        if self.flow.write_paused or self.response_started or self._is_head or status in BODYLESS:
            return False
        head = self._head_of(status, headers, lines)
        self._left_bytes -= len(body)
        if not self.transport.is_closing():
            self.transport.write(head + body)
        self._complete()
        return True

    def _head_of(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], lines: bytes = b""
    ) -> bytes:
        """Return the head as it is sent, with its consequences noted; `lines` have none."""
        self.response_started = True
        self.waiting_for_100_continue = False
        fields = [*self._default_headers, *headers]
        said = b"".join(chain.from_iterable(fields))
        if _LF in said or _CR in said:
            raise RuntimeError("A header of the answer has a line break in it.")
        named = dict(fields)
        if (length := named.get(b"content-length")) is not None:
            self._left_bytes = int(length)
            self.chunked = False
        elif b"transfer-encoding" in named:
            self.chunked = True
        if b"connection" in named and any(
            name == b"connection" and b"close" in value.lower() for name, value in fields
        ):
            self.keep_alive = False
        elif not self.keep_alive:
            fields.append((b"connection", b"close"))
        if self.chunked is None and not self._is_head and status not in BODYLESS:
            self.chunked = True
            fields.append((b"transfer-encoding", b"chunked"))
        # For each of twenty lines a step in C instead of ten in Python.
        told = b"\r\n".join((*map(b": ".join, fields), b"", b""))
        return b"%b%b%b" % (STATUS_LINE[status], lines, told)

    def _body(self, body: bytes, *, more: bool) -> None:
        if not self.response_started or self.response_complete:
            raise RuntimeError("There is no answer under way that this body belongs to.")
        if self._is_head:
            self._left_bytes = 0
            body = b""
        elif self.chunked:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if not more:
                body += b"0\r\n\r\n"
        else:
            self._left_bytes -= len(body)
            if self._left_bytes < 0:
                raise RuntimeError("The answer is longer than its content-length.")
        self._write(body)
        if not more:
            self._complete()

    def _write(self, data: bytes) -> None:
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def _complete(self) -> None:
        if self._left_bytes:
            raise RuntimeError("The answer is shorter than its content-length.")
        self.response_complete = True
        self._takes = False
        self.tell()
        if not self.keep_alive:
            self.transport.close()
        self._let_go()
        self._owner.on_response_complete()

    def _let_go(self) -> None:
        """Leave no circle of references: all of a call would stay until the collector looks."""
        self.scope["extensions"] = {}
