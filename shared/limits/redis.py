"""One connection to Redis for one script. Every answer comes in time, or counts as none.

redis-py makes the connection: URLs, TLS, AUTH, the database. The one command that every call
pays for then bypasses it: on the bare transport it costs a third less.
"""

import asyncio
from functools import lru_cache
from hashlib import sha1
from pathlib import Path
from typing import cast

import hiredis
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from typing_extensions import override

SCRIPT = Path(__file__).with_name("script.lua").read_text(encoding="utf-8")
SCRIPT_NAME = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

CONNECT_S = 0.5
GRACE_S = 0.02
"""After a time-out the loop may first read what came in while it was busy elsewhere."""


def packed(word: str | bytes) -> bytes:
    """Return a word of a command as it is sent, in front of its length."""
    told = word.encode() if isinstance(word, str) else word
    return b"$%d\r\n%b\r\n" % (len(told), told)


def packed_call(script: bytes, key_count: int, keys: bytes, argument: bytes) -> bytes:
    """Return the command that runs a script: the packed words it begins with, then these.

    `keys` are packed too. Of all this only the argument is another one each time.
    """
    return b"*%d\r\n%b%b%b$%d\r\n%b\r\n" % (
        *(key_count + 4, script, _packed_count(key_count), keys),
        *(len(argument), argument),
    )


@lru_cache(maxsize=64)
def _packed_count(count: int) -> bytes:
    return packed(b"%d" % count)


BY_NAME = packed("EVALSHA") + packed(SCRIPT_NAME)
IN_FULL = packed("EVAL") + packed(SCRIPT)


class RedisAway(Exception):
    """No usable answer: gone, slow, read-only, full, loading."""


class RedisLink:
    """A connection that is made again after every failure. One task uses it at a time.

    Takes `redis://`, `rediss://` and `unix://` URLs as redis-py does, with its options.
    """

    def __init__(self, url: str) -> None:
        self._pool = ConnectionPool.from_url(
            url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=None
        )
        self._connection: Connection | None = None
        self._wire: _Wire | None = None

    async def connect(self, key: str) -> tuple[float, bytes | None]:
        """Return Redis' clock, in seconds since 1970, and a key's value over a new connection.

        Raises:
            RedisAway: not within half a second.
        """
        await self.aclose()
        self._connection = cast(Connection, self._pool.make_connection())  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connection.connect()  # type: ignore[no-untyped-call]
                await self._connection.send_command("TIME")
                answer = await self._connection.read_response(disable_decoding=True)
                await self._connection.send_command("GET", key)
                stored = await self._connection.read_response(disable_decoding=True)
            self._wire = _Wire(_transport_of(self._connection))
            seconds, microseconds = answer
        except asyncio.CancelledError:
            await self.aclose()
            raise
        except Exception as error:  # redis-py's, the network's, TLS's
            await self.aclose()
            raise RedisAway(_shown(error)) from error
        return int(seconds) + int(microseconds) / 1_000_000, stored

    async def run(
        self, key_count: int, keys: bytes, argument: bytes, *, patience_s: float
    ) -> bytes:
        """Run the script and return what it answers. `keys` are packed.

        Raises:
            RedisAway: an error, or no answer in time. The script may have run all the same.
        """
        wire = self._wire
        if wire is None:
            raise RedisAway("not connected")
        try:
            command = packed_call(BY_NAME, key_count, keys, argument)
            answer = await wire.ask(command, patience_s)
            # Forgotten by a restart or SCRIPT FLUSH, or never known.
            if isinstance(answer, hiredis.ReplyError) and str(answer).startswith("NOSCRIPT"):
                command = packed_call(IN_FULL, key_count, keys, argument)
                answer = await wire.ask(command, patience_s)
            if not isinstance(answer, bytes):
                raise RedisAway(str(answer))
        except asyncio.CancelledError:
            await self.aclose()
            raise
        except Exception as error:
            await self.aclose()
            raise RedisAway(_shown(error)) from error
        return answer

    async def aclose(self) -> None:
        """Drop the connection; what was on its way is lost."""
        connection, self._connection = self._connection, None
        self._wire = None
        if connection is not None and connection.is_connected:
            _transport_of(connection).abort()  # close() would wait for a Redis that reads nothing
            await connection.disconnect(nowait=True)


class _Wire(asyncio.Protocol):
    """One command at a time over a transport that is connected already."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._replies = hiredis.Reader()
        self._answer: asyncio.Future[object] | None = None
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at_s = 0.0
        transport.set_protocol(self)

    def ask(self, command: bytes, patience_s: float) -> asyncio.Future[object]:
        """Send a command; the future is what it answers, errors of Redis included."""
        if self._transport.is_closing():
            raise ConnectionError("Redis has closed the connection")
        answer = self._answer = self._loop.create_future()
        due_s = self._due_s = self._loop.time() + patience_s
        if self._timer is None or due_s < self._looks_at_s:
            self._look_in(patience_s)
        self._transport.write(command)
        return answer

    @override
    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        answer = self._replies.gets()
        waiting = self._answer
        if answer is not False and waiting is not None and not waiting.done():
            waiting.set_result(answer)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(self._answer, ConnectionError(str(exc or "Redis has closed the connection")))

    # One timer for many commands: it looks when the first was due, and then when the next is

    def _look_in(self, length_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at_s = self._loop.time() + length_s
        self._timer = self._loop.call_later(length_s, self._look)

    def _look(self) -> None:
        self._timer = None
        answer, left_s = self._answer, self._due_s - self._loop.time()
        if answer is None or answer.done():
            return  # the next command sets a timer again
        if left_s > 0:
            self._look_in(left_s)
        else:
            self._loop.call_later(GRACE_S, self._fail, answer, TimeoutError("no answer in time"))

    def _fail(self, answer: asyncio.Future[object] | None, error: Exception) -> None:
        if answer is not None and not answer.done():
            answer.set_exception(error)


def _transport_of(connection: Connection) -> asyncio.Transport:
    writer = cast(asyncio.StreamWriter, connection._writer)  # noqa: SLF001 (public nowhere)
    return cast(asyncio.Transport, writer.transport)


def _shown(error: Exception) -> str:
    return str(error) if isinstance(error, RedisAway) else f"{type(error).__name__}: {error}"
