"""Moves the spool's records to SQL, and replays the spools of processes that died."""

import asyncio
from pathlib import Path

import msgspec

from shared.clock import Clock
from shared.corked import cork_of
from shared.errors import StoreUnavailable
from shared.ledger.books import Charge, Opening, lost
from shared.ledger.settle import (
    Follower,
    Spent,
    Standings,
    spent_by,
    write_charges,
    write_gathered,
)
from shared.ledger.spool import Spool, orphans
from shared.ledger.watch import BudgetWatch
from shared.store.budgets import settle
from shared.store.engine import Store
from shared.store.ledger import REFUSALS, AlreadyThere
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import LOST_ATTEMPTS, SPOOL_PENDING, SPOOL_RECORDS

log = get_logger("ledger")

FLUSH_S = 0.2
"""How long a record may wait for others to share its transaction."""

BUSY_FLUSH_S = 0.9
MANY = 10
"""After the start of a flush of so many records the next may wait longer, so that the ledger is a
second behind at most: each wakes the disk, whose work pushes the calls' out of the caches. That
begins at 50 records a second, and ends below 12."""

LOOK_S = 0.1
"""How often a flush that waits looks whether there is a whole group already: to wait on then saves
nothing, and what exceeds memory would have to be read from the file."""

AWAY_S = 1.0
"""Wait before the database is tried again."""

REPLAY_S = 5.0
"""How often ownerless spools are looked for."""

REPLAY_GROUP = 500

REFUSED = "refused.jsonl"
"""Beside the spools: charges that the database refused for what they are."""


class SpoolBooks:
    """The API's books: appends to the spool, never waits for SQL.

    What one turn of the event loop opens and closes is written at its end (a crowd's, at the end of
    the last that brings more: `shared.corked`), in one piece, and before anything of it leaves: a
    write that follows other work takes some 20 µs of processor time, ten times what it takes after
    another.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._opened = spool.opened
        self._ended = spool.ended
        self._due = self._refused = False

    async def open(self, opening: Opening) -> None:
        """Record that the provider is about to be called; on file before it hears of it.

        Where the disk refuses then, nothing is sent, and the transport raises StoreUnavailable.

        Raises:
            StoreUnavailable: the disk has refused before and still does.
        """
        self._opened.append(opening)
        if self._refused:
            self._try_again()
        if not self._due:
            self._end_turn()

    def close(self, charge: Charge) -> None:
        """Record how the attempt ended, at the turn's end; kept while the disk refuses."""
        self._ended.append(charge)
        if not self._due:
            self._end_turn()

    def _end_turn(self) -> None:
        self._due = True
        loop = asyncio.get_running_loop()
        cork_of(loop).first(self._write, loop)

    def _write(self) -> None:
        self._due = False
        try:
            self._spool.write()
        except StoreUnavailable as error:
            if not self._refused:
                log.error("spool.refused", why=str(error))  # noqa: TRY400 (no bug: it is full)
            self._refused = True
            raise
        except Exception:
            log.exception("spool.failed", pending_bytes=self._spool.pending_bytes)
            raise
        self._refused = False

    def _try_again(self) -> None:
        """Write at once. What is refused is forgotten: as long as that lasts, it would add up."""
        try:
            self._write()
        except StoreUnavailable:
            self._opened.pop()
            raise


