"""A request id for everything that is not an inference call (those carry their own)."""

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import header_map
from api.call import dialect_of, request_id_of
from api.edge import edge_of
from api.errors import ANTHROPIC
from shared.telemetry.context import bound

REQUEST_ID = "sluiceway_request_id"


def identified(app: ASGIApp) -> ASGIApp:
    """Be a middleware: the caller's `x-request-id` or a new one, in logs and in the answer.

    Callers of Anthropic's dialect find it under its own name, too.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        headers = header_map(scope["headers"])
        own_id = request_id_of(headers) or edge_of(scope).ids("req")
        scope["state"][REQUEST_ID] = own_id
        named = [(b"x-request-id", own_id.encode())]
        if dialect_of(headers) == ANTHROPIC:
            named.append((b"request-id", own_id.encode()))

        async def send_identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *named]
            await send(message)

        with bound(request_id=own_id):
            await app(scope, receive, send_identified)

    return call
