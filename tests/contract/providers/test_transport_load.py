"""Many calls, cancelled calls, lazy readers: bounded, and the pool is whole afterwards."""

import asyncio
import random
import socket
import threading

import pytest

from shared.clock import SystemClock
from shared.errors import UpstreamError
from shared.providers.exchange import HttpRequest
from shared.providers.http1_transport import Http1Transport
from tests.contract.providers.conftest import WIRES
from tests.fakes.raw_server import answers, raw_server, read_request

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
TWO = OK + b"content-length: 2\r\n\r\n{}"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
own = pytest.mark.parametrize(
    "wire", [w for w in WIRES if w.client == "own"], indirect=True, ids=str
)


def asks(url, body=b"{}"):
    return HttpRequest(url=url, headers={"a": "b"}, body=body)


async def whole(transport, request):
    async with transport.open(request, connect_s=30) as response:
        return await response.read(1_000_000)


async def echoes(reader, writer):
    """Each body back, after a moment."""
    while True:
        body = (await read_request(reader)).partition(b"\r\n\r\n")[2]
        await asyncio.sleep(0.01)
        writer.write(OK + b"content-length: %d\r\n\r\n%b" % (len(body), body))


@pytest.mark.behaviour(147)
async def test_500_calls_at_once_each_get_their_own_answer(transport, server_tls):
    async with raw_server(echoes, server_tls) as server:
        for _ in range(2):
            bodies = [b"call %d" % number for number in range(500)]
            calls = (whole(transport, asks(server.url, body)) for body in bodies)

            assert bodies == await asyncio.gather(*calls)
        assert server.connections <= 600


async def test_a_storm_of_cancels_mixes_nothing_up(transport, server_tls):
    """All that was cut is closed within a second; the calls between get their own answers."""
    draw = random.Random(3)

    async with raw_server(echoes, server_tls) as server:

        async def call(number, limit_s):
            body = b"call %d" % number
            try:
                async with asyncio.timeout(limit_s):
                    return body == await whole(transport, asks(server.url, body))
            except TimeoutError:
                return True

        for storm in range(5):
            limits = [draw.uniform(0.0, 0.04) for _ in range(60)]
            found = await asyncio.gather(*(call(n + 60 * storm, s) for n, s in enumerate(limits)))
            assert all(found)
        assert [True] * 20 == await asyncio.gather(*(call(n, 5.0) for n in range(20)))
        await transport.aclose()
        await server.all_closed()


@pytest.mark.behaviour(146)
async def test_nobody_reads_and_the_server_has_to_wait(transport, server_tls):
    """Of 200 MB only what fits into buffers is on its way; the rest comes when it is wanted."""
    sent_bytes = 0
    piece = b"x" * 100_000

    async def pours(reader, writer):
        nonlocal sent_bytes
        await read_request(reader)
        writer.write(CHUNKED)
        for _ in range(2_000):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            sent_bytes += len(piece)

    async with raw_server(pours, server_tls) as server:
        async with transport.open(asks(server.url), connect_s=5) as response:
            before = -1
            while before != sent_bytes:
                before = sent_bytes
                await asyncio.sleep(0.1)
            got_bytes = 0
            async for chunk in response.chunks():
                got_bytes += len(chunk)
                if got_bytes > before + 10_000_000:
                    break
            after = sent_bytes
        await server.all_closed()

    assert before < 20_000_000
    assert after < got_bytes + 20_000_000


@own
async def test_closing_the_transport_ends_calls_under_way(transport, server_tls):
    async with raw_server(answers(CHUNKED + b"1\r\nx\r\n"), server_tls) as server:
        async with transport.open(asks(server.url), connect_s=5) as response:
            chunks = response.chunks()
            assert b"x" == await anext(chunks)
            await transport.aclose()
            with pytest.raises(UpstreamError, match=r"broke off|closed"):
                await anext(chunks)
        await server.all_closed()


@own
async def test_idle_connections_are_closed_in_the_end(new_transport, certificate, server_tls):
    async with (
        new_transport(trusted=certificate, keepalive_s=0.1) as transport,
        raw_server(echoes, server_tls) as server,
    ):
        for _ in range(3):
            await asyncio.gather(*(whole(transport, asks(server.url)) for _ in range(5)))
            await server.all_closed()

        assert 15 == server.connections


@own
async def test_the_youngest_idle_connection_is_used_first(new_transport, certificate, server_tls):
    """So that the others grow old and are closed."""
    async with (
        new_transport(trusted=certificate) as transport,
        raw_server(echoes, server_tls) as server,
    ):
        await asyncio.gather(*(whole(transport, asks(server.url)) for _ in range(5)))
        idle = next(iter(transport._pool._idle.values()))
        oldest = idle[:4]
        for _ in range(3):
            await whole(transport, asks(server.url))

        assert (5, oldest) == (server.connections, idle[:4])


class Ahead(SystemClock):
    """A clock that a test can put forward."""

    ahead_s = 0.0

    def monotonic(self):
        return super().monotonic() + self.ahead_s


@pytest.mark.parametrize(
    "wire", [w for w in WIRES if str(w).endswith("plain")][1:], indirect=True, ids=str
)
async def test_a_connection_that_has_gone_is_seen_before_the_loop_says_so(wire):
    """After a pause its socket is looked at: a busy loop may not have heard of the end yet."""
    said_goodbye = threading.Event()

    def serve(listening):
        for _ in range(2):
            accepted, _ = listening.accept()
            accepted.recv(1000)
            accepted.send(TWO)
            if not said_goodbye.is_set():
                go.wait()
            accepted.close()
            said_goodbye.set()

    go = threading.Event()
    clock = Ahead()
    transport = Http1Transport(clock)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=[listening])
        thread.start()
        request = asks(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        assert b"{}" == await whole(transport, request)
        go.set()
        said_goodbye.wait()
        clock.ahead_s = 2.0

        assert b"{}" == await whole(transport, request)
        await transport.aclose()
        thread.join()
