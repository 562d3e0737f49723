"""Servers that misbehave on the wire: every client tells it in the same way, and stays whole."""

import asyncio
import socket
import struct
from contextlib import nullcontext
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import HttpRequest, PushedChunks
from tests.fakes.certificates import BEGINS, self_signed, serving
from tests.fakes.raw_server import answers, answers_once, raw_server, read_request, until_gone

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),  # aiohttp's advice
]

LIMIT = 1_000_000
OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"content-length: 2\r\n\r\n{}"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def asks(url, **fields):
    return HttpRequest(url=url, headers={"a": "b"}, **{"body": b'{"model":"m"}', **fields})


async def whole(transport, request):
    async with transport.open(request, connect_s=2) as response:
        return response.status, await response.read(LIMIT)


async def streamed(transport, request):
    async with transport.open(request, connect_s=2) as response:
        return response.status, b"".join([piece async for piece in response.chunks()])


async def failure(transport, request):
    with pytest.raises(UpstreamError) as caught:
        await whole(transport, request)
    return caught.value.kind, caught.value.sent


READABLE = {
    "chunk extensions": CHUNKED + b'2;a=b;c="d"\r\n{}\r\n0;last\r\n\r\n',
    "trailers": CHUNKED + b"2\r\n{}\r\n0\r\nx: y\r\n\r\n",
    "no reason": b"HTTP/1.1 200\r\n" + TWO,
    "LF alone": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n{}",
    "until close": OK + b"connection: close\r\n\r\n{}",
    "interim answers": b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n" * 50 + OK + TWO,
}


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("read", [whole, streamed])
async def test_what_is_odd_but_readable_is_read(transport, server_tls, name, read):
    async with raw_server(answers_once(READABLE[name]), server_tls) as server:
        assert (200, b"{}") == await read(transport, asks(server.url))


@pytest.mark.parametrize("last", [b"0\r\n\r\n", b""])
async def test_what_is_gathered_is_read_before_the_end(
    new_transport, certificate, server_tls, last
):
    """Also where a server with TLS goes without a word."""
    words = [b"%02d" % number for number in range(8)]
    pieces = [b"2\r\n%b\r\n" % word for word in words]

    async def talk(reader, writer):
        await read_request(reader)
        for piece in [CHUNKED, *pieces, last]:
            writer.write(piece)
            await asyncio.sleep(0.005)
        writer.transport.abort()

    taken = []
    async with (
        new_transport(trusted=certificate, gather_s=0.3) as transport,
        raw_server(talk, server_tls) as server,
        transport.open(asks(server.url), connect_s=2) as response,
    ):
        chunks = response.chunks()
        if isinstance(chunks, PushedChunks):
            chunks.pass_to(lambda piece: taken.append(piece) is None)
        with nullcontext() if last else pytest.raises(UpstreamError):
            while piece := await anext(chunks, b""):
                taken.append(piece)

    assert b"".join(words) == b"".join(taken)


