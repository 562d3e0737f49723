"""Keeps the embedded stack's processes running, and stops them in the right order."""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence

from compose.children import Child, fate
from scheduler.lease import NAME as SCHEDULER_LEASE
from shared.errors import StoreUnavailable
from shared.store.claims import release_owner
from shared.store.engine import open_store
from shared.store.leases import drop_lease

LOOK_S = 0.1
MOST_OFTEN_S = 1.0
"""A process that keeps dying is started again once a second, not in a spin."""
SHORT_LIFE_S = 5.0
DRAIN_S = 30.0
"""Longer than the processes' own grace, after which they end what is open."""
REDIS_STOP_S = 5.0

Notify = Callable[[str], None]


class Stack:
    """The processes: Redis, if there is one, and ours; `notify` is told of deaths in words."""

    def __init__(
        self,
        ours: Sequence[Child],
        redis: Child | None,
        *,
        database_url: str,
        notify: Notify,
        note_owners: Callable[[list[str]], None],
    ) -> None:
        self.ours = list(ours)
        self.redis = redis
        self._database_url = database_url
        self._notify = notify
        self._note_owners = note_owners

    @property
    def _all(self) -> list[Child]:
        return self.ours if self.redis is None else [self.redis, *self.ours]

    def start(self) -> None:
        """Start all that does not run."""
        due = [child for child in self._all if child.pid is None]
        for child in due:
            child.start()
        if due:
            self._note_owners([child.owner for child in self.ours])

    def dead(self) -> list[Child]:
        """Return the processes that have ended by themselves."""
        return [child for child in self._all if child.ended() is not None]

    async def keep(self) -> None:
        """Look after the processes for ever: who dies is started again within a second.

        First its leases are ended, so that its jobs are taken over at once.
        """
        while True:
            for child in self.dead():
                code = child.ended() or 0
                self._notify(f"{child.name} {fate(code)}; starting it again")
                child.forget()
                if child is not self.redis:
                    await release(self._database_url, [child.owner])
                await asyncio.sleep(_pause_s(child))
            self.start()
            await asyncio.sleep(LOOK_S)

    async def stop(self, now: asyncio.Event) -> None:
        """Stop ours and wait for what they have open, then Redis; once `now` is set, at once."""
        await _stop(self.ours, now, DRAIN_S)
        if self.redis is not None:
            await _stop([self.redis], now, REDIS_STOP_S)


async def release(database_url: str, owners: Sequence[str]) -> int:
    """End what dead processes hold; return how many jobs' leases ended.

    With the database away it is 0: leases then run out by themselves.
    """
    if not owners:
        return 0
    store = await open_store(database_url)
    released = 0
    try:
        async with store.write() as tx:
            for owner in owners:
                released += await release_owner(tx, owner)
                await drop_lease(tx, SCHEDULER_LEASE, owner)
    except StoreUnavailable:
        return 0
    finally:
        await store.close()
    return released


def _pause_s(child: Child) -> float:
    """Return how long to wait before the process is started again: mostly not at all."""
    lived_s = time.monotonic() - child.started_s
    child.deaths = child.deaths + 1 if lived_s < SHORT_LIFE_S else 1
    return MOST_OFTEN_S if child.deaths > 1 else 0.0


async def _stop(children: Sequence[Child], now: asyncio.Event, grace_s: float) -> None:
    for child in children:
        child.tell(signal.SIGTERM)
    gone, hurry = asyncio.ensure_future(_gone(children)), asyncio.ensure_future(now.wait())
    await asyncio.wait({gone, hurry}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    for child in children:
        child.tell(signal.SIGKILL)
    await gone
    for child in children:
        child.forget()


async def _gone(children: Sequence[Child]) -> None:
    while _alive(children):  # noqa: ASYNC110 (processes set no event)
        await asyncio.sleep(LOOK_S / 4)


def _alive(children: Sequence[Child]) -> bool:
    return any(child.pid is not None and child.ended() is None for child in children)
