"""A whole answer that is sent at once is, byte for byte, what ASGI's two messages make."""

import pytest

from api.asgi import send_whole
from tests.edge.api.wire import connected, request, served

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("method", "status", "body", "headers"),
    [
        ("GET", 200, b'{"a": 1}', [(b"x-one", b"1"), (b"x-two", b"2")]),
        ("GET", 200, b"", []),
        ("POST", 503, b"no", [(b"connection", b"close")]),
        ("HEAD", 200, b"hidden", []),
        ("GET", 204, b"", []),
    ],
)
async def test_both_ways_say_the_same(edge, method, status, body, headers):
    said = []
    for at_once in (True, False):

        async def app(_scope, _receive, send, *, at_once=at_once):
            async def in_two_messages(message):
                await send(message)

            await send_whole(send if at_once else in_two_messages, status, body, [*headers])

        async with served(edge, app=app) as port, connected(port) as wire:
            wire.send(request(method, "/x", {"connection": "close"}))
            said.append(await wire.closed())

    assert said[0] == said[1]
    assert said[0].startswith(b"HTTP/1.1 %d " % status)


async def test_an_answer_with_a_line_break_in_a_header_is_not_sent(edge):
    async def app(_scope, _receive, send):
        await send_whole(send, 200, b"body", [(b"x-one", b"1\r\nx-two: 2")])

    async with served(edge, app=app) as port, connected(port) as wire:
        wire.send(request("GET", "/x"))

        assert b"" == await wire.closed()
