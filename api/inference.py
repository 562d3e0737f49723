"""The inference POSTs as raw ASGI routes: the hot path, one wrapper for errors and auth."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from litestar.types import HTTPScope, Receive, Scope, Send

from api.access import Served
from api.asgi import (
    EVENTS,
    CallerGone,
    Sender,
    check_json,
    read_body,
    send_end,
    send_whole,
    while_connected,
    while_taken,
)
from api.auth import bearer, header_map
from api.call import (
    DEFAULT_TIMEOUT_S,
    books_id,
    preference,
    request_id_of,
    tags,
    text_header,
    timeout_s,
)
from api.edge import Edge
from api.errors import answer_of, event_of
from shared.clock import Deadline
from shared.errors import (
    GatewayError,
    MethodNotAllowed,
    Overloaded,
    OwnFault,
    StreamInterrupted,
)
from shared.gateway.answer import Answer, CallContext
from shared.gateway.parse import parse_request
from shared.gateway.stream import AnswerStream
from shared.identity import Principal
from shared.ledger.cost import usd_text
from shared.providers.request import InferenceRequest
from shared.telemetry.context import bound
from shared.telemetry.log import get_logger

log = get_logger("api")

Headers = list[tuple[bytes, bytes]]


class Call:
    """One inference call on its way through the edge."""

    def __init__(self, edge: Edge, endpoint: str, scope: HTTPScope, receive: Receive) -> None:
        self.edge = edge
        self.endpoint = endpoint
        self.headers = header_map(scope["headers"])
        self.preference = preference(scope["headers"])
        self.method = scope["method"]
        self.receive = receive
        self.started_s = edge.clock.monotonic()
        self.request_id = request_id_of(self.headers) or edge.ids("req")
        self.books_id = books_id(self.headers, self.request_id, edge.ids)
        self.principal: Principal | None = None
        self.model: str | None = None
        self.sent = False

    async def read(self) -> tuple[Principal, InferenceRequest]:
        """Check method, key and type, then read and parse the body."""
        if self.method != "POST":
            raise MethodNotAllowed(f"{self.endpoint} takes POST.", allowed=["POST"])
        principal = self.principal = await self.edge.keys.principal(bearer(self.headers))
        check_json(self.headers)
        raw = await read_body(self.receive, self.headers, self.edge.max_body_bytes, self.edge.clock)
        request = parse_request(self.endpoint, raw)
        self.model = request.head.model
        return principal, request

    def deadline(self) -> tuple[Deadline, bool]:
        """Return the deadline, and whether the caller set it."""
        asked_s = timeout_s(self.headers)
        length_s = DEFAULT_TIMEOUT_S if asked_s is None else asked_s
        return Deadline(self.started_s + length_s), asked_s is not None

    def context(self, request: InferenceRequest, *, own_deadline: bool) -> CallContext:
        """Return who asked, for the books."""
        return CallContext(
            request_id=self.books_id,
            tags=tags(self.headers),
            user=user_of(request, self.headers),
            own_deadline=own_deadline,
        )

    def overhead_ms(self, upstream_ms: int) -> bytes:
        """Return our own share of the time so far, in milliseconds."""
        elapsed_ms = (self.edge.clock.monotonic() - self.started_s) * 1000
        return b"%.1f" % max(0.0, elapsed_ms - upstream_ms)

    def cut_short(self) -> GatewayError:
        """Return what a caller is told whose call outlasts this process."""
        if self.sent:
            return StreamInterrupted("The gateway is stopping; the answer is not complete.")
        return Overloaded("The gateway is stopping; send the request again.")

    def served(self, status: int, code: str | None) -> None:
        """Count and log the call."""
        self.edge.access.add(
            Served(
                level="info",
                timestamp=self.edge.clock.now(),
                request_id=self.request_id,
                endpoint=self.endpoint,
                status=status,
                code=code,
                tenant_id=None if self.principal is None else self.principal.tenant_id,
                model=self.model,
                elapsed_ms=round((self.edge.clock.monotonic() - self.started_s) * 1000, 2),
            )
        )


def inference_app(endpoint: str, edge: Edge) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the ASGI app of one inference path."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(edge, endpoint, cast("HTTPScope", scope), receive)
        with bound(request_id=call.request_id), edge.in_flight():
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
    async with while_connected(call.receive, call.edge.closing, call.cut_short):
        answer = await call.edge.gateway.complete(
            principal,
            request,
            deadline=deadline,
            books=call.edge.books,
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
            while_connected(call.receive, call.edge.closing, call.cut_short),
            while_taken(sender, call.edge.clock),
        ):
            stream = await call.edge.gateway.stream(
                principal,
                request,
                deadline=deadline,
                books=call.edge.books,
                context=call.context(request, own_deadline=own_deadline),
            )
            code = await _send_pieces(call, sender, stream)
        await send_end(send, call.edge.clock)
        call.served(200, code)
    finally:
        if stream is not None:
            await stream.aclose()


async def _send_pieces(call: Call, send: Send, stream: AnswerStream) -> str | None:
    """Send pieces as they come and return the code of a break, if one ended the stream.

    A break is told by an explicit error event; a cut stream never looks whole.
    """
    upstream_ms = stream.waited_ms
    headers = [
        (b"x-request-id", call.request_id.encode()),
        (b"x-sluiceway-provider", stream.provider.encode()),
        (b"x-sluiceway-model", _latin(stream.model)),
        (b"x-sluiceway-route", _latin(stream.route)),
        (b"x-sluiceway-attempts", b"%d" % stream.tries),
        (b"x-sluiceway-overhead-ms", call.overhead_ms(upstream_ms)),
        (b"content-type", EVENTS),
        (b"cache-control", b"no-cache"),
    ]
    call.sent = True
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        async for piece in stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except GatewayError as error:
        log.warning("stream.interrupted", code=error.code, reason=error.message)
        await send({"type": "http.response.body", "body": event_of(error), "more_body": True})
        return error.code
    return None


async def _send(call: Call, send: Send, status: int, body: bytes, headers: Headers) -> None:
    call.sent = True
    await send_whole(send, status, body, [(b"x-request-id", call.request_id.encode()), *headers])
    call.served(status, None)


async def _refuse(call: Call, send: Send, error: GatewayError) -> None:
    """Answer with the error, or end the stream with it when the head has gone out."""
    status, body, extra = answer_of(error)
    headers = [(name.encode(), value.encode()) for name, value in extra.items()]
    if call.sent:
        await send({"type": "http.response.body", "body": event_of(error), "more_body": False})
    else:
        headers.append((b"x-request-id", call.request_id.encode()))
        await send_whole(send, status, body, headers)
    call.served(status, error.code)


async def _cut(call: Call, send: Send) -> None:
    """End a call that the server has cancelled: it would neither read nor write any more."""
    if call.sent:
        call.served(499, "cancelled")
    else:
        await _refuse(call, send, call.cut_short())


def _headers_of(call: Call, answer: Answer) -> Headers:
    upstream_ms = sum(attempt.duration_ms for attempt in answer.attempts)
    headers = [
        (b"x-sluiceway-provider", answer.provider.encode()),
        (b"x-sluiceway-model", _latin(answer.model)),
        (b"x-sluiceway-route", _latin(answer.route)),
        (b"x-sluiceway-attempts", b"%d" % len(answer.attempts)),
        (b"x-sluiceway-overhead-ms", call.overhead_ms(upstream_ms)),
    ]
    if answer.cost_nanousd is not None:
        headers.append((b"x-sluiceway-cost-usd", usd_text(answer.cost_nanousd).encode()))
    return headers


def user_of(request: InferenceRequest, headers: dict[bytes, bytes]) -> str | None:
    """Return the end user: `safety_identifier`, else `user`, else `X-Sluiceway-User`."""
    head = request.head
    return head.safety_identifier or head.user or text_header(headers, b"x-sluiceway-user")


def _latin(text: str) -> bytes:
    return text.encode("latin-1", "replace")
