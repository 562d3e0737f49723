"""One attempt, from secrets to record: what follows from it is written with it."""

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from shared.clock import Clock
from shared.ids import IdMaker
from shared.store.endpoints import (
    disable_endpoint,
    get_endpoint,
    hold_delivery,
    note_failure,
    note_success,
)
from shared.store.engine import Store, Tx
from shared.store.keys import tenant
from shared.store.records import DeliveryAttempt, DeliveryRow
from shared.store.webhooks import record_delivery
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import WEBHOOK_DELIVERIES
from shared.webhooks.alerting import is_alerts
from shared.webhooks.delivery import Post, deliver
from shared.webhooks.emit import emit
from shared.webhooks.event import ENDPOINT_DISABLED, subject_event
from shared.webhooks.schedule import Outcome, Verdict, disabled_for, judge

log = get_logger(__name__)


class PostOffice(msgspec.Struct, frozen=True, kw_only=True):
    """What attempts need.

    `file_secret` is the config file's secret of a tenant, if any; `unseal` opens the database's.
    `alerts_secret` is the config file's for where it wants alerts told, `operator_secret` signs
    what is of no tenant.
    """

    store: Store
    clock: Clock
    ids: IdMaker
    owner: str
    draw: Callable[[], float]
    file_secret: Callable[[str], str | None]
    unseal: Callable[[str], str]
    post: Post
    alerts_secret: str | None = None
    operator_secret: str | None = None


async def attempt(delivery: DeliveryRow, office: PostOffice) -> Outcome:
    """Make one attempt and record it with what follows from it, in one transaction.

    Raises:
        StoreUnavailable: it may have been made, but it was not recorded.
    """
    outcome = await _made(delivery, office)
    verdict = judge(outcome, made=delivery.attempts + 1, draw=office.draw())
    async with office.store.write() as tx:
        now = await tx.now()
        recorded = await _record(tx, delivery, outcome, verdict, now)
        if recorded and delivery.endpoint_id is not None:
            await _note(tx, delivery, delivery.endpoint_id, outcome, now, office.ids)
    _tell(delivery, outcome, verdict, recorded=recorded)
    return outcome


async def try_out(delivery: DeliveryRow, office: PostOffice) -> Outcome:
    """Make the one and only attempt of a test, and record it; its endpoint is judged by others.

    Raises:
        StoreUnavailable: it may have been made, but it was not recorded.
    """
    outcome = await _made(delivery, office)
    verdict = Verdict(status="succeeded" if outcome.delivered else "failed")
    async with office.store.write() as tx:
        recorded = await _record(tx, delivery, outcome, verdict, await tx.now())
    _tell(delivery, outcome, verdict, recorded=recorded)
    return outcome


async def _made(delivery: DeliveryRow, office: PostOffice) -> Outcome:
    secrets = await _secrets(delivery, office)
    return await deliver(delivery, office.post, secrets=secrets, clock=office.clock)


async def _secrets(delivery: DeliveryRow, office: PostOffice) -> tuple[str, ...]:
    """Return what to sign with: the endpoint's, else the file's secret, else the tenant's own."""
    if is_alerts(delivery.url) and office.alerts_secret is not None:
        return (office.alerts_secret,)
    if delivery.endpoint_id is None:
        from_file = office.file_secret(delivery.tenant_id)
        if from_file is not None:
            return (from_file,)
        async with office.store.read() as tx:
            row = await tenant(tx, delivery.tenant_id)
        if row is None:
            return () if office.operator_secret is None else (office.operator_secret,)
        return (office.unseal(row.webhook_secret),)
    async with office.store.read() as tx:
        endpoint = await get_endpoint(tx, delivery.endpoint_id)
        now = await tx.now()
    if endpoint is None:
        return ()
    old_until = endpoint.old_secret_until
    old = endpoint.old_secret if old_until is not None and now < old_until else None
    return tuple(office.unseal(one) for one in (endpoint.secret, old) if one is not None)


async def _record(
    tx: Tx, delivery: DeliveryRow, outcome: Outcome, verdict: Verdict, now: datetime
) -> bool:
    wait_s = verdict.wait_s
    return await record_delivery(
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


async def _note(
    tx: Tx,
    delivery: DeliveryRow,
    endpoint_id: str,
    outcome: Outcome,
    now: datetime,
    ids: IdMaker,
) -> None:
    """Keep the endpoint's record, and disable it when that has become too long."""
    if outcome.delivered:
        await note_success(tx, endpoint_id)
        return
    endpoint = await note_failure(tx, endpoint_id, first=delivery.attempts == 0, at=now)
    if endpoint is None:  # turned off while this was under way
        await hold_delivery(tx, delivery.id)
        return
    failing = now - (endpoint.failing_since or now)
    why = disabled_for(outcome, failing, endpoint.failures)
    if why is None or not await disable_endpoint(tx, endpoint_id, why=why, at=now):
        return
    event = subject_event(ids("evt"), ENDPOINT_DISABLED, endpoint_id, now, {"reason": why})
    await emit(tx, event, tenant_id=endpoint.tenant_id, ids=ids, at=now)
    log.warning("webhook_endpoint.disabled", endpoint_id=endpoint_id, reason=why)


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