MALFORMED = (FailureKind.MALFORMED, True)
CONNECTION = (FailureKind.CONNECTION, True)
EITHER = (MALFORMED, CONNECTION)
"""aiohttp blames the head when head and fault come together."""
UNREADABLE = {
    "garbage": (b"\0\1\2\3" * 100, MALFORMED),
    "a negative length": (OK + b"content-length: -1\r\n\r\n", MALFORMED),
    "a length that overflows": (OK + b"content-length: 99999999999999999999\r\n\r\n", MALFORMED),
    "two lengths": (OK + b"content-length: 3\r\n" + TWO, MALFORMED),
    "too long a header": (OK + b"a: " + b"b" * 100_000 + b"\r\n" + TWO, MALFORMED),
    "half a head": (OK + b"content-le", CONNECTION),
    "half a body": (OK + b"content-length: 9\r\n\r\n{}", CONNECTION),
    "half a chunk": (CHUNKED + b"7fffffffffff\r\n{", CONNECTION),
    "no last chunk": (CHUNKED + b"2\r\n{}\r\n", CONNECTION),
    "a chunk size that overflows": (CHUNKED + b"fffffffffffffffff\r\n{", EITHER),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_is_unreadable_is_told_as_what_it_is(transport, server_tls, name):
    sent, expected = UNREADABLE[name]
    async with raw_server(answers_once(sent), server_tls) as server:
        found = await failure(transport, asks(server.url))
        assert found in expected if expected is EITHER else found == expected
        await server.all_closed()


HELLO = OK + b"a: b\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1;x\r\n!\r\n0\r\n\r\n"


@given(cuts=st.sets(st.integers(1, len(HELLO) - 1), max_size=8))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
async def test_a_cut_in_the_wire_changes_nothing(transport, server_tls, cuts):
    """However heads, chunks and pieces fall into packets."""
    pieces = [HELLO[a:b] for a, b in pairwise([0, *sorted(cuts), len(HELLO)])]
    async with raw_server(answers(*pieces, gap_s=0.001), server_tls) as server:
        assert (200, b"hello!") == await streamed(transport, asks(server.url))


async def test_every_byte_in_a_packet_of_its_own(transport, server_tls):
    pieces = [bytes([byte]) for byte in HELLO]
    async with raw_server(answers(*pieces, gap_s=0.001), server_tls) as server:
        assert (200, b"hello!") == await whole(transport, asks(server.url))
        assert (200, b"hello!") == await streamed(transport, asks(server.url))
        assert 1 == server.connections


async def test_an_answer_before_the_request_is_out_is_read(transport, server_tls):
    """A server may refuse a large body by its head; the rest of it is nobody's."""

    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\n" + TWO)
        await until_gone(reader)

    async with raw_server(talk, server_tls) as server:
        request = asks(server.url, body=b"x" * 10_000_000)
        assert (413, b"{}") == await whole(transport, request)


@pytest.mark.behaviour(44)
async def test_a_large_request_arrives_whole(transport, server_tls):
    bodies = []

    async def talk(reader, writer):
        bodies.append(await read_request(reader))
        writer.write(OK + TWO)

    body = bytes(range(256)) * 20_000
    async with raw_server(talk, server_tls) as server:
        assert (200, b"{}") == await whole(transport, asks(server.url, body=body))
    assert bodies[0].endswith(b"\r\n\r\n" + body)


async def test_a_connection_closed_while_idle_is_not_used(transport, server_tls):
    """Its end is noticed at once, so the next call gets another and never fails."""
    async with raw_server(answers_once(OK + TWO), server_tls) as server:
        for _ in range(20):
            assert (200, b"{}") == await whole(transport, asks(server.url))
            await server.all_closed()
            await asyncio.sleep(0.01)

        assert 20 == server.connections


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_only_what_is_harmless_is_sent_twice(transport, server_tls, method):
    """A POST on a connection that ends without a byte may have been billed: the chain decides."""

    async def talk(reader, writer):
        await read_request(reader)
        writer.write(OK + TWO)
        await read_request(reader)

    async with raw_server(talk, server_tls) as server:
        request = asks(server.url, method=method, body=b"" if method == "GET" else b"{}")
        assert (200, b"{}") == await whole(transport, request)
        if method == "GET":
            assert (200, b"{}") == await whole(transport, request)
        else:
            assert CONNECTION == await failure(transport, request)
        assert (2 if method == "GET" else 1) == server.connections


async def test_bytes_that_nobody_asked_for_never_answer_the_next_call(transport, server_tls):
    """They would be another tenant's."""
    foreign = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforgot"
    async with raw_server(answers(OK + TWO + foreign), server_tls) as server:
        for _ in range(5):
            assert (200, b"{}") == await whole(transport, asks(server.url))


async def test_a_head_that_drips_is_cancelled_in_time(transport, server_tls):
    """The transport waits for ever; whose time is over closes the connection at once."""
    drip = [b"HTTP/1.1 200 OK\r\n", *[b"a: b\r\n"] * 1000]
    async with raw_server(answers(*drip, gap_s=0.02), server_tls) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await whole(transport, asks(server.url))
        await server.all_closed()


async def test_leaving_while_connecting_closes_the_connection_at_once(transport, server_tls):
    async def never_shakes_hands(reader, writer):
        await until_gone(reader)

    async with raw_server(never_shakes_hands) as server:
        url = server.url.replace("http:", "https:" if server_tls else "http:")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await whole(transport, asks(url))
        await server.all_closed()


async def test_tls_that_hangs_is_a_connect_that_hangs(transport, server_tls):
    async def never_shakes_hands(reader, writer):
        await until_gone(reader)

    async with raw_server(never_shakes_hands) as server:
        request = asks(server.url.replace("http:", "https:"))
        with pytest.raises(UpstreamError) as caught:
            async with transport.open(request, connect_s=0.1):
                pass
        await server.all_closed()

    assert (FailureKind.TIMEOUT, False) == (caught.value.kind, caught.value.sent)


@pytest.mark.parametrize(
    "flaw", [{"ends": BEGINS.replace(day=2)}, {"host": "elsewhere.example"}], ids=["old", "name"]
)
async def test_a_certificate_must_be_right_in_every_way(new_transport, tmp_path, flaw):
    """Trusted, but expired or for another name."""
    path = self_signed(tmp_path, **flaw)
    async with (
        new_transport(trusted=path) as transport,
        raw_server(answers_once(OK + TWO), serving(path)) as server,
    ):
        with pytest.raises(UpstreamError) as caught:
            await whole(transport, asks(server.url))

    assert (FailureKind.CONNECTION, False) == (caught.value.kind, caught.value.sent)
    assert "No safe TLS connection to 127.0.0.1." == caught.value.message


async def test_a_name_that_is_none_cost_nothing(transport):
    request = asks("http://no-such-host.invalid/v1")
    with pytest.raises(UpstreamError) as caught:
        await whole(transport, request)

    assert (FailureKind.CONNECTION, False) == (caught.value.kind, caught.value.sent)
    assert "The name no-such-host.invalid could not be resolved." == caught.value.message


async def test_a_name_with_several_addresses_is_tried_through(transport, wire, server_tls):
    """`localhost` may be ::1 first, where nobody listens."""
    async with raw_server(answers_once(OK + TWO), server_tls) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        assert (200, b"{}") == await whole(transport, asks(url))


async def test_a_reset_in_the_handshake_cost_nothing(transport):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)  # noqa: FBT003

        async def slam():
            accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()

        slamming = asyncio.create_task(slam())
        request = asks(f"https://127.0.0.1:{listening.getsockname()[1]}/")
        assert (FailureKind.CONNECTION, False) == await failure(transport, request)
        await slamming
