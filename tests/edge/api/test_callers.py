"""Callers that leave, or that stop reading: nothing goes on for them."""

import asyncio
import json
from collections.abc import AsyncIterator

import anyio
import msgspec
import pytest

from api.app import create_app
from api.asgi import STALL_S, CallerGone, Sender, send_end, while_taken
from api.auth import LOOKUP_S, KeyTable
from api.edge import Edge
from shared.clock import SystemClock
from shared.config.model import Config
from shared.errors import StoreUnavailable
from shared.store.engine import open_store
from tests.edge.api.conftest import KEY

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
ASKED = {"model": "mock", "messages": [{"role": "user", "content": "hi"}]}


HURRY = 200
"""So much shorter that a caller is given up before the spool is emptied, which is looked into."""


class Hurried(SystemClock):
    """Waits a small part of what it is told."""

    async def sleep(self, length_s: float) -> None:
        await super().sleep(length_s / HURRY)

    def timeout(self, length_s: float):
        return super().timeout(length_s / HURRY)

    def later(self, length_s: float, ring):
        return super().later(length_s / HURRY, ring)


class Caller:
    """One raw ASGI call; `takes` messages are read, then no more."""

    def __init__(self, body: bytes = b"", *, takes: int = 1_000_000) -> None:
        self.sent: list[dict[str, object]] = []
        self.left = asyncio.Event()
        self._takes = takes
        self._body: bytes | None = body

    async def receive(self) -> dict[str, object]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, object]) -> None:
        if len(self.sent) >= self._takes:
            await asyncio.Event().wait()
        self.sent.append(message)


def scope(method: str, path: str, query: bytes = b"") -> dict[str, object]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": [
            (b"authorization", f"Bearer {KEY}".encode()),
            (b"content-type", b"application/json"),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }


def closed_attempts(edge: Edge) -> list[str]:
    """Return the outcomes in the spool."""
    found = []
    for path in (edge.runtime.settings.data_dir / "spool").rglob("*"):
        if path.is_file():
            for line in path.read_bytes().split(b"\n"):
                start = line.find(b'"outcome":"')
                if start >= 0:
                    found.append(line[start + 11 :].split(b'"')[0].decode())
    return found


@pytest.mark.behaviour(146)
@pytest.mark.parametrize("takes", [0, 1, 2])
async def test_a_caller_that_stops_reading_is_given_up(edge: Edge, takes: int):
    """The upstream is closed and the attempt is settled as cancelled."""
    edge.clock = Hurried()
    caller = Caller(json.dumps({**ASKED, "stream": True}).encode(), takes=takes)

    with anyio.fail_after(5):
        await create_app(edge)(scope("POST", CHAT), caller.receive, caller.send)
        await asyncio.sleep(0)  # the charges of one turn of the loop are written at its end

    assert takes == len(caller.sent)
    assert ["cancelled"] == closed_attempts(edge)
    assert 0 == edge.running


async def test_a_slow_reader_is_not_given_up():
    """Each message has its own time; all together may take for ever."""
    taken = 0

    async def send(message: object) -> None:
        nonlocal taken
        await asyncio.sleep(STALL_S / HURRY * 0.8)
        taken += 1

    sender = Sender(send)

    async def quiet() -> None:
        """The next sign of life may wait."""

    with while_taken(sender, Hurried(), quiet):
        for _ in range(4):
            await sender({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(STALL_S / HURRY * 3)  # nothing to send is nobody's fault

    assert 4 == taken


async def test_the_end_of_a_stream_is_not_waited_for_either():
    with pytest.raises(CallerGone):
        await send_end(Caller(takes=0).send, Hurried())


async def test_waiting_for_a_job_ends_with_the_caller(edge: Edge):
    app = create_app(edge)
    asked = {"endpoint": CHAT, "body": ASKED}
    submitted = Caller(json.dumps(asked).encode())
    await app(scope("POST", "/v1/jobs"), submitted.receive, submitted.send)
    job = msgspec.json.decode(submitted.sent[1]["body"])
    caller = Caller()
    waiting = asyncio.create_task(
        app(scope("GET", f"/v1/jobs/{job['id']}", b"wait=30"), caller.receive, caller.send)
    )
    await asyncio.sleep(0.3)
    assert not waiting.done()

    caller.left.set()

    with anyio.fail_after(2):
        await waiting


@pytest.fixture
async def silent_url() -> AsyncIterator[str]:
    """A PostgreSQL that takes connections and says nothing."""
    writers = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield f"postgresql://u:p@127.0.0.1:{port}/d"
    for writer in writers:
        writer.close()
    server.close()


async def test_an_unknown_key_is_not_looked_up_for_ever(silent_url: str):
    """It is a 503: nobody knows that the key is wrong."""
    store = await open_store(silent_url)
    keys = KeyTable(Config(version=1), "s" * 32, None, store, SystemClock())

    with anyio.fail_after(LOOKUP_S + 1), pytest.raises(StoreUnavailable):
        await keys.principal("sk-unknown")

    await store.close()
