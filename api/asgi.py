"""What the raw ASGI routes need: read a body, send an answer, notice a caller that stalls."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from litestar import Request
from litestar.types import HTTPRequestEvent, Message, Receive, ReceiveMessage, Send

from api.connection import CallerGone, Connection
from api.cycle import Cycle
from shared.clock import Clock
from shared.errors import InvalidRequest, RequestTooLarge
from shared.providers.exchange import Taker

BODY_S = 30.0
"""A body must have arrived whole after this; a slower sender holds memory for nothing."""

STALL_S = 15.0
"""A caller that takes nothing for this long is given up."""
KEEP_ALIVE_S = 15.0
"""A stream that says nothing for this long shows that it lives; proxies cut after 30 s or more."""
LOOK_S = 5.0
"""How often a stream is looked at; both of the above come by so much too late, at most."""

AnyRequest = Request[Any, Any, Any]

Quiet = Callable[[], Awaitable[None]]

JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")


def whole_body(connection: Connection | None, limit_bytes: int) -> bytes | None:
    """Return a body that has arrived already, else None: then `read_body` waits for it.

    Raises:
        RequestTooLarge: more than `limit_bytes`.
    """
    body = None if connection is None else connection.take_whole()
    if body is not None and len(body) > limit_bytes:
        raise _too_large(limit_bytes)
    return body


async def read_body(
    receive: Receive, headers: Mapping[bytes, bytes], limit_bytes: int, clock: Clock
) -> bytes:
    """Return the whole body.

    Raises:
        RequestTooLarge: more than `limit_bytes`, announced or sent.
        InvalidRequest: it did not arrive in time.
        CallerGone: the connection closed first.
    """
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise _too_large(limit_bytes)
    return await _arriving(receive, limit_bytes, clock)


async def _arriving(receive: Receive, limit_bytes: int, clock: Clock) -> bytes:
    pieces: list[bytes] = []
    size, more = 0, True
    try:
        async with clock.timeout(BODY_S):
            while more:
                message = _checked(await receive())
                piece = message["body"]
                pieces.append(piece)
                size += len(piece)
                if size > limit_bytes:
                    raise _too_large(limit_bytes)
                more = message["more_body"]
    except TimeoutError as error:
        raise InvalidRequest(f"The body did not arrive within {BODY_S:g} s.") from error
    return b"".join(pieces)


def _checked(message: ReceiveMessage) -> HTTPRequestEvent:
    if message["type"] != "http.request":
        raise CallerGone("The caller left before its request was whole.")
    return message


def _too_large(limit_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"The body is larger than {limit_bytes // (1024 * 1024)} MB (server.max_body_mb)."
    )


class Sender:
    """A `send` that remembers what it sent last, and whether the caller has taken it.

    Counting costs a stream's piece nothing; a timeout around each send would.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = 0
        self._taken = 0
        self._last: object = b""
        self._cycle: Cycle | None = None
        self._aside: asyncio.Event | None = None

    async def __call__(self, message: Message) -> None:
        """Send; waits for as long as the caller does not read."""
        self._begun += 1
        if self._aside is not None:
            await self._aside.wait()
        self._last = message.get("body", b"")
        if self._cycle is not None:
            self._cycle.last_taken = None
        await self._send(message)
        self._taken = self._begun

    def taker(self) -> Taker | None:
        """Return what sends pieces of a body at once, between two messages, once its head is sent.

        None where something stands between.
        """
        cycle = getattr(self._send, "__self__", None)
        if not isinstance(cycle, Cycle) or not cycle.chunked:
            return None
        self._cycle = cycle
        cycle.let_take(may=self._aside is None)
        return cycle.take

    async def between(self, *messages: Message) -> None:
        """Send beside what the answer sends, unless that is in the middle of an event."""
        cycle = self._cycle
        body = self._last if cycle is None or cycle.last_taken is None else cycle.last_taken
        if isinstance(body, bytes) and body and not body.endswith((b"\n\n", b"\n\r\n")):
            return
        self._aside = asyncio.Event()
        if cycle is not None:
            cycle.let_take(may=False)
        try:
            for message in messages:
                await self._send(message)
        finally:
            self._aside.set()
            self._aside = None
            if self._cycle is not None:
                self._cycle.let_take(may=True)

    def sent(self) -> int:
        """Return how often something has been given to the caller's connection."""
        return self._begun if self._cycle is None else self._begun + self._cycle.taken

    def is_waiting(self) -> bool:
        """Return whether the caller has not taken yet what was given last."""
        return self._taken != self._begun


