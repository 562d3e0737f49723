"""The middleware that serves a POST with an `Idempotency-Key` once; inference calls have their own.

The bodies of forms are not read for it: they may be files. Of those only the length is compared.
"""

from typing import cast

from litestar.types import ASGIApp, HTTPScope, Receive, ReceiveMessage, Scope, Send

from api.asgi import NO_STORE, read_body, send_whole
from api.auth import bearer, header_map
from api.call import dialect_of
from api.edge import Edge, edge_of
from api.errors import answer_of
from api.idempotency import HEADER, fingerprint_of, headers_again
from api.request_id import REQUEST_ID
from shared.errors import CallerError, GatewayError
from shared.providers.dialects.passed import FORM
from shared.store.idempotency import Earlier

OWN = "/v1/"
"""Only what a tenant's key creates can be named by it."""

Headers = dict[bytes, bytes]


def named(app: ASGIApp) -> ASGIApp:
    """Be the middleware."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        asked = cast("HTTPScope", scope)
        if asked["method"] == "POST" and asked["path"].startswith(OWN):
            headers = header_map(asked["headers"])
            if HEADER in headers:
                await _serve_once(edge_of(scope), app, asked, headers, receive, send)
                return
        await app(scope, receive, send)

    return call


async def _serve_once(
    edge: Edge, app: ASGIApp, scope: HTTPScope, headers: Headers, receive: Receive, send: Send
) -> None:
    try:
        try:
            principal = await edge.keys.principal(bearer(headers))
        except CallerError:
            await app(scope, receive, send)  # the handler says what is wrong with the key
            return
        fingerprint, receive = await _read(edge, headers, receive)
        route = f"POST {scope['path']}"
        begun = await edge.idempotency.begin(
            principal.tenant_id, route, headers[HEADER], fingerprint, send
        )
        if isinstance(begun, Earlier):
            status, body, again = await edge.async_calls.again(principal.tenant_id, begun)
            kind, more = headers_again(again)
            await send_whole(send, status, body, more, kind)
            return
    except GatewayError as error:
        own_id = scope["state"].get(REQUEST_ID)
        status, body, extra = answer_of(error, dialect_of(headers), own_id)
        pairs = [(name.encode(), value.encode()) for name, value in extra.items()]
        await send_whole(send, status, body, [*pairs, NO_STORE])
        return
    async with begun:
        await app(scope, receive, begun)


async def _read(edge: Edge, headers: Headers, receive: Receive) -> tuple[str, Receive]:
    """Return the body's fingerprint, and what the handler is to receive in place of `receive`."""
    kind = headers.get(b"content-type", b"")
    if kind.lower().startswith(FORM.encode()):
        return fingerprint_of(headers.get(b"content-length", b""), b""), receive
    raw = await read_body(receive, headers, edge.max_body_bytes, edge.clock)
    return fingerprint_of(raw, kind), _again(raw, receive)


def _again(raw: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body that has been read, then what comes after it."""
    message: ReceiveMessage | None = {"type": "http.request", "body": raw, "more_body": False}

    async def received() -> ReceiveMessage:
        nonlocal message
        if message is None:
            return await receive()
        first, message = message, None
        return first

    return received
