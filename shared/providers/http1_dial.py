"""From a name to a connected socket: one look-up for all who wait, addresses in a race."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import zip_longest

import msgspec

from shared.clock import Clock

DNS_TTL_S = 60.0
HEAD_START_S = 0.25
"""How long an address is tried before the next one joins (RFC 8305)."""


class Address(msgspec.Struct, frozen=True):
    """Where a socket can be connected to."""

    family: int
    place: tuple[str | int | bytes, ...]


LookUp = Callable[[str, int], Coroutine[None, None, tuple[Address, ...]]]
"""What asks the system; raises OSError when there is no such name."""


class Names:
    """Addresses by host and port, asked for once and remembered for a minute."""

    def __init__(self, clock: Clock, look_up: LookUp | None = None) -> None:
        self._clock = clock
        self._look_up = look_up or _look_up
        self._known: dict[tuple[str, int], tuple[float, tuple[Address, ...]]] = {}
        self._asked: dict[tuple[str, int], asyncio.Task[tuple[Address, ...]]] = {}

    async def addresses(self, host: str, port: int) -> tuple[Address, ...]:
        """Return the addresses in the order to try them: the system's, families in turn.

        Raises:
            OSError: there are none, or nobody who knows them.
        """
        now_s = self._clock.monotonic()
        until_s, known = self._known.get((host, port), (0.0, ()))
        if known and now_s < until_s:
            return known
        asked = self._asked.get((host, port))
        if asked is None:
            asked = asyncio.get_running_loop().create_task(self._look_up(host, port))
            self._asked[host, port] = asked
            asked.add_done_callback(lambda task: self._learn(host, port, task))
        # One caller's end must not end the look-up of the others.
        return await asyncio.shield(asked)

    def forget(self, host: str, port: int) -> None:
        """Ask again next time: no address of it answers."""
        self._known.pop((host, port), None)

    async def aclose(self) -> None:
        """End what is being asked."""
        asked = list(self._asked.values())
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    def _learn(self, host: str, port: int, task: asyncio.Task[tuple[Address, ...]]) -> None:
        del self._asked[host, port]
        if not task.cancelled() and task.exception() is None:
            self._known[host, port] = (self._clock.monotonic() + DNS_TTL_S, task.result())


async def _look_up(host: str, port: int) -> tuple[Address, ...]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
    return in_turn([Address(family, tuple(place)) for family, _, _, _, place in found])


def in_turn(addresses: Sequence[Address]) -> tuple[Address, ...]:
    """Return the addresses with families in turn, the first one's first."""
    if not addresses:
        return ()
    first = [each for each in addresses if each.family == addresses[0].family]
    other = [each for each in addresses if each.family != addresses[0].family]
    return tuple(each for pair in zip_longest(first, other) for each in pair if each is not None)


async def dial(addresses: Sequence[Address]) -> socket.socket:
    """Return a socket connected to the first address that answers; the others are closed.

    Raises:
        OSError: none of them takes connections; the first one's reason.
    """
    if 1 == len(addresses):
        return await _connect(addresses[0])
    loop = asyncio.get_running_loop()
    racing: set[asyncio.Task[socket.socket]] = set()
    failures: list[BaseException] = []
    waiting = list(addresses)
    try:
        while waiting or racing:
            if waiting:
                racing.add(loop.create_task(_connect(waiting.pop(0))))
            done, racing = await asyncio.wait(
                racing,
                timeout=HEAD_START_S if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            winner = _winner(done, failures)
            if winner is not None:
                return winner
    finally:
        for task in racing:
            task.add_done_callback(_close)
            task.cancel()
    raise failures[0] if failures else OSError("no address")


def _winner(
    done: set[asyncio.Task[socket.socket]], failures: list[BaseException]
) -> socket.socket | None:
    winner = None
    for task in done:
        failure = task.exception()
        if failure is not None:
            failures.append(failure)
        elif winner is None:
            winner = task.result()
        else:
            _close(task)
    return winner


def _close(task: asyncio.Task[socket.socket]) -> None:
    """Close what a late runner brings; its failure interests nobody."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # A request is one write, and a stream's first byte must not wait for an acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, address.place)
    except BaseException:
        sock.close()
        raise
    return sock
