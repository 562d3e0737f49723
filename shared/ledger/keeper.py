"""Moves the spool's records to SQL, and replays the spools of processes that died."""

import asyncio
import types
from collections.abc import Generator
from pathlib import Path

import msgspec

from shared.clock import Clock
from shared.errors import StoreUnavailable
from shared.ledger.books import Charge, Opening, lost, unasked
from shared.ledger.settle import Follower, Standings, write_charges
from shared.ledger.spool import Spool, line_of, orphans
from shared.ledger.watch import BudgetWatch
from shared.store.budgets import settle
from shared.store.engine import Store
from shared.store.ledger import REFUSALS
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import LOST_ATTEMPTS, SPOOL_PENDING, SPOOL_RECORDS

log = get_logger("ledger")

FLUSH_S = 0.2
"""How long a record may wait for others to share its transaction."""

BUSY_FLUSH_S = 0.5
MANY = 50
"""After the start of a flush of so many records the next may wait longer: half of its cost is the
commit."""

AWAY_S = 1.0
"""Wait before the database is tried again."""

REPLAY_S = 5.0
"""How often ownerless spools are looked for."""

REPLAY_GROUP = 500

REFUSED = "refused.jsonl"
"""Beside the spools: charges that the database refused for what they are."""


class _Turn:
    """What is opened in one turn of the event loop, each with its record; whether it is on file."""

    __slots__ = ("opened", "refusal", "written")

    def __init__(self) -> None:
        self.opened: list[tuple[Opening, bytes]] = []
        self.written = False
        self.refusal = "The spool could not be written."


@types.coroutine
def _next_turn() -> Generator[None, None, None]:
    """Go on after all that the event loop was asked to do before."""
    yield


class SpoolBooks:
    """The API's books: appends to the spool, never waits for SQL.

    A write that follows other work takes some 20 µs of processor time, ten times what it takes
    after another. So once calls are opened several in a turn of the event loop, they wait for its
    end and share one; a call that comes alone does not wait.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._turn = _Turn()
        self._count = 0
        self._many = False
        self._due = False

    async def open(self, opening: Opening) -> None:
        """Record that the provider is about to be called; returns when it is on file.

        Raises:
            StoreUnavailable: the disk refused.
        """
        self._end_turn()
        self._count += 1
        if self._count == 1 and not self._many:
            self._spool.append_opening(opening)
            return
        turn = self._turn
        turn.opened.append((opening, line_of(opening)))
        try:
            await _next_turn()
        except asyncio.CancelledError:
            if turn.written:
                self.close(unasked(opening))
            raise
        if not turn.written:
            raise StoreUnavailable(turn.refusal)

    def close(self, charge: Charge) -> None:
        """Record how the attempt ended, when the event loop turns; kept while the disk refuses."""
        self._spool.add_charge(charge)
        self._end_turn()

    def _end_turn(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        turn, self._turn = self._turn, _Turn()
        self._many, self._count, self._due = self._count > 1, 0, False
        try:
            self._spool.write(turn.opened)
            turn.written = True
        except StoreUnavailable as error:
            log.error("spool.refused", why=str(error))  # noqa: TRY400 (no bug: the disk is full)
            turn.refusal = error.message


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
                took_s = self._clock.monotonic() - began_s
                await self._clock.sleep(
                    FLUSH_S if moved < MANY else max(FLUSH_S, BUSY_FLUSH_S - took_s)
                )
            except StoreUnavailable as error:
                log.warning(
                    "spool.waiting", pending_bytes=self._spool.pending_bytes, why=str(error)
                )
                await self._clock.sleep(AWAY_S)
            except Exception:
                log.exception("spool.failed", pending_bytes=self._spool.pending_bytes)
                await self._clock.sleep(AWAY_S)

    async def flush(self) -> int:
        """Move all that is pending now to SQL; return how many charges went.

        What comes in meanwhile waits for the next: chasing it would be one small transaction after
        another for as long as there are calls.

        Raises:
            StoreUnavailable: the rest stays in the spool.
        """
        self._spool.write_waiting()
        moved = 0
        due_bytes = self._spool.flushed_bytes + self._spool.pending_bytes
        while self._spool.flushed_bytes < due_bytes:
            await asyncio.to_thread(self._spool.sync)
            charges, end = self._spool.read()
            if end == self._spool.flushed_bytes:
                break
            standings = await insert_charges(
                self._store, charges, self._spool.path.parent / REFUSED, self._watch
            )
            self._spool.flushed(end)
            if self._follower is not None:
                self._follower.settled(charges, standings)
            moved += len(charges)
        SPOOL_RECORDS.inc(moved)
        SPOOL_PENDING.set(self._spool.pending_bytes)
        self._spool.rotate_if_drained()
        return moved


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
