"""uvicorn's server with an end of our own: told first, then no more callers, then drained."""

import asyncio
import fcntl
import select
import signal
import socket
import struct
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import uvicorn
from typing_extensions import override

from api.edge import Edge
from api.protocol import Protocol
from shared.clock import Deadline
from shared.lifeline import stop_signals
from shared.telemetry.log import get_logger

log = get_logger("api")

LAST_WORDS_S = 1.0
"""The end of the grace, in which what is still open is told that it will not be finished."""
LOOK_S = 0.05
FIRST_REQUEST_S = 1.0
"""For a connection without a request yet, once nobody new is let in."""
MOST_WAITING = 1000
"""Rounds of the loop given to connections that wait to be accepted; each takes many."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ends. `delay_s`: seconds it still takes callers, to be seen as not ready.

    `grace_s`: seconds that open calls may then go on.
    """

    delay_s: float
    grace_s: float


class Server(uvicorn.Server):
    """Serves until SIGTERM, SIGHUP or SIGINT, and loses no request that reached it.

    Readiness goes first. For `delay_s` seconds callers are still let in, and asked to connect
    elsewhere next; SIGINT, a person's, skips that. Then the door is closed behind those who wait
    in it, idle connections are closed, and open calls have `grace_s` seconds. A second signal ends
    all of it at once.
    """

    def __init__(self, config: uvicorn.Config, edge: Edge, ending: Ending) -> None:
        super().__init__(config)
        self._edge = edge
        self._clock = edge.clock
        self._ending = ending
        self._delay_s = 0.0
        self._leaving = asyncio.Event()
        self._hurry = asyncio.Event()

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal that tells to, at once on a second one.

        Unlike uvicorn's own this does not raise the signal again afterwards: the spool is still to
        be flushed then.
        """
        loop = asyncio.get_running_loop()
        numbers = stop_signals()
        for number in numbers:
            loop.add_signal_handler(number, self._told, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _told(self, number: signal.Signals) -> None:
        if self.should_exit:
            self.force_exit = True
            self._hurry.set()
            return
        self._delay_s = 0.0 if number == signal.SIGINT else self._ending.delay_s
        self.should_exit = self._edge.stopping = True
        self._leaving.set()

    @override
    async def main_loop(self) -> None:
        """Serve until a signal tells to stop.

        uvicorn's own looks ten times a second whether one has, and after a number of requests, a
        callback and a header with the date, none of which we have.
        """
        if not await self.on_tick(0):
            await self._leaving.wait()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as the class says; everything is answered or told when this returns."""
        log.info(
            "api.stopping",
            delay_s=self._delay_s,
            grace_s=self._ending.grace_s,
            in_flight=self._edge.running,
        )
        self._ask_to_leave()
        await self._pause(self._delay_s)
        await self._close_door(sockets or [])
        await self._drain(Deadline.after(self._ending.grace_s, self._clock))
        await self._cut()

    def _ask_to_leave(self) -> None:
        """Have every answer from now on carry `Connection: close`."""
        # Replaced, not appended to: the cycles that exist share the list and may have begun.
        self.server_state.default_headers = [
            *self.server_state.default_headers,
            (b"connection", b"close"),
        ]
        for connection in self._connections():
            # A head that has gone out promised to stay: the next request may be on its way.
            if not connection.unused and not connection.cycle.response_started:
                connection.cycle.keep_alive = False  # the newest: those before it are answered too

    async def _close_door(self, listeners: Sequence[socket.socket]) -> None:
        """Close the listeners once nobody waits in their queue: closing would reset those."""
        door = select.poll()
        for listener in listeners:
            door.register(listener, select.POLLIN)
        for _ in range(MOST_WAITING):
            if not door.poll(0):
                break
            await self._clock.sleep(0)
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()

    async def _drain(self, deadline: Deadline) -> None:
        """Return when nothing is open, at the end of the grace, or on a second signal."""
        first = Deadline.after(FIRST_REQUEST_S, self._clock)
        while self._is_busy() and not self._hurry.is_set():
            left_s = deadline.left_s(self._clock) - LAST_WORDS_S
            if left_s <= 0:
                return
            self._close_idle(unused=first.left_s(self._clock) <= 0)
            await self._pause(min(LOOK_S, left_s))

    async def _cut(self) -> None:
        """Tell what is still open that this is the end, and cancel what does not end then."""
        self._edge.closing.come()
        last = Deadline.after(LAST_WORDS_S, self._clock)
        while self._is_busy() and last.left_s(self._clock) > 0:
            self._close_idle(unused=True)
            await self._clock.sleep(LOOK_S)
        tasks = list(self.server_state.tasks)
        if tasks:
            log.warning("api.cut", tasks=len(tasks))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=LAST_WORDS_S)
        for connection in self._connections():
            connection.transport.abort()

    def _close_idle(self, *, unused: bool) -> None:
        """Close connections between calls, and if so told those that have not brought one yet."""
        for connection in self._connections():
            idle = connection.idle or (unused and connection.unused)
            if idle and not _has_unread(connection.transport):
                connection.transport.close()

    def _connections(self) -> list[Protocol]:
        return [one for one in self.server_state.connections if isinstance(one, Protocol)]

    def _is_busy(self) -> bool:
        return bool(self.server_state.connections or self.server_state.tasks)

    async def _pause(self, length_s: float) -> None:
        """Wait so long, or until a second signal."""
        try:
            async with self._clock.timeout(length_s):
                await self._hurry.wait()
        except TimeoutError:
            pass


def _has_unread(transport: asyncio.Transport) -> bool:
    """Say whether the kernel holds bytes that the event loop has not read yet."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    waiting = fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0")
    return bool(struct.unpack("i", waiting)[0])
