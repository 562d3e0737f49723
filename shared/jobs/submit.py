"""Accepting a job: one transaction, then a ring."""

from collections.abc import Awaitable, Callable

import msgspec

from shared.clock import Clock
from shared.errors import InvalidRequest, OwnFault
from shared.identity import Principal
from shared.ids import IdMaker
from shared.jobs.room import Room
from shared.jobs.terms import Wishes, check_terms
from shared.queue.bell import Bell
from shared.queue.tasks import jobs_topic
from shared.store.engine import Store, Tx
from shared.store.jobs import get_job, insert_job
from shared.store.records import JobRow, NewJob
from shared.telemetry.log import get_logger

ENDPOINTS = frozenset({
    "/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/v1/responses",
    "/v1/completions", "/v1/moderations", "/v1/images/generations", "/v1/rerank",
})  # fmt: skip
"""The calls that can be jobs."""

log = get_logger(__name__)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A call to be made later: `body` is the endpoint's own JSON, already parsed once.

    `headers` are those of the caller that its provider is to see or that rules of routes ask for,
    names in lower case. `streamed`: its events are kept while it runs. `response_id` is that of a
    response in the background.
    """

    endpoint: str
    body: bytes
    request_id: str
    wishes: Wishes = Wishes()
    tags: dict[str, str] = {}
    user: str | None = None
    batch_id: str | None = None
    model: str | None = None
    headers: dict[str, str] = {}
    streamed: bool = False
    response_id: str | None = None


async def submit(
    store: Store,
    bell: Bell,
    ids: IdMaker,
    *,
    clock: Clock,
    principal: Principal,
    order: Order,
    room: Room,
    also: Callable[[Tx, NewJob], Awaitable[None]] | None = None,
) -> JobRow:
    """Commit the job, ring, and return it. Once this returns, the job reaches a final state.

    `room` is the process's. A broker that is away changes nothing.
    `also` is done in the same transaction; when it raises, there is no job.

    Raises:
        InvalidRequest: the endpoint or a term is wrong; `param` names it.
        QueueFull: the tenant or the class has as many jobs as it may.
        StoreUnavailable: nothing was accepted.
    """
    job = new_job(ids, clock=clock, principal=principal, order=order)
    async with store.write() as tx:
        await room.check(tx, job)
        await insert_job(tx, job, await tx.now())
        if also is not None:
            await also(tx, job)
        row = await get_job(tx, job.tenant_id, job.id)
    if row is None:
        raise OwnFault("the job vanished while it was inserted")
    if row.status == "queued":
        bell.ring(jobs_topic(row.priority))
    log.info("job.submitted", job_id=row.id, priority=row.priority, status=row.status)
    return row


def new_job(ids: IdMaker, *, clock: Clock, principal: Principal, order: Order) -> NewJob:
    """Return the row of an order.

    Raises:
        InvalidRequest: the endpoint or a term is wrong; `param` names it.
    """
    if order.endpoint not in ENDPOINTS:
        raise InvalidRequest(
            f"endpoint must be one of {', '.join(sorted(ENDPOINTS))}.", param="endpoint"
        )
    terms = check_terms(order.wishes, clock.now())
    return NewJob(
        id=ids("job"),
        tenant_id=principal.tenant_id,
        key_id=principal.key_id,
        request_id=order.request_id,
        endpoint=order.endpoint,
        body=order.body,
        priority=terms.priority,
        metadata=terms.metadata,
        tags=order.tags,
        user=order.user,
        webhook_url=terms.webhook_url,
        deadline=terms.deadline,
        not_before=terms.not_before,
        batch_id=order.batch_id,
        model=order.model,
        headers=order.headers,
        streamed=order.streamed,
        response_id=order.response_id,
        on_budget=terms.on_budget,
    )
