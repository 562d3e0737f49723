"""A TCP proxy that plays faults: what stands behind it is slow, silent or gone, by word.

with running_proxy(redis_server.socket) as proxy:
    proxy.become("delay")
    ...
    proxy.become("pass")
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

START_S = 10.0
DELAY_S = 2.0

Mode = Literal["pass", "delay", "hang", "refuse", "reset"]
"""How it behaves: each piece a client sends takes DELAY_S; nothing moves; nobody listens; every
connection is reset. The last two also end the connections there are."""


class Proxy:
    """Listens on a port of the system's choice and passes on to a Unix socket or a port here."""

    def __init__(self, target: Path | int, loop: asyncio.AbstractEventLoop) -> None:
        self.port = 0
        self.mode: Mode = "pass"
        self._target = target
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._place: socket.socket | None = None
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def become(self, mode: Mode) -> None:
        """Change the mode; it holds when this returns. Call from another thread."""
        asyncio.run_coroutine_threadsafe(self._become(mode), self._loop).result(START_S)

    async def _become(self, mode: Mode) -> None:
        self.mode = mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode in {"refuse", "reset"}:
            for writer in list(self._writers):
                writer.transport.abort()
        if mode == "refuse":
            await self.stop_listening()
            # Bound and not listening: nobody else gets the port meanwhile.
            self._place = _bound(self.port)
        elif self._server is None:
            await self.listen()

    async def listen(self) -> None:
        """Take connections."""
        if self._place is not None:
            self._place.close()
            self._place = None
        self._server = await asyncio.start_server(self._accept, sock=_bound(self.port))
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop_listening(self) -> None:
        """Take none."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def close(self) -> None:
        """End everything."""
        await self.stop_listening()
        if self._place is not None:
            self._place.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.mode != "reset":
                await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # a cancelled handler would be reported as a fault
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._target, int):
            behind_reader, behind = await asyncio.open_connection("127.0.0.1", self._target)
        else:
            behind_reader, behind = await asyncio.open_unix_connection(self._target)
        self._writers.add(behind)
        ways = [
            asyncio.create_task(self._pump(reader, behind, DELAY_S)),
            asyncio.create_task(self._pump(behind_reader, writer, 0.0)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            behind.transport.abort()
            self._writers.discard(behind)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float
    ) -> None:
        while data := await reader.read(65536):
            await self._hold(delay_s)
            writer.write(data)
            await writer.drain()

    async def _hold(self, delay_s: float) -> None:
        """Wait as the mode says, no longer than it lasts."""
        if self.mode == "hang":
            await self._changed.wait()
        elif self.mode == "delay" and delay_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._changed.wait()


def _bound(port: int) -> socket.socket:
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", port))
    return place


@contextmanager
def running_proxy(target: Path | int) -> Iterator[Proxy]:
    """Yield a proxy to a Unix socket or local port, in a thread that ends with the block."""
    started = threading.Event()
    found: list[Proxy] = []
    stops: list[asyncio.Event] = []

    async def serve() -> None:
        proxy = Proxy(target, asyncio.get_running_loop())
        await proxy.listen()
        stops.append(asyncio.Event())
        found.append(proxy)
        started.set()
        await stops[0].wait()
        await proxy.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="proxy", daemon=True)
    thread.start()
    if not started.wait(START_S):
        raise RuntimeError("the proxy did not start")
    try:
        yield found[0]
    finally:
        found[0]._loop.call_soon_threadsafe(stops[0].set)
        thread.join(START_S)
