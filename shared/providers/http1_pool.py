"""Connections by origin: the youngest idle one first, any number of them, idle for 30 s at most."""

import asyncio
import socket
import ssl
from functools import cached_property

from shared.clock import Clock
from shared.providers.http1_answer import Answer
from shared.providers.http1_connection import Connection, PlainConnection, TlsConnection
from shared.providers.http1_dial import Names, dial
from shared.providers.http1_failures import (
    connect_took_too_long,
    unreachable,
    unresolved,
    unsafe_tls,
)
from shared.providers.http1_gather import Gathering
from shared.providers.http1_request import Origin

QUIET_S = 1.0
"""After this long without use a connection's socket is looked at before it is used again."""
_READ_BYTES = 64 * 1024


class Pool:
    """All connections of one event loop."""

    def __init__(
        self,
        clock: Clock,
        *,
        keepalive_s: float,
        gather_s: float = 0.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.gathering = Gathering(self.loop, gather_s)
        self.read_buffer = memoryview(bytearray(_READ_BYTES))
        self._clock = clock
        self._keepalive_s = keepalive_s
        self._given_context = ssl_context
        self._names = Names(clock)
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._emptied: asyncio.Future[None] | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self, origin: Origin) -> Connection | None:
        """Return a connection that waits for a call, if there is one."""
        idle = self._idle.get(origin)
        if not idle:
            return None
        now_s = self._clock.monotonic()
        while idle:
            connection = idle.pop()
            idle_s = now_s - connection.idle_since_s
            if (
                connection.is_fit()
                and idle_s < self._keepalive_s
                and (idle_s < QUIET_S or connection.is_quiet())
            ):
                return connection
            connection.abandon()
        return None

    async def connect(self, origin: Origin, answer: Answer, *, connect_s: float) -> Connection:
        """Return a new connection with its first call begun.

        Raises:
            UpstreamError: TIMEOUT when DNS, TCP and TLS together take longer, else CONNECTION.
        """
        host = origin.host
        try:
            async with self._clock.timeout(connect_s):
                connection = await self._connect(origin, answer)
        except TimeoutError as error:
            raise connect_took_too_long(host) from error
        except ssl.SSLError as error:
            raise unsafe_tls(host) from error
        except socket.gaierror as error:
            raise unresolved(host) from error
        except OSError as error:
            self._names.forget(host, origin.port)
            raise unreachable(host) from error
        return connection

    async def _connect(self, origin: Origin, answer: Answer) -> Connection:
        sock = await dial(await self._names.addresses(origin.host, origin.port))
        if self._closed:
            sock.close()
            raise OSError("the pool is closed")
        encrypted = origin.scheme == "https"
        kind = TlsConnection if encrypted else PlainConnection
        connection = kind(self, origin, answer)
        try:
            await self.loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=self._ssl_context if encrypted else None,
                server_hostname=origin.host.rstrip(".") if encrypted else None,
            )
        except BaseException:
            connection.abandon()
            # uvloop does not tell of the end of a connection that was cancelled just as it began.
            self.lost(connection)
            raise
        finally:
            if not isinstance(self.loop, asyncio.BaseEventLoop):
                # libuv owns the descriptor and closes it. uvloop forgets to say so to a socket
                # whose connection ends early; it would close a stranger's of the same number.
                sock.detach()
        return connection

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        """Verify as the system does; made when first needed, for it reads all of its roots."""
        if self._given_context is not None:
            return self._given_context
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def made(self, connection: Connection) -> None:
        """Take a connection in."""
        self._open.add(connection)
        if self._closed:
            connection.cut()

    def freed(self, connection: Connection) -> None:
        """Take a connection back that is fit for another call."""
        if self._closed:
            connection.abandon()
            return
        connection.idle_since_s = self._clock.monotonic()
        self._idle.setdefault(connection.origin, []).append(connection)
        if self._sweeping is None:
            self._sweeping = self.loop.call_later(self._keepalive_s, self._sweep)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    def _sweep(self) -> None:
        """Close what has waited too long, oldest first, and come again for the next."""
        now_s = self._clock.monotonic()
        self._sweeping = None
        next_s = None
        for origin, idle in list(self._idle.items()):
            while idle and now_s - idle[0].idle_since_s >= self._keepalive_s:
                idle.pop(0).close()
            if idle:
                left_s = idle[0].idle_since_s + self._keepalive_s - now_s
                next_s = left_s if next_s is None else min(left_s, next_s)
            else:
                del self._idle[origin]
        if next_s is not None:
            self._sweeping = self.loop.call_later(next_s, self._sweep)

    async def aclose(self) -> None:
        """Close everything at once, calls under way too, and wait until it is closed."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._names.aclose()
        for connection in list(self._open):
            connection.cut()
        if self._open:
            self._emptied = self.loop.create_future()
            await self._emptied
