"""Bodies of files: long, slow and broken ones."""

import asyncio
import tracemalloc

import msgspec
import pytest

from api.long_body import BODY_S, SLOWEST_BYTES_S, long_body
from shared.errors import InvalidRequest
from tests.edge.api.conftest import KEY
from tests.edge.api.files.forms import form_around, objects_in, until
from tests.edge.api.test_protocol import Hasty
from tests.edge.api.wire import connected, post, request, served
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
LENGTH = "content-length"


async def test_a_large_file_takes_little_memory_both_ways(edge):
    """20 MiB go through a connection, in and out, while a few are in memory."""
    size = 20 * MIB
    first, last = form_around("a", purpose="user_data")
    kind = {
        "authorization": f"Bearer {KEY}",
        "content-type": "multipart/form-data; boundary=x",
        "content-length": str(len(first) + size + len(last)),
    }
    async with served(edge) as port, connected(port) as wire:
        tracemalloc.start()
        try:
            wire.send(request("POST", "/v1/files", kind), first)
            for _ in range(size // MIB):
                wire.send(b"x" * MIB)
                await wire.writer.drain()
            stored = msgspec.json.decode((await wire.ask(last)).body)
            wire.send(request("GET", f"/v1/files/{stored['id']}/content", kind | {LENGTH: "0"}))
            await wire.reader.readuntil(b"\r\n\r\n")
            left = size
            while left:
                left -= len(await wire.reader.read(MIB))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert size == stored["bytes"]
    assert most < 10 * MIB


async def test_a_body_may_take_its_time_as_long_as_it_goes_on(edge):
    """Where others have a tenth of a second here, a file has longer."""
    first, last = form_around("a", purpose="batch")
    kind = {"content-type": "multipart/form-data; boundary=x", LENGTH: str(len(first + last) + 4)}
    async with served(edge, Hasty) as port, connected(port) as wire:
        wire.send(post("/v1/files", b"", kind), first)
        for _ in range(4):
            await asyncio.sleep(0.1)
            wire.send(b"x")
        answer = await wire.ask(last)

    assert 200 == answer.status


async def test_a_refused_file_gets_no_more_time(edge):
    """Whoever is told that his file is refused may not hold the connection with the rest."""
    first, _ = form_around("a", purpose="nonsense")
    kind = {"content-type": "multipart/form-data; boundary=x", LENGTH: str(2 * MIB)}
    async with served(edge, Hasty) as port, connected(port) as wire:
        wire.send(post("/v1/files", b"", kind))
        await asyncio.sleep(0.2)
        answer = await wire.ask(first)
        await wire.closed()

    assert (400, "purpose") == (answer.status, answer.error["param"])


@pytest.mark.parametrize(("each", "enough"), [(1, False), (SLOWEST_BYTES_S * 5, True)])
async def test_a_body_that_drips_is_given_up(each, enough):
    """Five seconds a piece: bytes are too little, a steady stream is not."""
    clock = FakeClock()
    left = 20

    async def receive():
        nonlocal left
        left -= 1
        await clock.sleep(5)
        return {"type": "http.request", "body": b"x" * each, "more_body": left > 0}

    reading = long_body({"type": "http"}, receive, 1000 * MIB, clock)
    if enough:
        assert 20 * each == sum([len(piece) async for piece in reading])
        return
    with pytest.raises(InvalidRequest, match="too slowly"):
        [piece async for piece in reading]
    assert BODY_S <= clock.elapsed_s <= BODY_S + 5


async def test_a_caller_who_leaves_half_way_has_stored_nothing(edge):
    """No object, and no row that would have to be pruned."""
    first, _ = form_around("a", purpose="batch")
    kind = {"content-type": "multipart/form-data; boundary=x", LENGTH: str(2 * MIB)}
    async with served(edge) as port:
        async with connected(port) as wire:
            wire.send(post("/v1/files", b"", kind), first, b"x" * MIB)
            await wire.writer.drain()
            await until(edge, rows=1)
        await until(edge, rows=0)

    assert [] == await objects_in(edge)
