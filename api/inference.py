"""The inference POSTs as raw ASGI routes: the hot path, one wrapper for errors and auth."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

import msgspec
from litestar.types import HTTPScope, Message, Receive, Scope, Send

from api.answer_headers import STREAMING, latin, stream_headers, whole_headers, whole_lines
from api.asgi import JSON, NO_STORE, Sender, send_end, send_whole, while_taken
from api.connection import CallerGone
from api.edge import Edge
from api.errors import answer_of
from api.feed import EventStream
from api.idempotency import HEADER as IDEMPOTENCY_KEY
from api.idempotency import REPLAYED, headers_again
from api.inference_call import CALLS, Call, FormCall, Headers, ResponsesCall
from shared.errors import ChainFailed, GatewayError, OwnFault, too_deep
from shared.gateway.answer import ServedStream, noting
from shared.gateway.failure import kept
from shared.gateway.nesting import is_too_deep
from shared.gateway.parse import ENDPOINTS
from shared.identity import Principal
from shared.jobs.background import Basis
from shared.ledger.cost import usd_text
from shared.ledger.estimate import counted_tokens
from shared.providers.exchange import piece_by_piece
from shared.providers.request import InferenceRequest
from shared.store.idempotency import Earlier
from shared.store.records import JobRow
from shared.telemetry.bodies import StreamCopy
from shared.telemetry.context import REQUEST_ID
from shared.telemetry.log import get_logger

log = get_logger("api")


def inference_app(endpoint: str, edge: Edge) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the ASGI app of one inference path."""
    path = ENDPOINTS[endpoint]
    new_call = FormCall if path.form else CALLS.get(path.dialect, Call)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = new_call(edge, endpoint, cast("HTTPScope", scope), receive)
        edge.running += 1
        name = REQUEST_ID.set(call.request_id)
        asked = b""
        try:
            later = call.preference.respond_async
            edge.door.check(edge.running, call.headers, call.request_id, later=later)
            principal, request = await call.read()
            asked = request.raw
            if call.fingerprint is None:
                await _serve(call, send, principal, request)
            else:
                await _serve_once(call, send, principal, request, call.fingerprint)
        except CallerGone:
            call.served(499, "cancelled")
        except GatewayError as error:
            await _refuse(call, send, error)
        except asyncio.CancelledError:
            if not edge.closing.over:
                raise
            await _cut(call, send)
        except Exception as error:
            broken: GatewayError = OwnFault("Something broke in the gateway; it is logged.")
            if isinstance(error, RecursionError) and is_too_deep(asked):
                broken = too_deep()
            else:
                log.exception("request.failed", endpoint=endpoint)
            await _refuse(call, send, broken)
        finally:
            edge.running -= 1
            REQUEST_ID.reset(name)

    return app


def _serve(
    call: Call, send: Send, principal: Principal, request: InferenceRequest
) -> Awaitable[None]:
    path = ENDPOINTS[call.endpoint]
    if path.counts:
        return _serve_count(call, send, principal, request)
    if call.preference.respond_async and path.later:
        return _serve_later(call, send, principal, request)
    if isinstance(call, ResponsesCall) and call.basis is not None:
        return _serve_background(call, send, principal, request, call.basis)
    if request.head.stream:
        return _serve_stream(call, send, principal, request)
    return _serve_whole(call, send, principal, request)


async def _serve_once(
    call: Call, send: Send, principal: Principal, request: InferenceRequest, fingerprint: str
) -> None:
    """Serve a call that its caller has named, or answer as it was answered before."""
    begun = await call.edge.idempotency.begin(
        principal.tenant_id,
        f"POST {call.endpoint}",
        call.headers[IDEMPOTENCY_KEY],
        fingerprint,
        send,
    )
    if isinstance(begun, Earlier):
        await _serve_again(call, send, principal, begun)
        return
    async with begun:
        call.once = begun
        try:
            await _serve(call, begun, principal, request)
        except ChainFailed as failure:
            if call.sent or kept(failure) is None:
                raise
            begun.keep_refusal()
            await _refuse(call, begun, failure)


async def _serve_again(call: Call, send: Send, principal: Principal, earlier: Earlier) -> None:
    """Answer a named call as it was answered before, or show what it has become."""
    async_calls = call.edge.async_calls
    if earlier.body is None and earlier.job_id is not None:
        row = await async_calls.row(principal.tenant_id, earlier.job_id)
        if row.response_id is not None:
            await _show_background(call, send, row, [REPLAYED])
            return
    status, body, kept_headers = await async_calls.again(principal.tenant_id, earlier)
    kind, headers = headers_again(kept_headers)
    await _send(call, send, status, body, [*call.identity(), *headers], kind)


async def _serve_later(
    call: Call, send: Send, principal: Principal, request: InferenceRequest
) -> None:
    status, body, headers = await call.edge.async_calls.submit(
        principal, request, call.headers, call.books_id, call.preference, call.receive
    )
    await _send(call, send, status, body, [*call.identity(), *headers])


async def _serve_background(
    call: Call, send: Send, principal: Principal, request: InferenceRequest, basis: Basis
) -> None:
    """Accept a response that outlives this call; what is streamed of it comes from storage."""
    row = await call.edge.background.accept(principal, request, basis, call.headers, call.books_id)
    await _show_background(call, send, row, [])


