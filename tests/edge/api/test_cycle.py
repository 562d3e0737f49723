"""A request and its answer on a connection: what is sent at once, and who waits for more."""

import asyncio
import re
from argparse import Namespace

import pytest

from api.asgi import Sender, lines_of, send_end, send_whole
from api.connection import connection_of
from api.cycle import Arrival
from api.server import Server
from shared.clock import SystemClock
from tests.edge.api.wire import connected, request, served

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("method", "status", "body", "headers", "ready"),
    [
        ("GET", 200, b'{"a": 1}', [(b"x-one", b"1"), (b"x-two", b"2")], []),
        ("GET", 200, b"{}", [(b"x-one", b"1")], [(b"x-two", b"a: b"), (b"x-three", b"")]),
        ("GET", 200, b"", [], []),
        ("POST", 503, b"no", [(b"connection", b"close")], []),
        ("HEAD", 200, b"hidden", [], [(b"x-two", b"2")]),
        ("GET", 204, b"", [], []),
    ],
)
async def test_both_ways_say_the_same(edge, method, status, body, headers, ready):
    """An answer sent at once is, byte for byte, what ASGI's two messages make."""
    said = []
    for at_once in (True, False):

        async def app(_scope, _receive, send, *, at_once=at_once):
            async def in_two_messages(message):
                await send(message)

            to = send if at_once else in_two_messages
            await send_whole(to, status, body, [*headers], lines=lines_of(ready))

        async with served(edge, app=app) as port, connected(port) as wire:
            wire.send(request(method, "/x", {"connection": "close"}))
            said.append(await wire.closed())

    assert said[0] == said[1]
    assert said[0].startswith(b"HTTP/1.1 %d " % status)
    assert all(b"\r\n%b: %b\r\n" % header in said[0] for header in ready)


def test_a_line_has_no_other_in_it():
    with pytest.raises(RuntimeError, match="line break"):
        lines_of([(b"x-one", b"1"), (b"x-two", b"2\nx-three: 3")])


async def test_an_answer_that_says_close_is_the_last(edge):
    """Whatever else it says: so a server that stops is told of by its default headers."""

    async def app(_scope, _receive, send):
        await send_whole(
            send, 200, b"body", [(b"connection", b"Close"), (b"connection", b"keep-alive")]
        )

    async with served(edge, app=app) as port, connected(port) as wire:
        wire.send(request("GET", "/x"))

        assert (await wire.closed()).endswith(b"\r\n\r\nbody")


async def test_an_answer_with_a_line_break_in_a_header_is_not_sent(edge):
    async def app(_scope, _receive, send):
        await send_whole(send, 200, b"body", [(b"x-one", b"1\r\nx-two: 2")])

    async with served(edge, app=app) as port, connected(port) as wire:
        wire.send(request("GET", "/x"))

        assert b"" == await wire.closed()


async def test_a_server_that_stops_serves_what_was_asked_before(edge):
    """Of three requests sent in a row, which the stop finds read, the last answer says close."""

    async def app(scope, _receive, send):
        if scope["path"] == "/1":
            connection = send.__self__._owner
            stopping = Namespace(
                server_state=connection.server_state, _connections=lambda: [connection]
            )
            Server._ask_to_leave(stopping)
        await send_whole(send, 200, scope["path"].encode(), [])

    async with served(edge, app=app) as port, connected(port) as wire:
        wire.send(b"".join(request("GET", f"/{number}") for number in (1, 2, 3)))
        said = await wire.closed()

    assert [b"/1", b"/2", b"/3"] == re.findall(rb"\r\n\r\n(/\d)", said)
    assert 1 == said.count(b"connection: close")
    assert said.index(b"connection: close") > said.index(b"/2")


async def test_an_end_that_cannot_be_sent_at_once_is_sent_in_the_usual_way(edge):
    """While the caller reads too slowly, or something else is being sent."""
    ended = []

    async def app(scope, _receive, send):
        cycle = connection_of(scope)
        sender = Sender(send)
        await sender({"type": "http.response.start", "status": 200, "headers": []})
        ended.append(cycle.end())  # nobody has been let
        take = sender.taker()
        assert take(b"one")
        cycle.let_take(may=False)
        ended.append(cycle.end())
        cycle.let_take(may=True)
        cycle.flow.pause_writing()
        ended.append(cycle.end())
        assert not take(b"two")
        cycle.flow.resume_writing()
        await send_end(send, SystemClock())
        cycle.let_take(may=True)
        ended.append(cycle.end())
        assert not take(b"three")

    async with served(edge, app=app) as port, connected(port) as wire:
        wire.send(request("GET", "/x", {"connection": "close"}))
        said = await wire.closed()

    assert said.endswith(b"\r\n\r\n3\r\none\r\n0\r\n\r\n")
    assert [False] * 4 == ended


async def test_who_waits_for_an_arrival_goes_on_with_it():
    """All of them, also when one has been cancelled; who comes later does not wait."""
    arrival = Arrival()
    waiting = [asyncio.create_task(arrival.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting[1:])

    arrival.set()

    assert [True, True] == await asyncio.gather(*waiting[1:])
    assert waiting[0].cancelled()
    assert await arrival.wait()
