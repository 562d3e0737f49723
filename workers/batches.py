"""The caretaker of batches: takes those that are due, a few at a time, and brings them on."""

import asyncio

from shared.errors import StoreUnavailable
from shared.jobs.batch.advance import advance
from shared.jobs.batch.held import BatchDesk, BatchLost, Held
from shared.store.batches import BatchRow, any_due, claim_batches, leave_batch
from shared.telemetry.context import bound
from shared.telemetry.log import get_logger
from workers.loops import wait_for_claim, wait_for_ring

AT_ONCE = 8
"""Batches that one process works on at a time; between two looks others have their turn."""
LOOK_S = 0.25
"""Between looks while some batch is open here; without one every `queue.poll_s`."""
AFTER_FAILURE_S = 5.0

log = get_logger(__name__)


class Batches:
    """The batches this process brings on, until `stop`."""

    def __init__(self, desk: BatchDesk, *, owner: str, poll_s: float) -> None:
        self._desk = desk
        self._owner = owner
        self._poll_s = poll_s
        self._rung = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._stopping = False
        self._under_way: set[asyncio.Task[None]] = set()
        self._soon_until_s = 0.0

    def ring(self) -> None:
        """Look for batches soon; on the event loop's thread."""
        self._rung.set()

    async def run(self) -> None:
        """Take and bring on batches until `drain`; looks when rung and by itself."""
        while not self._stopping:
            try:
                await self._fill()
            except StoreUnavailable as error:
                log.warning("batches.store_unavailable", reason=error.message)
                await self._desk.clock.sleep(self._poll_s)
            except Exception:
                log.exception("batches.failed")
            soon = self._desk.clock.monotonic() < self._soon_until_s
            pause_s = min(LOOK_S, self._poll_s) if soon or self._under_way else self._poll_s
            await wait_for_ring(self._rung, pause_s, self._desk.clock)

    async def drain(self) -> None:
        """Stop at once: what is half done goes on elsewhere, from what was committed."""
        self._stopping = True
        self._rung.set()
        await wait_for_claim(self._claiming, self._desk.clock)
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _fill(self) -> None:
        limit = AT_ONCE - len(self._under_way)
        if limit <= 0:
            return
        async with self._desk.store.read() as tx:  # mostly there is nothing to take
            due = await any_due(tx)
        if not due or self._stopping:
            return
        async with self._claiming:
            async with self._desk.store.write() as tx:
                rows = await claim_batches(
                    tx, owner=self._owner, lease_s=self._desk.lease_s, limit=limit
                )
            for row in rows:
                task = asyncio.create_task(self._bring_on(row), name=f"batch {row.id}")
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

    async def _bring_on(self, row: BatchRow) -> None:
        with bound(request_id=row.request_id):
            held = Held(self._desk, row)
            again_s: float | None = 0.0
            try:
                again_s = await advance(held)
            except BatchLost:
                log.info("batch.lease_lost", batch_id=row.id)
            except StoreUnavailable as error:
                again_s = AFTER_FAILURE_S
                log.warning("batch.waits", batch_id=row.id, reason=error.message)
            except Exception:
                again_s = AFTER_FAILURE_S
                log.exception("batch.broke", batch_id=row.id)
            finally:
                if again_s is not None:
                    await self._leave(held, again_s)

    async def _leave(self, held: Held, again_s: float) -> None:
        self._soon_until_s = self._desk.clock.monotonic() + 2 * again_s + self._poll_s
        try:
            async with self._desk.store.write() as tx:
                await leave_batch(tx, held.row, again_s)
        except StoreUnavailable:  # its lease runs out, then it goes on
            log.warning("batch.not_left", batch_id=held.row.id)
