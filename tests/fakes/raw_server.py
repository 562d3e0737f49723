"""A server that knows no HTTP: each connection is given to the test."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """Counts connections, and knows which of them are open."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.port = 0
        self.connections = 0
        self.open = 0
        self._changed = asyncio.Condition()

    async def left(self) -> None:
        """Count a caller who has gone."""
        async with self._changed:
            self.open -= 1
            self._changed.notify_all()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/v1/chat/completions"

    async def all_closed(self, within_s: float = 1.0) -> None:
        """Return when no caller is connected any more."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(lambda: not self.open)


@asynccontextmanager
async def raw_server(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Yield a server whose connections run `talk`, and are closed after it."""
    server = RawServer("https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        server.connections += 1
        server.open += 1
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()
            await server.left()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=1024)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Return one whole request.

    Raises:
        IncompleteReadError: the caller has gone.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head + await reader.readexactly(length)


async def until_gone(reader: asyncio.StreamReader) -> None:
    """Return when the caller has gone."""
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass


def answers(*pieces: bytes, gap_s: float = 0.0) -> Talk:
    """To each request these pieces, one write each; then wait for the next."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for piece in pieces:
                if reader.at_eof() or writer.is_closing():
                    return
                writer.write(piece)
                await asyncio.sleep(gap_s)

    return talk


def answers_once(*pieces: bytes, gap_s: float = 0.0) -> Talk:
    """To one request these pieces, one write each; then close."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(gap_s)

    return talk
