"""The courier: claims deliveries that are due, makes one attempt each, records, reschedules."""

import asyncio
from functools import partial

from shared.errors import StoreUnavailable
from shared.store.records import DeliveryRow
from shared.store.webhooks import any_due, claim_deliveries
from shared.telemetry.log import get_logger
from shared.webhooks.attempt import PostOffice, attempt
from workers.loops import wait_for_claim, wait_for_ring

AT_ONCE = 128
"""Deliveries in flight per process."""
CLAIM_AT_ONCE = 32
LEASE_S = 30.0
"""Longer than an attempt and its recording; a dead worker's deliveries go out again after it."""
LONGEST_PAUSE_S = 5.0

log = get_logger(__name__)


class Courier:
    """Delivers webhooks at least once, each under one id, until `stop`."""

    def __init__(self, office: PostOffice, *, poll_s: float) -> None:
        self._office = office
        self._poll_s = poll_s
        self._rung = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._stopping = False
        self._under_way: set[asyncio.Task[None]] = set()

    def ring(self) -> None:
        """Look for deliveries soon; on the event loop's thread."""
        self._rung.set()

    def stop(self) -> None:
        """Claim no more; attempts under way go on."""
        self._stopping = True
        self._rung.set()

    async def run(self) -> None:
        """Claim and deliver until `stop`."""
        pause_s = self._poll_s
        while not self._stopping:
            try:
                more = await self._fill()
            except StoreUnavailable as error:
                log.warning("courier.store_unavailable", reason=error.message)
                await self._office.clock.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                continue
            except Exception:
                log.exception("courier.failed")
                more = False
            pause_s = self._poll_s
            if not more:
                await wait_for_ring(self._rung, self._poll_s, self._office.clock)

    async def drain(self, grace_s: float) -> None:
        """Wait up to `grace_s` seconds for the attempts under way; cut ones go out again."""
        self.stop()
        await wait_for_claim(self._claiming, self._office.clock)
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _fill(self) -> bool:
        limit = min(CLAIM_AT_ONCE, AT_ONCE - len(self._under_way))
        if limit <= 0:
            return False
        async with self._office.store.read() as tx:  # mostly there is nothing to take
            if not await any_due(tx) or self._stopping:
                return False
        async with self._claiming:
            async with self._office.store.write() as tx:
                due = await claim_deliveries(
                    tx, owner=self._office.owner, lease_s=LEASE_S, limit=limit
                )
            for delivery in due:
                task = asyncio.create_task(self._attempt(delivery), name=f"delivery {delivery.id}")
                self._under_way.add(task)
                task.add_done_callback(partial(self._done, delivery.endpoint_id))
        return len(due) == limit

    def _done(self, endpoint_id: str | None, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        # The loop had stopped for want of room, here or at the endpoint.
        if endpoint_id is not None or len(self._under_way) == AT_ONCE - 1:
            self._rung.set()

    async def _attempt(self, delivery: DeliveryRow) -> None:
        try:
            await attempt(delivery, self._office)
        except StoreUnavailable as error:  # its lease ends, then it goes out again: at least once
            log.warning("webhook.not_recorded", delivery_id=delivery.id, reason=error.message)
        except Exception:
            log.exception("webhook.broke", delivery_id=delivery.id)
