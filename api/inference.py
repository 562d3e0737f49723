"""The inference POSTs as raw ASGI routes: the hot path, one wrapper for errors and auth."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import cast

from litestar.types import HTTPScope, Receive, Scope, Send

from api.asgi import EVENTS, NO_STORE, NOSNIFF, Sender, send_end, send_whole, while_taken
from api.connection import CallerGone
from api.edge import Edge
from api.errors import answer_of, event_of
from api.inference_call import Call
from shared.errors import GatewayError, OwnFault
from shared.gateway.answer import Answer
from shared.gateway.stream import AnswerStream
from shared.identity import Principal
from shared.ledger.cost import usd_text
from shared.limits.headers import rate_headers
from shared.providers.request import InferenceRequest
from shared.telemetry.bodies import StreamCopy
from shared.telemetry.context import bound
from shared.telemetry.log import get_logger

log = get_logger("api")

Headers = list[tuple[bytes, bytes]]

_PRINTABLE = bytes(code if 32 <= code != 127 else 63 for code in range(256))  # noqa: PLR2004 (ASCII)
"""A caller's own words may stand in a header; its line breaks may not."""


def inference_app(endpoint: str, edge: Edge) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the ASGI app of one inference path."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(edge, endpoint, cast("HTTPScope", scope), receive)
        edge.running += 1
        with bound(request_id=call.request_id):
            try:
                await _serve(call, send)
            except CallerGone:
                call.served(499, "cancelled")
            except GatewayError as error:
                await _refuse(call, send, error)
            except asyncio.CancelledError:
                if not edge.closing.over:
                    raise
                await _cut(call, send)
            except Exception:
                log.exception("request.failed", endpoint=endpoint)
                await _refuse(call, send, OwnFault("Something broke in the gateway; it is logged."))
            finally:
                edge.running -= 1

    return app


async def _serve(call: Call, send: Send) -> None:
    principal, request = await call.read()
    asked = call.preference
    if asked.respond_async:
        status, body, headers = await call.edge.async_calls.submit(
            principal, request, call.headers, call.books_id, asked, call.receive
        )
        await _send(call, send, status, body, headers)
        return
    if request.stream:
        await _serve_stream(call, send, principal, request)
        return
    deadline, own_deadline = call.deadline()
    async with call.while_connected():
        answer = await call.edge.gateway.complete(
            principal,
            request,
            deadline=deadline,
            books=call.edge.books,
            holds=call.edge.holds,
            context=call.context(request, own_deadline=own_deadline),
        )
    await _send(call, send, answer.status, answer.body, _headers_of(call, answer))


async def _serve_stream(
    call: Call, send: Send, principal: Principal, request: InferenceRequest
) -> None:
    """Stream an answer; the upstream is closed and settled whatever happens to the caller."""
    deadline, own_deadline = call.deadline()
    stream: AnswerStream | None = None
    sender = Sender(send)
    try:
        async with (
            call.while_connected(),
            while_taken(sender, call.edge.clock),
        ):
            stream = await call.edge.gateway.stream(
                principal,
                request,
                deadline=deadline,
                books=call.edge.books,
                holds=call.edge.holds,
                context=call.context(request, own_deadline=own_deadline),
            )
            copy = call.copy()
            code = await _send_pieces(call, sender, stream, copy)
        await send_end(send, call.edge.clock)
        call.served(200, code, copy)
    finally:
        if stream is not None:
            await stream.aclose()


async def _send_pieces(
    call: Call, send: Send, stream: AnswerStream, copy: StreamCopy | None
) -> str | None:
    """Send pieces as they come and return the code of a break, if one ended the stream.

    A break is told by an explicit error event; a cut stream never looks whole.
    """
    upstream_ms = stream.waited_ms
    headers = [
        (b"x-request-id", call.request_id.encode()),
        *_whence(stream.provider, stream.model, stream.route),
        (b"x-sluiceway-attempts", b"%d" % stream.tries),
        (b"x-sluiceway-overhead-ms", call.overhead(upstream_ms)),
        (b"content-type", EVENTS),
        (b"cache-control", b"no-cache"),
        NOSNIFF,
    ]
    if stream.standing is not None:
        headers += rate_headers(stream.standing)
    call.sent = True
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        async for piece in stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if copy is not None:
                copy.add(piece)
    except GatewayError as error:
        log.warning("stream.interrupted", code=error.code, reason=error.message)
        await send({"type": "http.response.body", "body": event_of(error), "more_body": True})
        return error.code
    return None


async def _send(call: Call, send: Send, status: int, body: bytes, headers: Headers) -> None:
    call.sent = True
    await send_whole(send, status, body, [(b"x-request-id", call.request_id.encode()), *headers])
    call.served(status, None, body)


async def _refuse(call: Call, send: Send, error: GatewayError) -> None:
    """Answer with the error, or end the stream with it when the head has gone out."""
    status, body, extra = answer_of(error)
    headers = [(name.encode(), value.encode()) for name, value in extra.items()]
    if call.sent:
        await send({"type": "http.response.body", "body": event_of(error), "more_body": False})
    else:
        headers += [(b"x-request-id", call.request_id.encode()), NO_STORE]
        await send_whole(send, status, body, headers)
    call.served(status, error.code, body)


async def _cut(call: Call, send: Send) -> None:
    """End a call that the server has cancelled: it would neither read nor write any more."""
    if call.sent:
        call.served(499, "cancelled")
    else:
        await _refuse(call, send, call.cut_short())


def _headers_of(call: Call, answer: Answer) -> Headers:
    upstream_ms = sum(attempt.duration_ms for attempt in answer.attempts)
    headers = [
        *_whence(answer.provider, answer.model, answer.route),
        (b"x-sluiceway-attempts", b"%d" % len(answer.attempts)),
        (b"x-sluiceway-overhead-ms", call.overhead(upstream_ms)),
    ]
    if answer.standing is not None:
        headers += rate_headers(answer.standing)
    if answer.cost_nanousd is not None:
        headers.append((b"x-sluiceway-cost-usd", usd_text(answer.cost_nanousd).encode()))
    return headers


@lru_cache(maxsize=1024)
def _whence(provider: str, model: str, route: str) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-sluiceway-provider", provider.encode()),
        (b"x-sluiceway-model", _latin(model)),
        (b"x-sluiceway-route", _latin(route)),
    )


def _latin(text: str) -> bytes:
    return text.encode("latin-1", "replace").translate(_PRINTABLE)
