"""What stands before Litestar: the hot paths by name, CORS, and the last guard against a panic."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import cast

from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from api import azure_path
from api.asgi import NO_STORE, NOSNIFF, send_whole
from api.auth import header_map
from api.call import request_id_of
from api.cors import Cors
from api.errors import answer_of
from shared.errors import OwnFault
from shared.ids import IdMaker
from shared.telemetry.log import get_logger

log = get_logger("api")

Serve = Callable[[Scope, Receive, Send], Awaitable[None]]

BROKEN = "Something broke in the gateway; it is logged."

_slashes = re.compile(r"/{2,}")


class Front:
    """Serves inference paths by `inference`, everything else by `rest`.

    `methods` tells what `rest` takes on a path, nothing where there is nothing. Paths may end in a
    slash, and slashes may double: base URLs are often written that way. Azure's own are served too.
    """

    def __init__(
        self,
        inference: Mapping[str, Serve],
        rest: ASGIApp,
        methods: Callable[[str], Iterable[str]],
        cors: Cors | None,
        ids: IdMaker,
    ) -> None:
        self._inference = inference
        self._rest = rest
        self._methods = methods
        self._cors = cors
        self._ids = ids

    def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request. No coroutine of its own: each is woken with every call's wait."""
        if scope["method"] == "POST" and self._cors is None:
            serve = self._inference.get(scope["path"])
            if serve is not None:
                return serve(scope, receive, send)
        return self._serve(scope, receive, send)

    async def _serve(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        headers = header_map(scope["headers"])
        origin = headers.get(b"origin")
        if self._cors is not None and origin is not None and self._cors.allows(origin):
            asked = self._cors.preflight(origin, headers)
            if asked is not None and scope["method"] == "OPTIONS":
                await send_empty(send, [*asked, self._id_of(headers)])
                return
            send = self._cors.exposing(send, origin)
        path = plain(scope["path"])
        if path.startswith(azure_path.PREFIX):
            path, deployment = azure_path.served_path(path)
            scope = cast("HTTPScope", {**scope, "path": path, "deployment": deployment})
        serve = self._inference.get(path)
        if scope["method"] == "OPTIONS" and (takes := self._takes(path)):
            allowed = b"allow", ", ".join(takes).encode()
            await send_empty(send, [allowed, self._id_of(headers)])
        elif serve is None:
            await self._guarded({**scope, "path": path}, receive, send)
        else:
            await serve(scope, receive, send)

    def _takes(self, path: str) -> list[str]:
        """Return the methods of a path; `*` is the server as a whole."""
        found = {"POST"} if path in self._inference else set(self._methods(path))
        if path == "*":
            found = {"GET", "POST", "DELETE"}
        return sorted(found | {"OPTIONS"}) if found else []

    async def _guarded(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Pass a request on; a bug that no handler caught is told in our own shape."""
        if scope["method"] == "HEAD":
            scope["method"] = "GET"  # the server keeps the body of the answer back
        started = False

        async def send_safe(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = safe(message["headers"])
            await send(message)

        try:
            await self._rest(scope, receive, send_safe)
        except Exception:
            log.exception("request.failed", path=scope["path"])
            if started:
                raise
            own_id = self._id_of(header_map(scope["headers"]))
            status, body, _ = answer_of(OwnFault(BROKEN))
            await send_whole(send, status, body, [own_id, NO_STORE])

    def _id_of(self, headers: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
        return b"x-request-id", (request_id_of(headers) or self._ids("req")).encode()


def plain(path: str) -> str:
    """Return the path without doubled slashes and without one at its end."""
    if "//" in path:
        path = _slashes.sub("/", path)
    return path.rstrip("/") or "/"


def safe(headers: object) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers and what keeps browsers and caches from misusing it."""
    given = list(headers)  # type: ignore[call-overload]
    names = {name for name, _ in given}
    return [*given, *(more for more in (NOSNIFF, NO_STORE) if more[0] not in names)]


async def send_empty(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    """Answer with 204."""
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
