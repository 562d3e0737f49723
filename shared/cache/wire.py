"""Commands to Redis over one connection, many at a time; the answers come in order.

redis-py makes the connection: URLs, TLS, AUTH, the database. A caller who leaves only leaves its
answer behind: it is read and thrown away, so that nobody gets another's.
"""

import asyncio
from collections import deque
from typing import cast

import hiredis
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from typing_extensions import override

from shared.cache.entry import CacheAway

Command = tuple[str | bytes | int, ...]
Answer = object
"""What Redis says: bytes, a number, a list, None, or an exception as a value."""

MOST_UNSENT_BYTES = 16 * 1024 * 1024
"""Redis reads too slowly when so much waits to be sent."""


class Dialler:
    """Makes connections to one Redis: `redis://`, `rediss://` and `unix://` URLs."""

    def __init__(self, url: str) -> None:
        self._pool = ConnectionPool.from_url(
            url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=None
        )

    async def dial(self) -> "Wire":
        """Return a new connection; the caller bounds the time.

        Raises:
            CacheAway: there is none to be had.
        """
        connection = cast(Connection, self._pool.make_connection())  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, Exception):  # redis-py's, the network's, TLS's
                raise CacheAway(f"{type(error).__name__}: {error}") from error
            raise
        return Wire(connection)


class Wire(asyncio.Protocol):
    """A connection that works until it is lost; then every answer is a CacheAway."""

    def __init__(self, connection: Connection) -> None:
        writer = cast(asyncio.StreamWriter, connection._writer)  # noqa: SLF001 (public nowhere)
        self._loop = asyncio.get_running_loop()
        self._connection = connection  # holds the transport
        self._transport = cast(asyncio.Transport, writer.transport)
        self._replies = hiredis.Reader()
        self._asked: deque[asyncio.Future[Answer]] = deque()
        self.lost: asyncio.Future[CacheAway] = self._loop.create_future()
        """What ended it, once it has ended."""
        self._transport.set_protocol(self)

    @property
    def is_full(self) -> bool:
        """Whether Redis does not keep up with what it is sent."""
        return self._transport.get_write_buffer_size() > MOST_UNSENT_BYTES

    def ask(self, *commands: Command) -> "list[asyncio.Future[Answer]]":
        """Send commands; return their answers to come. An error is an answer, never raised."""
        answers: list[asyncio.Future[Answer]] = [self._loop.create_future() for _ in commands]
        if self.lost.done():
            for answer in answers:
                answer.set_result(self.lost.result())
            return answers
        self._asked.extend(answers)
        packed = b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]  # any length
        self._transport.write(packed)
        return answers

    def drop(self, why: str) -> None:
        """End it at once; what was on its way is lost. Its owner closes it all the same."""
        self._end(CacheAway(why))

    async def aclose(self) -> None:
        """End it, and let go of it."""
        self.drop("closed")
        await self._connection.disconnect(nowait=True)

    @override
    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        while self._asked:
            reply = self._replies.gets()
            if reply is False:  # the rest has not come yet
                return
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_result(reply)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end(CacheAway(str(exc or "Redis has closed the connection")))

    def _end(self, why: CacheAway) -> None:
        if self.lost.done():
            return
        self.lost.set_result(why)
        self._transport.abort()  # close() would wait for a Redis that reads nothing
        asked, self._asked = self._asked, deque()
        for answer in asked:
            if not answer.done():
                answer.set_result(why)
