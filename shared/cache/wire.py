"""Commands to Redis over one connection, many at a time; the answers come in order.

What a turn of the event loop asks and tells leaves at its end, in one piece: each send takes the
kernel's time of a whole lookup.

redis-py makes the connection: URLs, TLS, AUTH, the database. A caller who leaves only leaves its
answer behind: it is read and thrown away, so that nobody gets another's.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

import hiredis
import msgspec
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from typing_extensions import override

from shared.cache.entry import CacheAway
from shared.corked import MOST_HELD_BYTES

Answer = object
"""What Redis says: bytes, a number, a list, None, or an exception as a value."""

GRACE_S = 0.05
"""Beside the time for an answer: a busy loop may have asked at its end."""

MOST_UNSENT_BYTES = 16 * 1024 * 1024
"""Redis reads too slowly when so much waits to be sent."""


class Dialler:
    """Makes connections to one Redis: `redis://`, `rediss://` and `unix://` URLs.

    `refused` is theirs; see `Wire`.
    """

    def __init__(self, url: str, refused: Callable[[], None]) -> None:
        self._refused = refused
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
        return Wire(connection, self._refused)


def packed(*command: str | bytes | int) -> bytes:
    """Return a command as it is sent."""
    sent: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # any length
    return sent


class _Asked(msgspec.Struct, eq=False):
    """What was asked in one go, and what Redis has said so far."""

    number: int
    told: "asyncio.Future[list[Answer]]"
    due_s: float | None
    """On the loop's clock; None where it may take as long as it takes."""
    answers: list[Answer] = []


class Wire(asyncio.Protocol):
    """A connection that works until it is lost; then every answer is a CacheAway.

    `refused` is called for what was only told and is answered with an error.
    """

    def __init__(self, connection: Connection, refused: Callable[[], None]) -> None:
        writer = cast(asyncio.StreamWriter, connection._writer)  # noqa: SLF001 (public nowhere)
        self._loop = asyncio.get_running_loop()
        self._connection = connection  # holds the transport
        self._transport = cast(asyncio.Transport, writer.transport)
        self._replies = hiredis.Reader()
        self._asked: deque[_Asked | None] = deque()  # None for what was only told
        self._unsent: list[bytes] = []
        self._refused = refused
        self._timer: asyncio.TimerHandle | None = None
        self.lost: asyncio.Future[CacheAway] = self._loop.create_future()
        """What ended it, once it has ended."""
        self._transport.set_protocol(self)

    @property
    def is_full(self) -> bool:
        """Whether Redis does not keep up with what it is sent."""
        return self._transport.get_write_buffer_size() > MOST_UNSENT_BYTES

    def ask(
        self, commands: bytes, number: int = 1, *, patience_s: float | None = None
    ) -> "asyncio.Future[list[Answer]]":
        """Send so many packed commands; return their answers to come.

        An error is an answer, never raised. What is not answered in time ends the connection.
        """
        told: asyncio.Future[list[Answer]] = self._loop.create_future()
        if self.lost.done():
            told.set_result([self.lost.result()] * number)
            return told
        due_s = None
        if patience_s is not None:
            due_s = self._loop.time() + patience_s
            if self._timer is None:
                self._timer = self._loop.call_later(patience_s, self._look)
        self._asked.append(_Asked(number, told, due_s))
        self._send(commands)
        return told

    def tell(self, command: bytes) -> None:
        """Send a packed command whose answer matters only when it is an error."""
        if not self.lost.done():
            self._asked.append(None)
            self._send(command)

    def drop(self, why: str) -> None:
        """End it at once; what was on its way is lost. Its owner closes it all the same."""
        self._end(CacheAway(why))

    async def aclose(self) -> None:
        """End it, and let go of it."""
        self._flush()  # what this turn has told it is still to be kept
        self.drop("closed")
        await self._connection.disconnect(nowait=True)

    def _send(self, commands: bytes) -> None:
        """Send at the end of the loop's turn; a large piece at once, after what waits already."""
        self._unsent.append(commands)
        if len(commands) > MOST_HELD_BYTES:
            self._flush()
        elif len(self._unsent) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            self._transport.write(b"".join(unsent))

    # One timer for many questions: it looks when the oldest is due, and then when the next is

    def _look(self) -> None:
        self._timer = None
        oldest = next((one for one in self._asked if one is not None and one.due_s), None)
        if oldest is None or oldest.due_s is None:
            return  # the next question sets a timer again
        left_s = oldest.due_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            self._timer = self._loop.call_later(GRACE_S, self._look_again, oldest)

    def _look_again(self, late: _Asked) -> None:
        # The loop reads between two turns; what a busy one has not read yet may be there.
        self._loop.call_soon(self._loop.call_soon, self._give_up_on, late)

    def _give_up_on(self, late: _Asked) -> None:
        if late in self._asked:
            self.drop("no answer in time")
        else:
            self._look()

    @override
    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        asked, next_reply = self._asked, self._replies.gets
        while asked:
            reply = next_reply()
            if reply is False:  # the rest has not come yet
                return
            one = asked[0]
            if one is None:
                asked.popleft()
                if isinstance(reply, Exception):
                    self._refused()
                continue
            answers = one.answers
            answers.append(reply)
            if len(answers) == one.number:
                asked.popleft()
                if not one.told.done():
                    one.told.set_result(answers)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end(CacheAway(str(exc or "Redis has closed the connection")))

    def _end(self, why: CacheAway) -> None:
        if self.lost.done():
            return
        self.lost.set_result(why)
        if self._timer is not None:
            self._timer.cancel()
        self._unsent.clear()
        self._transport.abort()  # close() would wait for a Redis that reads nothing
        asked, self._asked = self._asked, deque()
        for one in asked:
            if one is not None and not one.told.done():
                left = one.number - len(one.answers)
                one.told.set_result([*one.answers, *[why] * left])
