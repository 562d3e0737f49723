"""A webhook receiver on a real loopback socket: scripted answers, and what came.

    async with running_receiver() as receiver:
        receiver.script("/hook", respond(503), respond(200))
        url = receiver.url("/hook")
        calls = await receiver.wait_for(2)

A path without a script answers 200; the last answer of a script is given for ever.
"""

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What to send; with `hang` nothing is sent and the caller must leave."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b"ok"
    hang: bool = False
    cut: bool = False
    """Promise ten times the body, then close."""


def respond(status: int, body: bytes = b"ok", **headers: str) -> Response:
    """An answer; header names with underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status=status, headers=named, body=body)


class Receiver:
    """Listens on a port chosen by the system."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self._scripts: dict[str, deque[Response]] = defaultdict(deque)
        self._came = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._callers: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def script(self, path: str, *responses: Response) -> None:
        """Answer with these in turn, the last one for ever."""
        self._scripts[path] = deque(responses)

    async def wait_for(self, count: int, *, within_s: float = 20.0) -> list[Received]:
        """Return what came once that were `count` requests or more.

        Raises:
            TimeoutError: it was less, `within_s` seconds long.
        """
        async with asyncio.timeout(within_s), self._came:
            await self._came.wait_for(lambda: len(self.received) >= count)
        return list(self.received)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        callers = list(self._callers)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._callers.add(task)
        task.add_done_callback(self._callers.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                request = await _read(reader)
                async with self._came:
                    self.received.append(request)
                    self._came.notify_all()
                await _answer(self._next(request.path), reader, writer)
            finally:
                writer.close()

    def _next(self, path: str) -> Response:
        script = self._scripts[path]
        if not script:
            return Response()
        return script.popleft() if len(script) > 1 else script[0]


async def _answer(
    response: Response, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if response.hang:
        await reader.read()  # until the caller leaves
        return
    promised = len(response.body) * (10 if response.cut else 1)
    head = [f"HTTP/1.1 {response.status} x", f"content-length: {promised}", "connection: close"]
    head += [f"{name}: {value}" for name, value in response.headers.items()]
    writer.write("\r\n".join([*head, "", ""]).encode() + response.body)
    await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {}
    for line in head[1:]:
        if line:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method=method, path=path, headers=headers, body=body)


@asynccontextmanager
async def running_receiver() -> AsyncIterator[Receiver]:
    """A receiver for the length of the block."""
    receiver = Receiver()
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()