class Keeper:
    """The background task of a process that owns a spool. `follower` hears what reached SQL.

    `watch` has told what that brings about.
    """

    def __init__(
        self,
        spool: Spool,
        store: Store,
        clock: Clock,
        follower: Follower | None = None,
        watch: BudgetWatch | None = None,
    ) -> None:
        self._spool = spool
        self._store = store
        self._clock = clock
        self._follower = follower
        self._watch = watch

    async def run(self) -> None:
        """Flush for ever; cancelled by its owner, who then calls `flush` a last time."""
        next_replay_s = 0.0
        while True:
            began_s = self._clock.monotonic()
            try:
                moved = await self.flush()
                if self._clock.monotonic() >= next_replay_s:
                    await replay_orphans(
                        self._spool.path.parent, self._store, self._clock, own=self._spool.path
                    )
                    next_replay_s = self._clock.monotonic() + REPLAY_S
                await self._clock.sleep(FLUSH_S)
                if moved >= MANY:
                    await self._busy_wait(began_s)
            except StoreUnavailable as error:
                log.warning(
                    "spool.waiting", pending_bytes=self._spool.pending_bytes, why=str(error)
                )
                await self._clock.sleep(AWAY_S)
            except Exception:
                log.exception("spool.failed", pending_bytes=self._spool.pending_bytes)
                await self._clock.sleep(AWAY_S)

    async def _busy_wait(self, began_s: float) -> None:
        """Return when many charges have had the time to come, or a group of them has come."""
        while not self._spool.has_group:
            left_s = began_s + BUSY_FLUSH_S - self._clock.monotonic()
            if left_s <= 0:
                return
            await self._clock.sleep(min(LOOK_S, left_s))

    async def flush(self) -> int:
        """Move all that is pending now to SQL; return how many charges went.

        What comes in meanwhile waits for the next: chasing it would be one small transaction after
        another for as long as there are calls.

        Raises:
            StoreUnavailable: the rest stays in the spool.
        """
        self._spool.write()
        moved = 0
        due_bytes = self._spool.flushed_bytes + self._spool.pending_bytes
        while self._spool.flushed_bytes < due_bytes:
            await asyncio.to_thread(self._spool.sync)
            before_bytes = self._spool.flushed_bytes
            count = await self._move_gathered()
            if count is None:
                count = await self._move_read()
            moved += count
            if self._spool.flushed_bytes == before_bytes:
                break
        SPOOL_RECORDS.inc(moved)
        SPOOL_PENDING.set(self._spool.pending_bytes)
        self._spool.rotate_if_drained()
        return moved

    async def _move_gathered(self) -> int | None:
        """Move charges that are in memory; return how many, None when they have to be read."""
        gathered = self._spool.gathered()
        if gathered is None:
            return None
        count, end = gathered.rows.count, gathered.end
        standings: Standings = {}
        if count:
            try:
                async with self._store.write() as tx:
                    standings = await write_gathered(tx, gathered, watch=self._watch)
            except StoreUnavailable:
                raise
            except (AlreadyThere, *REFUSALS):
                return None
            except Exception:
                # A bug, or an odd error of the database: the file has them all the same.
                log.exception("spool.failed", pending_bytes=self._spool.pending_bytes)
                return None
        self._moved(end, gathered.spent, standings)
        return count

    async def _move_read(self) -> int:
        """Move charges that are read from the file; return how many."""
        charges, end = self._spool.read()
        refused = self._spool.path.parent / REFUSED
        standings = await insert_charges(self._store, charges, refused, self._watch)
        self._moved(end, spent_by(charges), standings)
        return len(charges)

    def _moved(self, end: int, spent: Spent, standings: Standings) -> None:
        self._spool.flushed(end)
        if self._follower is not None:
            self._follower.settled(spent, standings)


async def insert_charges(
    store: Store, charges: list[Charge], refused: Path, watch: BudgetWatch | None = None
) -> Standings:
    """Write ledger rows and settle their budgets; those that stand already change nothing.

    A row that the database will never take, because of a value, goes to the file `refused`, for
    people: the others behind it must not wait for ever.

    Returns:
        How the owners of the costs stand in their budgets afterwards.

    Raises:
        StoreUnavailable: none or some were written; all may be tried again.
    """
    if not charges:
        return {}
    try:
        async with store.write() as tx:
            standings = await write_charges(tx, charges, watch=watch)
    except REFUSALS as error:
        if len(charges) > 1:
            each = [await insert_charges(store, [charge], refused, watch) for charge in charges]
            return {name: standing for one in each for name, standing in one.items()}
        log.critical(
            "ledger.refused",
            attempt_id=charges[0].opening.attempt_id,
            file=refused.name,
            why=type(error).__name__,
        )
        with refused.open("ab") as file:
            file.write(msgspec.json.encode(charges[0]) + b"\n")
        return {}
    return standings


async def replay_orphans(folder: Path, store: Store, clock: Clock, own: Path | None = None) -> int:
    """Write what dead processes left: their charges, and an open without a close as `lost`.

    Then nobody needs their grants any more, and they are taken back.
    Returns how many attempts were lost. Safe to run anywhere and twice: rows are unique by
    attempt.
    """
    lost_count = 0
    for orphan in orphans(folder, but=[own] if own else []):
        charges, left_open = await asyncio.to_thread(orphan.contents)
        charges += [lost(opening, clock.now()) for opening in left_open]
        for start in range(0, len(charges), REPLAY_GROUP):
            group = charges[start : start + REPLAY_GROUP]
            await insert_charges(store, group, folder / REFUSED)
        owners = {charge.opening.grant for charge in charges if charge.opening.grant is not None}
        if owners:
            async with store.write() as tx:
                await settle(tx, {}, release=owners)
        orphan.remove()
        lost_count += len(left_open)
        LOST_ATTEMPTS.inc(len(left_open))
        if charges:
            log.warning(
                "spool.replayed", file=orphan.path.name, charges=len(charges), lost=len(left_open)
            )
    return lost_count
