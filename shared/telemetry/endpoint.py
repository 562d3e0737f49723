"""`/metrics`, `/livez` and `/readyz` of a process that serves nothing else: worker, scheduler.

A few lines of HTTP, so that these processes need no web framework. It answers on the event loop of
the process, so `/livez` tells that the loop turns.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import msgspec

from shared.errors import StoreUnavailable
from shared.telemetry.exposition import exposed
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import DEPENDENCY_UP

log = get_logger("operations")

REQUEST_S = 5.0
"""For a request to come in and its answer to be taken."""
PING_S = 1.0
START_S = 5.0
MOST_REQUEST_BYTES = 8_192
_PHRASES = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_JSON = "application/json"


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a process can do its work, and why not."""

    ready: bool
    facts: dict[str, object]


async def readiness(ping: Callable[[float], Awaitable[None]], *, stopping: bool) -> Readiness:
    """Return whether a process can work that needs the database and is not told to stop."""
    try:
        await ping(PING_S)
    except StoreUnavailable:
        database = "away"
    else:
        database = "ok"
    DEPENDENCY_UP.labels("database").set(database == "ok")
    status = "stopping" if stopping else "ok" if database == "ok" else "degraded"
    return Readiness(ready=status == "ok", facts={"status": status, "database": database})


Ready = Callable[[], Awaitable[Readiness]]


@asynccontextmanager
async def operations(host: str, port: int | None, ready: Ready) -> AsyncIterator[None]:
    """Answer while inside; without a port do nothing.

    Raises:
        OSError: the address is taken or not ours.
    """
    if port is None:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _answer(head, ready))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, port, limit=MOST_REQUEST_BYTES)
    where, number = server.sockets[0].getsockname()[:2]
    log.info("operations.serving", address=f"http://{where}:{number}")
    try:
        yield
    finally:
        server.close()


@contextmanager
def operations_thread(host: str, port: int | None, ready: Ready) -> Iterator[None]:
    """Answer while inside, for a process without an event loop; without a port do nothing.

    Raises:
        OSError: the address is taken or not ours.
    """
    if port is None:
        yield
        return
    loop, begun, failures = asyncio.new_event_loop(), threading.Event(), list[OSError]()
    stop = asyncio.Event()

    async def serve() -> None:
        try:
            async with operations(host, port, ready):
                begun.set()
                await stop.wait()
        except OSError as error:
            failures.append(error)
        finally:
            begun.set()

    thread = threading.Thread(
        target=lambda: loop.run_until_complete(serve()), name="operations", daemon=True
    )
    thread.start()
    begun.wait(START_S)
    try:
        if failures:
            raise failures[0]
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_S)
        loop.close()


async def _answer(head: bytes, ready: Ready) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in {b"GET", b"HEAD"}:
        return _response(405, b"", _JSON)
    status, body, kind = await _content(path, ready)
    return _response(status, body, kind, with_body=method == b"GET")


async def _content(path: bytes, ready: Ready) -> tuple[int, bytes, str]:
    if path == b"/metrics":
        return (200, *await asyncio.to_thread(exposed))
    if path == b"/livez":
        return 200, b'{"status":"ok"}', _JSON
    if path == b"/readyz":
        found = await ready()
        return 200 if found.ready else 503, msgspec.json.encode(found.facts), _JSON
    return 404, b"", _JSON


def _response(status: int, body: bytes, kind: str, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
