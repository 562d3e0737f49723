"""Writing for many runs at once: what comes while a transaction is under way shares the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Generic, TypeVar

import msgspec

from shared.errors import StoreUnavailable
from shared.ledger.books import Charge
from shared.ledger.settle import write_charges
from shared.ledger.watch import BudgetWatch
from shared.store.budgets import Trade, trade_all
from shared.store.engine import Store, Tx
from shared.store.groups import (
    Lease,
    close_attempts,
    finish_held,
    insert_attempts,
    still_held,
)
from shared.store.jobs import keep_position
from shared.store.records import AttemptClosing, AttemptRow, BudgetRef, BudgetStanding, Finish

MOST = 64
"""Runs that share a transaction: it stays short, and one that fails delays few."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that is about to be made. `position` is kept if it `moved`."""

    lease: Lease
    row: AttemptRow
    moved: bool = False
    position: dict[str, object] | None = None


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Money that a run wants to hold."""

    lease: Lease
    trade: Trade


class Page:
    """What the runs of a group write at their end; the bulk of it together, by `flush`."""

    def __init__(self, tx: Tx, watch: BudgetWatch | None = None, *, booked: bool = True) -> None:
        self.tx = tx
        self._watch = watch
        self._booked = booked
        self._ends: dict[str, Finish] = {}
        self._closings: list[AttemptClosing] = []
        self._charges: list[Charge] = []
        self._released: list[str] = []

    def end(self, job_id: str, finish: Finish) -> None:
        """End a job; whoever calls this knows that it is held, and locked for a change."""
        self._ends[job_id] = finish

    def settle(
        self, closings: Sequence[AttemptClosing], charges: Sequence[Charge], *, release: str
    ) -> None:
        """Close attempts, book what they cost, and take back the grants of that owner."""
        self._closings += closings
        self._charges += charges if self._booked else ()
        self._released.append(release)

    async def flush(self) -> None:
        """Write it all."""
        await finish_held(self.tx, self._ends)
        await close_attempts(self.tx, self._closings)
        await write_charges(self.tx, self._charges, release=self._released, watch=self._watch)


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What a run writes at its end, under its lease.

    `write` returns False when it has found that it may not write, and has not; it may be asked
    again when its transaction failed.
    """

    lease: Lease
    write: Callable[[Page], Awaitable[bool]]


class Commits:
    """The writes of a process's runs. Each is whole or not at all, whoever shares its transaction.

    A cancellation leaves open whether the write was made. At most `at_once` transactions of each
    kind are under way: one where the store has one writer; with two, a slow one stops nobody.
    """

    def __init__(
        self,
        store: Store,
        *,
        at_once: int = 1,
        watch: BudgetWatch | None = None,
        booked: bool = True,
    ) -> None:
        """`booked` says that there is a ledger, which all charges go to."""
        self.booked = booked
        self._holds = _Groups(store, _hold, at_once)
        self._openings = _Groups(store, _open, at_once)
        self._endings = _Groups(store, partial(_end, watch, booked), at_once)

    async def hold(self, held: Held) -> dict[BudgetRef, BudgetStanding] | None:
        """Make the trade of a run; return how it then stands, None when the lease is gone.

        Raises:
            StoreUnavailable: nothing was held.
        """
        return await self._holds.write(held)

    async def open(self, opened: Opened) -> bool:
        """Insert the attempt; False when the lease is gone.

        Raises:
            StoreUnavailable: it could not be recorded.
        """
        return await self._openings.write(opened)

    async def end(self, ending: Ending) -> bool:
        """Write a run's end; False, and nothing written, when the lease is gone.

        Raises:
            StoreUnavailable: it may have been written, but that is not known.
        """
        return await self._endings.write(ending)


async def _hold(tx: Tx, group: Sequence[Held]) -> list[dict[BudgetRef, BudgetStanding] | None]:
    kept = await still_held(tx, [one.lease for one in group], to_change=False)
    stood = iter(await trade_all(tx, [one.trade for one in group if one.lease in kept]))
    return [next(stood) if one.lease in kept else None for one in group]


async def _open(tx: Tx, group: Sequence[Opened]) -> list[bool]:
    kept = await still_held(tx, [one.lease for one in group], to_change=False)
    opened = [one for one in group if one.lease in kept]
    await insert_attempts(tx, [one.row for one in opened])
    for one in opened:
        if one.moved:
            await keep_position(tx, one.row.job_id, one.position)
    return [one.lease in kept for one in group]


async def _end(
    watch: BudgetWatch | None,
    booked: bool,  # noqa: FBT001 (bound by position)
    tx: Tx,
    group: Sequence[Ending],
) -> list[bool]:
    kept = await still_held(tx, [one.lease for one in group], to_change=True)
    page = Page(tx, watch, booked=booked)
    written = [one.lease in kept and await one.write(page) for one in group]
    await page.flush()
    return written


class _Groups(Generic[Item, Result]):
    """Writes of one kind. Transactions begin at once; what comes meanwhile shares the next."""

    def __init__(
        self,
        store: Store,
        write: Callable[[Tx, Sequence[Item]], Awaitable[Sequence[Result]]],
        at_once: int,
    ) -> None:
        self._store = store
        self._at_once = at_once
        self._write = write
        self._waiting: deque[_Waiter[Item, Result]] = deque()
        self._writers = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def write(self, item: Item) -> Result:
        waiter: _Waiter[Item, Result] = _Waiter(item)
        self._waiting.append(waiter)
        if self._writers < self._at_once:
            # Without the context of whoever happens to be the first: it serves others too.
            self._writers += 1
            writer = asyncio.create_task(self._write_all(), context=Context())
            writer.add_done_callback(self._tasks.discard)
            self._tasks.add(writer)
        return await waiter.written

    async def _write_all(self) -> None:
        try:
            while group := self._taken():
                try:
                    await self._write_group(group)
                finally:  # of a loop that is closed with them still waiting
                    for waiter in group:
                        waiter.written.cancel()
        finally:
            # Not when the task is done: who comes in between would wait for a writer that ended.
            self._writers -= 1

    def _taken(self) -> "list[_Waiter[Item, Result]]":
        """Return the next group; who has been cancelled meanwhile is left out."""
        group: list[_Waiter[Item, Result]] = []
        while self._waiting and len(group) < MOST:
            waiter = self._waiting.popleft()
            if not waiter.written.done():
                group.append(waiter)
        return group

    async def _write_group(self, group: "Sequence[_Waiter[Item, Result]]") -> None:
        try:
            async with self._store.write() as tx:
                results = await self._write(tx, [waiter.item for waiter in group])
        except StoreUnavailable as error:
            for waiter in group:
                waiter.fail(StoreUnavailable(error.message))
        except Exception as error:  # noqa: BLE001 (whoever waits is told)
            if len(group) == 1:
                group[0].fail(error)
                return
            for waiter in group:  # what is wrong with one of them is not the others' affair
                await self._write_group([waiter])
        else:
            for waiter, result in zip(group, results, strict=True):
                waiter.succeed(result)


class _Waiter(Generic[Item, Result]):
    """Who waits for a write; it may have been cancelled meanwhile."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.written: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def succeed(self, result: Result) -> None:
        if not self.written.done():
            self.written.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self.written.done():
            self.written.set_exception(error)