async def _show_background(call: Call, send: Send, row: JobRow, more: Headers) -> None:
    background = call.edge.background
    headers = [*call.identity(), (b"x-sluiceway-job", row.id.encode()), *more]
    if not row.streamed:
        body = await background.read(row.tenant_id, row.response_id or "")
        await _send(call, send, 200, body, headers)
        return
    if call.once is not None:
        call.once.drop()  # it comes from storage the next time, too
    call.sent = True
    shown = {name.decode(): value.decode() for name, value in headers}
    await EventStream(background.events(row), shown)(call.scope, call.receive, send)
    call.served(200, None)


async def _serve_whole(
    call: Call, send: Send, principal: Principal, request: InferenceRequest
) -> None:
    deadline, own_deadline = call.deadline()
    with call.while_connected():
        answer = await call.edge.gateway.complete(
            principal,
            request,
            deadline=deadline,
            books=call.edge.books,
            holds=call.edge.holds,
            context=call.context(request, own_deadline=own_deadline),
        )
    body = await call.finished(answer.body) if call.finishes else answer.body
    kind = JSON if answer.media_type is None else latin(answer.media_type)
    headers, lines = whole_headers(call, answer), whole_lines(call, answer)
    await _send(call, send, answer.status, body, headers, kind, lines)


async def _serve_count(
    call: Call, send: Send, principal: Principal, request: InferenceRequest
) -> None:
    """Answer how many tokens a question has: by its provider's own count, else by its size."""
    context = call.context(request, own_deadline=False)
    if call.edge.gateway.counts_tokens(principal, request.head.model, context):
        try:
            await _serve_whole(call, send, principal, request)
        except ChainFailed as failure:
            if kept(failure) is not None:
                raise  # the question itself is wrong
        else:
            return
    body = msgspec.json.encode({"input_tokens": counted_tokens(request)})
    await _send(call, send, 200, body, [*call.identity(), (b"x-sluiceway-estimated", b"true")])


async def _serve_stream(
    call: Call, send: Send, principal: Principal, request: InferenceRequest
) -> None:
    """Stream an answer; the upstream is closed and settled whatever happens to the caller."""
    deadline, own_deadline = call.deadline()
    stream: ServedStream | None = None
    sender = Sender(send)
    try:
        quiet = partial(_keep_alive, call, sender)
        with call.while_connected(), while_taken(sender, call.edge.clock, quiet):
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
    call: Call, send: Sender, stream: ServedStream, copy: StreamCopy | None
) -> str | None:
    """Send pieces as they come and return the code of a break, if one ended the stream.

    A break is told by an explicit error event; a cut stream never looks whole.
    """
    if not call.sent:
        headers = stream_headers(call, stream)
        call.sent = True
        await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        pieces, taker = call.pieces(stream), send.taker()
        if pieces is stream and taker is not None:
            stream.pass_to(taker if copy is None else noting(taker, copy.add))
        following = piece_by_piece(pieces)
        while (piece := await following()) is not None:
            if taker is None or not taker(piece):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if copy is not None:
                copy.add(piece)
    except GatewayError as error:
        log.warning("stream.interrupted", code=error.code, reason=error.message)
        if call.once is not None:
            call.once.drop()
        event = call.event_of(error)
        await send({"type": "http.response.body", "body": event, "more_body": True})
        return error.code
    return None


async def _keep_alive(call: Call, sender: Sender) -> None:
    """Show a caller who waits long that the stream lives; the head goes before, if it has not yet.

    What provider it comes from is not known then, and what goes wrong later is told by an event.
    """
    alive: Message = {"type": "http.response.body", "body": call.keep_alive, "more_body": True}
    if call.sent:
        await sender.between(alive)
        return
    call.sent = True
    head: Message = {
        "type": "http.response.start",
        "status": 200,
        "headers": [*call.identity(), *STREAMING],
    }
    await sender.between(head, alive)


async def _send(
    call: Call,
    send: Send,
    status: int,
    body: bytes,
    headers: Headers,
    kind: bytes = JSON,
    lines: bytes = b"",
) -> None:
    call.sent = True
    await send_whole(send, status, body, headers, kind, lines)
    call.served(status, None, body if kind is JSON else b'"[%d bytes]"' % len(body))


async def _refuse(call: Call, send: Send, error: GatewayError) -> None:
    """Answer with the error, or end the stream with it when the head has gone out."""
    status, body, extra = answer_of(error, call.dialect, call.request_id)
    headers = [(name.encode(), value.encode()) for name, value in extra.items()]
    if error.spent_nanousd:
        headers.append((b"x-sluiceway-cost-usd", usd_text(error.spent_nanousd).encode()))
    if call.sent:
        event = call.event_of(error)
        await send({"type": "http.response.body", "body": event, "more_body": False})
    else:
        await send_whole(send, status, body, [*headers, *call.identity(), NO_STORE])
    call.served(status, error.code, body)


async def _cut(call: Call, send: Send) -> None:
    """End a call that the server has cancelled: it would neither read nor write any more."""
    if call.sent:
        call.served(499, "cancelled")
    else:
        await _refuse(call, send, call.cut_short())
