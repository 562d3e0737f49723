"""The courier: claims deliveries that are due, makes one attempt each, records, reschedules."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import msgspec

from shared.clock import Clock
from shared.errors import StoreUnavailable
from shared.store.engine import Store
from shared.store.keys import tenant
from shared.store.records import DeliveryAttempt, DeliveryRow
from shared.store.webhooks import claim_deliveries, record_delivery
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import WEBHOOK_DELIVERIES
from shared.webhooks.schedule import Outcome, Verdict, judge
from workers.delivery import Post, deliver
from workers.loops import wait_for_ring

AT_ONCE = 128
"""Deliveries in flight per process."""
CLAIM_AT_ONCE = 32
LEASE_S = 30.0
"""Longer than an attempt and its recording; a dead worker's deliveries go out again after it."""
LONGEST_PAUSE_S = 5.0

log = get_logger(__name__)


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What the courier needs.

    `file_secret` is the config file's secret of a tenant, if any; `unseal` opens the database's.
    """

    store: Store
    clock: Clock
    owner: str
    draw: Callable[[], float]
    file_secret: Callable[[str], str | None]
    unseal: Callable[[str], str]
    post: Post


class Courier:
    """Delivers webhooks at least once, each under one id, until `stop`."""

    def __init__(self, route: Route, *, poll_s: float) -> None:
        self._route = route
        self._poll_s = poll_s
        self._rung = asyncio.Event()
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
                await self._route.clock.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                continue
            except Exception:
                log.exception("courier.failed")
                more = False
            pause_s = self._poll_s
            if not more:
                await wait_for_ring(self._rung, self._poll_s, self._route.clock)

    async def drain(self, grace_s: float) -> None:
        """Wait up to `grace_s` seconds for the attempts under way; cut ones go out again."""
        self.stop()
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _fill(self) -> bool:
        limit = min(CLAIM_AT_ONCE, AT_ONCE - len(self._under_way))
        if limit <= 0:
            return False
        async with self._route.store.write() as tx:
            due = await claim_deliveries(tx, owner=self._route.owner, lease_s=LEASE_S, limit=limit)
        for delivery in due:
            task = asyncio.create_task(self._attempt(delivery), name=f"delivery {delivery.id}")
            self._under_way.add(task)
            task.add_done_callback(self._done)
        return len(due) == limit

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        if len(self._under_way) == AT_ONCE - 1:  # the loop had stopped for want of room
            self._rung.set()

    async def _attempt(self, delivery: DeliveryRow) -> None:
        try:
            await attempt(delivery, self._route)
        except StoreUnavailable as error:  # its lease ends, then it goes out again: at least once
            log.warning("webhook.not_recorded", delivery_id=delivery.id, reason=error.message)
        except Exception:
            log.exception("webhook.broke", delivery_id=delivery.id)


async def attempt(delivery: DeliveryRow, route: Route) -> Outcome:
    """Make one attempt and record it with what follows from it, in one transaction.

    Raises:
        StoreUnavailable: it may have been made, but it was not recorded.
    """
    secrets = await _secrets(delivery.tenant_id, route)
    outcome = await deliver(delivery, route.post, secrets=secrets, clock=route.clock)
    verdict = judge(outcome, made=delivery.attempts + 1, draw=route.draw())
    async with route.store.write() as tx:
        now = await tx.now()
        wait_s = verdict.wait_s
        recorded = await record_delivery(
            tx,
            delivery_id=delivery.id,
            token=delivery.lease_token,
            attempt=DeliveryAttempt(
                at=now,
                status_code=outcome.status_code,
                duration_ms=outcome.duration_ms,
                error=outcome.error,
                answer_head=outcome.answer_head,
            ),
            status=verdict.status,
            next_at=None if wait_s is None else now + timedelta(seconds=wait_s),
        )
    _tell(delivery, outcome, verdict, recorded=recorded)
    return outcome


async def _secrets(tenant_id: str, route: Route) -> tuple[str, ...]:
    """Return what to sign with: the file's secret, or else the tenant's own."""
    from_file = route.file_secret(tenant_id)
    if from_file is not None:
        return (from_file,)
    async with route.store.read() as tx:
        row = await tenant(tx, tenant_id)
    return () if row is None else (route.unseal(row.webhook_secret),)


def _tell(delivery: DeliveryRow, outcome: Outcome, verdict: Verdict, *, recorded: bool) -> None:
    facts = {
        "delivery_id": delivery.id,
        "event_id": delivery.event_id,
        "type": delivery.event_type,
        "attempt": delivery.attempts + 1,
        "status_code": outcome.status_code,
        "duration_ms": outcome.duration_ms,
    }
    outcome_label = "retrying" if verdict.status == "pending" else verdict.status
    if recorded:
        WEBHOOK_DELIVERIES.labels(outcome_label).inc()
    if not recorded:
        log.warning("webhook.lease_lost", **facts)
    elif outcome.delivered:
        log.info("webhook.delivered", **facts)
    else:
        wait_s = None if verdict.wait_s is None else round(verdict.wait_s, 1)
        log.warning("webhook.failed", **facts, reason=outcome.error, retry_in_s=wait_s)
