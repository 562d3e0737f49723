"""What a slow or wasteful caller may hold on to, and for how long."""

import asyncio
import json

import pytest

from api import protocol
from api.edge import Edge
from api.protocol import MAX_PIPELINED, Protocol
from tests.edge.api.conftest import KEY
from tests.edge.api.wire import Wire, connected, post, request, served

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
GOOD = json.dumps({"model": "mock", "messages": [{"role": "user", "content": "hi"}]}).encode()


class Hasty(Protocol):
    """Gives a tenth of a second for a head, and as much for a body."""

    head_s = 0.1
    body_s = 0.1


@pytest.mark.parametrize(
    "sent", [b"G", b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nhost: x\r\na: b\r\n"]
)
async def test_a_head_has_to_come_in_time(edge: Edge, sent: bytes):
    async with served(edge, Hasty) as port, connected(port) as wire:
        answer = await wire.ask(sent)
        rest = await wire.closed()

    assert (400, "invalid_request") == (answer.status, answer.error["code"])
    assert "did not arrive" in str(answer.error["message"])
    assert b"" == rest


async def test_a_head_that_drips_has_no_more_time(edge: Edge):
    """Each byte is no new start."""
    async with served(edge, Hasty) as port, connected(port) as wire:
        dripping = asyncio.create_task(_drip(wire.send))
        answer = await wire.answer()
        dripping.cancel()

    assert 400 == answer.status


async def _drip(send) -> None:
    send(b"GET /livez HTTP/1.1\r\n")
    while True:
        await asyncio.sleep(0.02)
        send(b"a: b\r\n")


async def test_a_connection_that_says_nothing_is_closed(edge: Edge):
    async with served(edge, Hasty) as port, connected(port) as wire:
        assert b"" == await wire.closed()


@pytest.mark.parametrize("path", [CHAT, "/v1/jobs"])
async def test_a_body_has_to_come_in_time(edge: Edge, path: str):
    cut = post(path, GOOD)[:-5]
    async with served(edge, Hasty) as port, connected(port) as wire:
        answer = await wire.ask(cut)
        rest = await wire.closed()

    assert (400, "invalid_request") == (answer.status, answer.error["code"])
    assert b"" == rest
    assert 0 == edge.running


@pytest.mark.parametrize("broken", [b"", b"no chunk\r\n"])
async def test_a_request_is_answered_once(edge: Edge, broken: bytes):
    """Refused in the middle of its body, whose rest is late or broken: that ends the connection.

    A second answer would be taken for that of the next request.
    """
    head = request("POST", CHAT, {"transfer-encoding": "chunked", "content-type": "text/plain"})
    async with served(edge, Hasty) as port, connected(port) as wire:
        answer = await wire.ask(head)
        wire.send(broken)
        rest = await wire.closed()

    assert 401 == answer.status
    assert b"" == rest


async def test_waiting_for_an_answer_is_no_delay_of_the_callers(edge: Edge):
    """A connection lives on between requests and while it is answered."""
    slow = json.dumps(json.loads(GOOD) | {"mock": {"delay_s": 0.5}}).encode()
    async with served(edge, Hasty) as port, connected(port) as wire:
        first = await wire.ask(post(CHAT, slow))
        await asyncio.sleep(0.3)
        second = await wire.ask(post(CHAT, GOOD))

    assert (200, 200) == (first.status, second.status)


async def test_a_refused_body_is_thrown_away_only_to_a_point(edge: Edge):
    """A short rest keeps the connection, an endless one closes it."""
    head = request(
        "POST",
        CHAT,
        {"authorization": f"Bearer {KEY}", "content-length": str(protocol.MAX_DISCARDED_BYTES * 2)},
    )
    async with served(edge) as port, connected(port) as wire:
        answer = await wire.ask(head)
        with pytest.raises(ConnectionError):
            await _flood(wire)

    assert (413, "request_too_large") == (answer.status, answer.error["code"])


async def _flood(wire: Wire) -> None:
    while True:
        wire.send(b"x" * 1_000_000)
        await wire.writer.drain()


async def test_a_body_is_asked_for_only_when_it_is_wanted(edge: Edge):
    """`Expect: 100-continue`: a refusal comes at once, and nothing is sent in vain."""
    async with served(edge) as port:
        async with connected(port) as wire:
            wire.send(post(CHAT, GOOD, {"expect": "100-continue"})[: -len(GOOD)])
            assert b"HTTP/1.1 100 Continue\r\n\r\n" == await wire.reader.readuntil(b"\r\n\r\n")
            wanted = await wire.ask(GOOD)
        async with connected(port) as wire:
            refused = await wire.ask(
                request("POST", CHAT, {"expect": "100-continue", "content-length": "5000000"})
            )
            rest = await wire.closed()

    assert (200, 401, b"") == (wanted.status, refused.status, rest)


async def test_few_requests_may_wait_on_a_connection(edge: Edge):
    slow = json.dumps(json.loads(GOOD) | {"mock": {"delay_s": 0.2}}).encode()
    async with served(edge) as port, connected(port) as wire:
        wire.send(post(CHAT, slow) + request("GET", "/livez") * (MAX_PIPELINED + 2))
        answer = await wire.answer()
        rest = await wire.closed()

    assert 200 == answer.status
    assert rest.count(b"HTTP/1.1 200") <= MAX_PIPELINED
