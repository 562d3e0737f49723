"""A load balancer as small as can be: asks /readyz, keeps connections, says what it lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from tests.fakes.callers import Caller, Lost, Reply, called, get

PROBE_S = 0.05


class Balancer:
    """Sends each request to a backend that was ready when last asked; never sends one twice."""

    def __init__(self, ports: list[int]) -> None:
        self.ready: set[int] = set()
        self.said: dict[int, set[object]] = {port: set() for port in ports}
        self.lost: list[str] = []
        self.stop = asyncio.Event()
        self._ports = ports
        self._idle: dict[int, list[Caller]] = {port: [] for port in ports}
        self._turns = count()

    async def call(self, request: bytes) -> Reply | None:
        """Return the answer; None, noted in `lost`, when there was none."""
        ready = sorted(self.ready)
        if not ready:
            self.lost.append("no backend was ready")
            return None
        port = ready[next(self._turns) % len(ready)]
        caller: Caller | None = None
        try:
            caller = self._idle[port].pop() if self._idle[port] else await Caller.connect(port)
            caller.send(request)
            reply = await caller.answer()
        except (OSError, Lost) as error:
            self.lost.append(f"{port}: {error}")
            if caller is not None:
                caller.hang_up()
            return None
        if reply.head.closes:
            caller.close()
        else:
            self._idle[port].append(caller)
        return reply

    async def probe(self) -> None:
        """Ask each backend, on a new connection each time, until `stop` is set."""
        while not self.stop.is_set():
            await asyncio.gather(*map(self._look, self._ports))
            await asyncio.sleep(PROBE_S)

    async def _look(self, port: int) -> None:
        try:
            reply = await called(port, get("/readyz"))
        except (OSError, Lost):
            self.ready.discard(port)
            self._forget(port)
            return
        self.said[port].add(reply.json["status"])
        if reply.head.status == 200:
            self.ready.add(port)
        else:
            self.ready.discard(port)
            self._forget(port)

    def _forget(self, port: int) -> None:
        while self._idle[port]:
            self._idle[port].pop().close()

    def close(self) -> None:
        """Close the kept connections."""
        for port in self._ports:
            self._forget(port)


@asynccontextmanager
async def running_balancer(ports: list[int]) -> AsyncIterator[Balancer]:
    """Yield a balancer over APIs on these ports; it stops probing with the block."""
    balancer = Balancer(ports)
    probing = asyncio.create_task(balancer.probe())
    try:
        yield balancer
    finally:
        balancer.stop.set()
        await probing
        balancer.close()