class while_taken:  # noqa: N801 (reads as what it does; a class because a generator costs twice)
    """Cancel what runs inside once one message has waited for STALL_S seconds, noticed in LOOK_S.

    `quiet` is to show a caller who waits that the answer is still being made: it is called each
    time that nothing has been sent for KEEP_ALIVE_S seconds.

    Raises:
        CallerGone: the caller has stopped reading what is sent.
    """

    def __init__(self, sender: Sender, clock: Clock, quiet: Quiet) -> None:
        self._sender = sender
        self._clock = clock
        self._quiet = quiet
        self._gone = False
        self._silent_s = 0.0
        self._before = sender.sent()
        self._sign: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._work = asyncio.current_task()
        self._alarm = self._clock.later(LOOK_S, self._look)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._alarm.cancel()
        if self._sign is not None:
            self._sign.cancel()
            self._sign = None
        if self._gone and isinstance(error, asyncio.CancelledError):
            if self._work is not None and self._work.uncancel() > 0:
                return  # somebody else's cancel, too
            raise CallerGone("The caller stopped reading the answer.") from None

    def _look(self) -> None:
        if (sent := self._sender.sent()) != self._before:
            self._before, self._silent_s = sent, 0.0
        else:
            self._silent_s += LOOK_S
            waiting = self._sender.is_waiting()
            if waiting and self._silent_s >= STALL_S:
                self._end()
                return
            if not waiting and self._silent_s >= KEEP_ALIVE_S:
                self._silent_s = 0.0
                self._sign = asyncio.create_task(self._show())
                return
        self._alarm = self._clock.later(LOOK_S, self._look)

    async def _show(self) -> None:
        try:
            async with self._clock.timeout(STALL_S):
                await self._quiet()
        except TimeoutError:
            self._end()  # not even a sign of life is taken
        else:
            self._alarm = self._clock.later(LOOK_S, self._look)

    def _end(self) -> None:
        self._gone = True
        if self._work is not None:
            self._work.cancel()


def check_json(headers: Mapping[bytes, bytes]) -> None:
    """Return if the body is said to be JSON, or nothing is said.

    Raises:
        InvalidRequest: it is said to be something else.
    """
    kind = headers.get(b"content-type", JSON)
    if kind != JSON and kind.partition(b";")[0].strip().lower() != JSON:
        raise InvalidRequest("Send the body as JSON with 'Content-Type: application/json'.")


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they are sent; for those that many answers share.

    They may not be any on which the connection acts.

    Raises:
        RuntimeError: one has a line break in it.
    """
    if any(mark in word for header in headers for word in header for mark in (b"\r", b"\n")):
        raise RuntimeError("A header of the answer has a line break in it.")
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def headers_of(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers that lines were made of."""
    parts = [line.partition(b": ") for line in lines.split(b"\r\n")[:-1]]
    return [(name, value) for name, _, value in parts]


@lru_cache(maxsize=64)
def _typed(kind: bytes) -> bytes:
    return lines_of(((b"content-type", kind), NOSNIFF))


async def send_whole(
    send: Send,
    status: int,
    body: bytes,
    headers: list[tuple[bytes, bytes]],
    kind: bytes = JSON,
    lines: bytes = b"",
) -> None:
    """Send head and body, where nothing stands between at once and not in two messages.

    `lines` are more headers, by `lines_of`.
    """
    headers.append((b"content-length", b"%d" % len(body)))
    lines += _typed(kind)
    cycle = getattr(send, "__self__", None)
    if isinstance(cycle, Cycle) and cycle.answer(status, headers, lines, body):
        return
    headers = [*headers_of(lines), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_end(send: Send, clock: Clock) -> None:
    """End a stream's body.

    Raises:
        CallerGone: the caller reads no more.
    """
    cycle = getattr(send, "__self__", None)
    if isinstance(cycle, Cycle) and cycle.end():
        return
    try:
        async with clock.timeout(STALL_S):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except TimeoutError as error:
        raise CallerGone("The caller stopped reading the answer.") from error
