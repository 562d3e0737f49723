"""What the chain may rely on: faults of the wire become kinds, and nothing outlives its context."""

import asyncio
import random
import socket

import msgspec
import pytest

from shared.corked import cork_of
from shared.errors import FailureKind, StoreUnavailable, UpstreamError
from shared.providers.exchange import HttpRequest
from tests.fakes.certificates import self_signed, serving
from tests.fakes.upstream import (
    DONE,
    JSON,
    Answer,
    byte_by_byte,
    events,
    says,
    sse,
    status,
    streams,
)

pytestmark = pytest.mark.anyio

LIMIT = 1_000_000
SOON_S = 2.0


def call(upstream, provider="up", **headers):
    return HttpRequest(
        url=upstream.base_url(provider) + "/chat/completions",
        headers={"content-type": "application/json", "accept-encoding": "identity", **headers},
        body=b'{"model":"m"}',
    )


async def whole(transport, request):
    async with transport.open(request, connect_s=1) as response:
        return response.status, await response.read(LIMIT)


async def test_sends_exactly_what_it_was_given(upstream, transport):
    """No header of its own but the host, the length and the connection's."""
    await whole(transport, call(upstream, authorization="Bearer k"))

    sent = upstream.requests[0]
    assert ("POST", "/up/v1/chat/completions") == (sent.method, sent.path)
    assert b'{"model":"m"}' == sent.body
    assert {
        "host": f"127.0.0.1:{upstream.port}",
        "content-type": "application/json",
        "accept-encoding": "identity",
        "authorization": "Bearer k",
        "content-length": "13",
    } == {name: value for name, value in sent.headers.items() if name != "connection"}


async def test_sends_nothing_as_long_as_what_comes_before_it_fails(upstream, transport):
    """The books are written so. On a new connection, and on one that waits."""
    disk = {"full": False}

    def write():
        if disk["full"]:
            raise OSError("no room")

    loop = asyncio.get_running_loop()
    for count in (0, 1):
        disk["full"] = True
        cork_of(loop).first(write, loop)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="no room"):
                await whole(transport, call(upstream))
        assert count == len(upstream.requests)
        disk["full"] = False
        assert 200 == (await whole(transport, call(upstream)))[0]


async def test_reads_a_whole_answer_and_its_headers(upstream, transport):
    upstream.script("up", status(429, retry_after="7"))

    async with transport.open(call(upstream), connect_s=1) as response:
        assert (429, "7") == (response.status, response.headers["retry-after"])
        assert b"scripted 429" in await response.read(LIMIT)


async def test_uses_a_connection_again_after_a_whole_answer(upstream, transport):
    for _ in range(3):
        await whole(transport, call(upstream))

    assert 1 == len(upstream.connections)


async def test_uses_a_connection_again_after_a_stream_read_to_its_end(upstream, transport):
    upstream.script("up", streams("a", "b"))

    async with transport.open(call(upstream), connect_s=1) as response:
        got = b"".join([piece async for piece in response.chunks()])
    await whole(transport, call(upstream))

    assert b"".join(events(["a", "b"])) == got
    assert 1 == len(upstream.connections)


@pytest.mark.behaviour(113)
async def test_chunks_arrive_one_by_one(upstream, transport):
    """The first does not wait for the second."""
    upstream.script("up", sse([b"data: 1\n\n"], end="stall"))

    async with asyncio.timeout(SOON_S), transport.open(call(upstream), connect_s=1) as response:
        assert b"data: 1\n\n" == await anext(response.chunks())


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_byte_by_byte_is_the_same_answer(upstream, transport, framing):
    answer = msgspec.structs.replace(streams("a", "b"), framing=framing)
    upstream.script("up", byte_by_byte(answer))

    assert (200, b"".join(events(["a", "b"]))) == await whole(transport, call(upstream))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(before_head="reset"),
        Answer(raw=b""),
        Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-le"),
        sse([b"data: 1\n\n"], end="reset"),
        sse([b"data: 1\n\n"], end="eof"),
        Answer(pieces=(b'{"a":',), end="eof"),
    ],
    ids=["reset", "closed", "half-head", "reset-mid", "chunked-cut", "length-short"],
)
async def test_a_broken_connection_is_a_connection_failure(upstream, transport, answer):
    upstream.script("up", answer)

    with pytest.raises(UpstreamError) as caught:
        await whole(transport, call(upstream))

    assert FailureKind.CONNECTION is caught.value.kind
    assert caught.value.sent


async def test_nobody_listening_is_a_connection_failure_that_cost_nothing(transport):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        request = HttpRequest(
            url=f"http://127.0.0.1:{bound.getsockname()[1]}/", headers={}, body=b""
        )
        with pytest.raises(UpstreamError) as caught:
            await whole(transport, request)

    assert (FailureKind.CONNECTION, False) == (caught.value.kind, caught.value.sent)


