"""`/v1/webhook_endpoints/{id}/…`: try an endpoint out, see what it was sent, send it again."""

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from api.answers import json_of, page_of
from api.asgi import AnyRequest
from api.edge import Edge
from api.handlers.subscribers import both, decoded, found, on_both
from api.in_time import in_time
from shared.errors import Conflict, InvalidRequest, NotFound
from shared.jobs.terms import moment
from shared.queue.tasks import DELIVERIES
from shared.store.delivery_log import (
    AT_ONCE,
    LoggedDelivery,
    Wanted,
    deliver_again,
    delivery_log,
    repeatable,
)
from shared.store.endpoints import EndpointRow
from shared.store.records import DeliveryAttempt, DeliveryRow, EventRow
from shared.store.webhooks import NewDelivery, insert_event, take_delivery
from shared.webhooks.attempt import PostOffice, try_out
from shared.webhooks.event import ENDPOINT_TEST, subject_event
from shared.webhooks.terms import checked_types

MAX_LIMIT = 100
STATUSES = ("pending", "delivering", "succeeded", "failed")

TEST_S = 8.0
"""For the receiver of a test: somebody waits for it."""
TEST_LEASE_S = 30.0

MOST_REPEATED = 10_000
"""Events of one call; a longer range is several calls."""


class Test(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that asks for a sample."""

    event_type: str = ENDPOINT_TEST


class Redelivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that says which events are to go out again: all that fit what is given."""

    delivery_id: str | None = None
    event_id: str | None = None
    since: Any = None
    until: Any = None
    failed: bool = False


@post(
    both("/webhook_endpoints/{endpoint_id:str}/test"),
    operation_id=on_both("test_webhook_endpoint"),
    summary="Send a sample event",
    status_code=200,
)
async def test_endpoint(
    edge: NamedDependency[Edge],
    subscriber: NamedDependency[str],
    request: AnyRequest,
    endpoint_id: FromPath[str],
) -> dict[str, Any]:
    """Send a signed sample now, once, and return the status it was answered with.

    Raises:
        InvalidRequest: there is no such event type, or the endpoint could not be reached.
    """
    asked = await decoded(edge, request, Test)
    (event_type,) = checked_types(subscriber, [asked.event_type], param="event_type")
    async with in_time(edge.clock):
        delivery = await _sample(edge, subscriber, endpoint_id, event_type)
    outcome = await try_out(delivery, _hasty(edge.runtime.post_office))
    if outcome.status_code is None:
        raise InvalidRequest(f"The endpoint could not be reached: {outcome.error}.", param="url")
    return {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": endpoint_id,
        "event_type": event_type,
        "status_code": outcome.status_code,
        "success": True,
    }


@get(
    both("/webhook_endpoints/{endpoint_id:str}/deliveries"),
    operation_id=on_both("list_deliveries"),
    summary="What an endpoint was sent",
)
async def list_own_deliveries(
    edge: NamedDependency[Edge],
    subscriber: NamedDependency[str],
    endpoint_id: FromPath[str],
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = 20,
    after: FromQuery[str | None] = None,
    status: FromQuery[str | None] = None,
) -> Response[bytes]:
    """Return a page of deliveries, newest first, with every attempt and its answer's beginning.

    Raises:
        InvalidRequest: there is no such status.
    """
    if status is not None and status not in STATUSES:
        raise InvalidRequest(f"status must be one of {', '.join(STATUSES)}.", param="status")
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        await found(tx, subscriber, endpoint_id)
        log = await delivery_log(tx, endpoint_id, limit=limit + 1, after=after, status=status)
    return json_of(page_of([_view(one) for one in log[:limit]], more=len(log) > limit))


@post(
    both("/webhook_endpoints/{endpoint_id:str}/redeliver"),
    operation_id=on_both("redeliver_events"),
    summary="Deliver events again",
    status_code=200,
)
async def redeliver(
    edge: NamedDependency[Edge],
    subscriber: NamedDependency[str],
    request: AnyRequest,
    endpoint_id: FromPath[str],
) -> dict[str, Any]:
    """Deliver events again that the endpoint was sent within 30 days: one, a range, all failed.

    Each keeps its id. One that waits for its next attempt goes out now, with a new schedule only
    if it had been given up.

    Raises:
        InvalidRequest: nothing says which, or it is more than 10,000 events.
        NotFound: the one event that was named was never sent there.
        Conflict: the endpoint is disabled.
    """
    wanted = _wanted(await decoded(edge, request, Redelivery))
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        row = await found(tx, subscriber, endpoint_id)
        event_ids = await repeatable(tx, endpoint_id, wanted, limit=MOST_REPEATED + 1)
    if row.disabled_at is not None:
        raise Conflict(f"Webhook endpoint '{endpoint_id}' is disabled; enable it first.")
    if len(event_ids) > MOST_REPEATED:
        raise InvalidRequest(f"These are more than {MOST_REPEATED} events; narrow the range.")
    if not event_ids and (wanted.event_id or wanted.delivery_id):
        raise NotFound("The endpoint was not sent that event, or it was too long ago.")
    for at in range(0, len(event_ids), AT_ONCE):
        async with in_time(edge.clock), edge.runtime.store.write() as tx:
            await deliver_again(
                tx,
                endpoint_id=endpoint_id,
                event_ids=event_ids[at : at + AT_ONCE],
                ids=edge.ids,
                at=await tx.now(),
            )
    edge.runtime.bell.ring(DELIVERIES)
    return {
        "object": "webhook_endpoint.redelivery",
        "webhook_endpoint_id": endpoint_id,
        "count": len(event_ids),
    }


async def _sample(edge: Edge, tenant_id: str, endpoint_id: str, event_type: str) -> DeliveryRow:
    """Write a sample event down, held by this process."""
    async with edge.runtime.store.write() as tx:
        row: EndpointRow = await found(tx, tenant_id, endpoint_id)
        now = await tx.now()
        subject = f"{event_type.partition('.')[0]}_test"
        event = subject_event(edge.ids("evt"), event_type, subject, now)
        new = NewDelivery(id=edge.ids("dlv"), url=row.url, endpoint_id=row.id)
        kept = EventRow(
            id=event.id, tenant_id=tenant_id, type=event_type, created_at=now, body=event.body
        )
        await insert_event(tx, kept, [new], now)
        until = now + timedelta(seconds=TEST_LEASE_S)
        return await take_delivery(tx, new.id, owner=edge.runtime.owner, until=until)


def _hasty(office: PostOffice) -> PostOffice:
    post = msgspec.structs.replace(office.post, timeout_s=TEST_S)
    return msgspec.structs.replace(office, post=post)


def _wanted(asked: Redelivery) -> Wanted:
    if asked == Redelivery():
        raise InvalidRequest("Say which: delivery_id, event_id, since, until or failed.")
    return Wanted(
        delivery_id=asked.delivery_id,
        event_id=asked.event_id,
        since=None if asked.since is None else moment(asked.since, "since"),
        until=None if asked.until is None else moment(asked.until, "until"),
        failed=asked.failed,
    )


def _view(one: LoggedDelivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "object": "webhook_delivery",
        "event_id": one.event_id,
        "event_type": one.event_type,
        "event_created_at": int(one.created_at.timestamp()),
        "status": one.status,
        "next_attempt_at": None if one.next_at is None else int(one.next_at.timestamp()),
        "error": one.last_error,
        "attempts": [_attempt(attempt) for attempt in one.attempts],
    }


def _attempt(attempt: DeliveryAttempt) -> dict[str, Any]:
    return {
        "at": int(attempt.at.timestamp()),
        "status_code": attempt.status_code,
        "latency_ms": attempt.duration_ms,
        "error": attempt.error,
        "answer_head": attempt.answer_head.decode(errors="replace"),
    }


HANDLERS = (test_endpoint, list_own_deliveries, redeliver)
