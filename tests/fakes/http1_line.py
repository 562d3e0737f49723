"""A connection of the HTTP/1.1 client whose other side is the test."""

import asyncio

from shared.providers.exchange import HttpRequest
from shared.providers.http1_answer import Answer
from shared.providers.http1_connection import PlainConnection
from shared.providers.http1_gather import Gathering
from shared.providers.http1_request import Heads, Origin
from tests.fakes.pipe import PipeTransport

ORIGIN = Origin("http", "gpu", 80)
POST = HttpRequest(url="http://gpu/v1", headers={"a": "b"}, body=b"{}")


class Home:
    """Where its connections live."""

    def __init__(self, loop, gathering):
        self.loop = loop
        self.read_buffer = memoryview(bytearray(1024))
        self.gathering = gathering or Gathering(loop, 0.0)
        self.free = []
        self.open = set()

    def made(self, connection):
        self.open.add(connection)

    def freed(self, connection):
        self.free.append(connection)

    def lost(self, connection):
        self.open.discard(connection)


class Line:
    """A connection whose other side is the test."""

    def __init__(self, request=POST, *, gathering=None):
        self.loop = asyncio.new_event_loop()
        self.home = Home(self.loop, gathering)
        self.wire = PipeTransport()
        self.answer = Answer(self.loop)
        self.connection = PlainConnection(self.home, ORIGIN, self.answer)
        self.connection.connection_made(self.wire)
        self.send(request)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.close()

    def send(self, request=POST):
        self.connection.send(Heads().of(request), request.body)
        self.turn()

    def turn(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def again(self):
        self.answer = Answer(self.loop)
        self.connection.call(self.answer)
        self.send()

    def hear(self, *pieces):
        for piece in pieces:
            if self.wire.ended is None:
                self.connection.data_received(piece)

    def end(self, error=None):
        self.wire.ended = self.wire.ended or "lost"
        self.connection.connection_lost(error)
