"""What the raw ASGI routes need: read a body, send an answer, notice that the caller left."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from litestar import Request
from litestar.types import HTTPRequestEvent, Receive, ReceiveMessage, Send

from shared.clock import Clock
from shared.errors import GatewayError, InvalidRequest, RequestTooLarge

BODY_S = 30.0
"""A body must have arrived whole after this; a slower sender holds memory for nothing."""

AnyRequest = Request[Any, Any, Any]

JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"


class CallerGone(GatewayError):
    """The connection closed before the answer was sent; nobody reads what we would say."""


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
    message = await _first(receive, clock)
    body = message["body"]
    if message["more_body"]:
        body = await _rest(receive, body, limit_bytes, clock)
    if len(body) > limit_bytes:
        raise _too_large(limit_bytes)
    return body


async def _first(receive: Receive, clock: Clock) -> HTTPRequestEvent:
    try:
        async with clock.timeout(BODY_S):
            return _checked(await receive())
    except TimeoutError as error:
        raise InvalidRequest(f"The body did not arrive within {BODY_S:g} s.") from error


async def _rest(receive: Receive, first: bytes, limit_bytes: int, clock: Clock) -> bytes:
    pieces, size, more = [first], len(first), True
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


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancel what runs inside as soon as the caller's connection closes.

    Raises:
        CallerGone: it did.
    """
    work = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        if work is not None:
            work.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone or (work is not None and work.uncancel() > 0):
            raise
        raise CallerGone("The caller left before the answer.") from None
    finally:
        watcher.cancel()


async def send_whole(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]], kind: bytes = JSON
) -> None:
    """Send head and body."""
    headers += [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
