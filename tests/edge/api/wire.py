"""The API on a real socket, and callers that send whatever bytes they like."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import msgspec
import uvicorn
from litestar.types import ASGIApp

from api.app import create_app
from api.edge import Edge
from api.protocol import KEEP_ALIVE_S, Protocol
from tests.edge.api.conftest import KEY

ANSWER_S = 10.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, object]:
        """The `error` object."""
        return msgspec.json.decode(self.body)["error"]


class Wire:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *pieces: bytes) -> None:
        """Send, without waiting."""
        for piece in pieces:
            self.writer.write(piece)

    async def answer(self, *, to: str = "POST") -> Answer:
        """Return the next answer; one to a HEAD has no body.

        Raises:
            asyncio.IncompleteReadError: the connection closed first.
        """
        async with asyncio.timeout(ANSWER_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.rstrip().split("\r\n")
            headers = {
                name.lower(): value for name, value in (line.split(": ", 1) for line in lines)
            }
            body = b""
            if to != "HEAD" and headers.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readline(), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readline()
            elif to != "HEAD":
                body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(status=int(status.split(" ")[1]), headers=headers, body=body)

    async def ask(self, *pieces: bytes) -> Answer:
        """Send and return the answer."""
        self.send(*pieces)
        return await self.answer(to=pieces[0].split(b" ")[0].decode("latin-1"))

    async def closed(self, within_s: float = ANSWER_S) -> bytes:
        """Return what still came before the server closed."""
        async with asyncio.timeout(within_s):
            return await self.reader.read()


class _Server(uvicorn.Server):
    """Leaves the test's signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def served(
    edge: Edge, protocol: type[Protocol] = Protocol, app: ASGIApp | None = None
) -> AsyncIterator[int]:
    """Serve the edge, or another app, as `sluiceway api` does; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app or create_app(edge),
        http=protocol,
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        date_header=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.005)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    """Open one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def post(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a whole POST with the tenant's key and, unless told otherwise, as JSON."""
    named = {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        **(headers or {}),
    }
    return request("POST", path, named) + body


def request(method: str, path: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the head of a request; a header whose value is empty is left out."""
    lines = [f"{method} {path} HTTP/1.1", "host: gateway"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items() if value]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
