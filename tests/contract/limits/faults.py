"""A Redis of one test's own, to be mistreated, and a wire to it that can be slow."""

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import redis

from tests.services import RedisServer, redis_program, tied, wait_for


def command(server: RedisServer, *words: object) -> object:
    """Send one command to the server."""
    with redis.Redis.from_url(server.url) as client:
        return client.execute_command(*words)


def pid_of(server: RedisServer) -> int:
    with redis.Redis.from_url(server.url) as client:
        return client.info("server")["process_id"]


@contextmanager
def frozen(server: RedisServer) -> Iterator[None]:
    """Stop the process as if its machine hung; connections stay, nobody answers."""
    pid = pid_of(server)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def redis_at(home: Path) -> Iterator[RedisServer]:
    """Run an empty Redis on the socket in the folder; it may be started there again."""
    run, server = home / "run", RedisServer(socket=home / "redis.sock")
    run.mkdir()
    options = ("--port", "0", "--unixsocket", str(server.socket), "--dir", str(run), "--save", "")
    with tied([redis_program(), *options], home=run, stop="KILL") as process:
        wait_for(lambda: command(server, "PING"), redis.RedisError, process, run)
        yield server


class Wire:
    """A TCP port that leads to a server's socket; answers come `delay_s` late."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.delay_s = 0.0


@asynccontextmanager
async def wire_to(server: RedisServer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Lay a wire to the server for the length of the block."""
    pipes: set[asyncio.Task[None]] = set()

    async def pipe(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool
    ) -> None:
        try:
            while piece := await reader.read(65_536):
                if late and wire.delay_s:
                    await asyncio.sleep(wire.delay_s)
                writer.write(piece)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inward, outward = await asyncio.open_unix_connection(server.socket)
        pipes.add(asyncio.create_task(pipe(reader, outward, late=False)))
        pipes.add(asyncio.create_task(pipe(inward, writer, late=True)))

    listener = await asyncio.start_server(join, "127.0.0.1", 0, ssl=tls)
    wire = Wire(listener.sockets[0].getsockname()[1])
    try:
        yield wire
    finally:
        listener.close()
        for task in pipes:
            task.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