async def test_a_connect_that_hangs_is_a_timeout(transport):
    """A full backlog never answers; the read itself may take as long as the chain lets it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(0)
        address = bound.getsockname()
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)  # noqa: FBT003
            second.connect_ex(address)
            request = HttpRequest(url=f"http://127.0.0.1:{address[1]}/", headers={}, body=b"")
            with pytest.raises(UpstreamError) as caught:
                async with transport.open(request, connect_s=0.2):
                    pass

    assert (FailureKind.TIMEOUT, False) == (caught.value.kind, caught.value.sent)


async def talks_plain_text(reader, writer):
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("fault", ["plain text", "self-signed"])
async def test_unsafe_tls_is_refused_and_told_without_secrets(transport, tmp_path, fault):
    context = None if fault == "plain text" else serving(self_signed(tmp_path))
    server = await asyncio.start_server(talks_plain_text, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        request = HttpRequest(
            url=f"https://127.0.0.1:{port}/", headers={"authorization": "secret"}, body=b""
        )
        with pytest.raises(UpstreamError) as caught:
            await whole(transport, request)

    assert (FailureKind.CONNECTION, False) == (caught.value.kind, caught.value.sent)
    assert "No safe TLS connection to 127.0.0.1." == caught.value.message


async def test_a_header_that_is_no_header_leaks_nothing(upstream, transport):
    with pytest.raises(UpstreamError) as caught:
        await whole(transport, call(upstream, authorization="Bearer se\ncret"))

    assert "cret" not in caught.value.message


async def test_garbage_instead_of_http_is_malformed(upstream, transport):
    upstream.script("up", Answer(raw=b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))

    with pytest.raises(UpstreamError) as caught:
        await whole(transport, call(upstream))

    assert FailureKind.MALFORMED is caught.value.kind


async def test_an_endless_header_is_malformed(upstream, transport):
    upstream.script("up", Answer(headers={"x-long": "a" * 100_000}))

    with pytest.raises(UpstreamError) as caught:
        await whole(transport, call(upstream))

    assert FailureKind.MALFORMED is caught.value.kind


async def test_redirects_are_not_followed(upstream, transport):
    """They would carry the key elsewhere."""
    upstream.script("up", Answer(status=307, headers={"location": upstream.base_url("other")}))

    assert (307, b"") == await whole(transport, call(upstream))
    assert [] == upstream.asked("other")


async def test_cookies_are_not_kept(upstream, transport):
    upstream.script("up", Answer(headers={**JSON, "set-cookie": "a=b"}, pieces=(b"{}",)))
    await whole(transport, call(upstream))
    await whole(transport, call(upstream))

    assert "cookie" not in upstream.requests[1].headers


async def test_nothing_is_unpacked(upstream, transport):
    packed = b"\x1f\x8b\x08\x00"
    upstream.script("up", Answer(headers={"content-encoding": "gzip"}, pieces=(packed,)))

    assert (200, packed) == await whole(transport, call(upstream))


async def test_interim_answers_are_skipped(upstream, transport):
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" * 50
    final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    upstream.script("up", Answer(raw=interim + final))

    assert (200, b"{}") == await whole(transport, call(upstream))


async def test_a_giant_body_is_cut_off_and_its_connection_closed(upstream, transport):
    upstream.script("up", Answer(pieces=(b"x" * 70_000,) * 40, framing="chunked"))

    with pytest.raises(UpstreamError) as caught:
        await whole(transport, call(upstream))

    assert FailureKind.MALFORMED is caught.value.kind
    async with asyncio.timeout(SOON_S):
        await upstream.connections[0].closed.wait()


@pytest.mark.parametrize(
    "answer",
    [Answer(before_head="silence"), sse([b"data: 1\n\n"], end="stall")],
    ids=["before the head", "in the stream"],
)
async def test_leaving_early_closes_the_connection_at_once(upstream, transport, answer):
    """An abandoned stream is billed to its end."""
    upstream.script("up", answer)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await whole(transport, call(upstream))

    async with asyncio.timeout(1.0):
        await upstream.connections[0].closed.wait()
    assert (200, says("ok").pieces[0]) == await whole(transport, call(upstream))


async def test_the_pool_survives_churn(upstream, transport):
    """After 500 calls cancelled at random moments 20 of 20 work, and none is left open."""
    slow = sse([*events([str(n) for n in range(5)]), DONE], gap_s=0.004)
    upstream.always("slow", slow)
    draw = random.Random(7)

    async def cancelled_somewhere():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(draw.uniform(0.0, 0.02)):
                await whole(transport, call(upstream, "slow"))

    for _ in range(25):
        await asyncio.gather(*(cancelled_somewhere() for _ in range(20)))
    answers = await asyncio.gather(*(whole(transport, call(upstream)) for _ in range(20)))

    assert [200] * 20 == [code for code, _ in answers]
    async with asyncio.timeout(SOON_S):
        for connection in upstream.connections:
            if connection.number not in {r.connection for r in upstream.asked("up")}:
                await connection.closed.wait()
