"""Calls that become jobs, and waiting for them: what the job handlers and `Prefer` share."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import msgspec
from litestar.types import Receive

from api.call import Preference, named_headers, tags, text_header
from api.closing import Closing
from api.connection import while_connected
from api.errors import body_of, status_of
from api.idempotency import current
from api.in_time import in_time
from shared.clock import Deadline
from shared.errors import InvalidRequest, NotFound, StoreUnavailable
from shared.gateway.parse import ENDPOINTS, whole
from shared.identity import Principal
from shared.jobs.object import MOST_ATTEMPTS, JobObject, job_object, usd
from shared.jobs.results import with_answer
from shared.jobs.room import Room
from shared.jobs.state import FINAL
from shared.jobs.stream.fold import FOLDS
from shared.jobs.submit import Order, submit
from shared.jobs.terms import Wishes
from shared.providers.request import InferenceRequest
from shared.runtime import Runtime
from shared.store.backlog import queue_position
from shared.store.engine import Tx
from shared.store.idempotency import Earlier
from shared.store.jobs import attempts_of, get_job
from shared.store.records import JobRow, NewJob
from shared.webhooks.egress import networks
from shared.webhooks.terms import address_mistake

LOOK_S = 0.1
LATER_LOOK_S = 0.25
ANSWER_S = 20.0
"""For reading an answer from the object store; the largest have some 30 MB."""
TOLD_S = 0.5
"""For reading what else there is to tell of a job that has just been accepted."""
SOON_S = 1.0
"""A waiting caller's job is looked at every LOOK_S for this long, then every LATER_LOOK_S."""

Headers = list[tuple[bytes, bytes]]
Beside = Callable[[Tx, NewJob], Awaitable[None]]


class AsyncCalls:
    """Submits, reads and waits for jobs of one process's callers."""

    def __init__(self, runtime: Runtime, closing: Closing) -> None:
        self._runtime = runtime
        self._room = Room(runtime.config.queue, runtime.clock)
        self._closing = closing

    async def submit(
        self,
        principal: Principal,
        request: InferenceRequest,
        headers: Mapping[bytes, bytes],
        request_id: str,
        asked: Preference,
        receive: Receive,
    ) -> tuple[int, bytes, Headers]:
        """Accept an inference call as a job: 202 and the job, or its answer when it came in time.

        Raises:
            InvalidRequest, QueueFull, StoreUnavailable: nothing was accepted.
        """
        self._runtime.gateway.check(principal, request.head.model)
        streamed = keeps_events(request)
        order = Order(
            endpoint=request.endpoint,
            body=request.raw if streamed else whole(request).raw,
            request_id=request_id,
            wishes=Wishes(
                priority=text_header(headers, b"x-sluiceway-priority"),
                deadline=text_header(headers, b"x-sluiceway-deadline"),
                webhook_url=text_header(headers, b"x-sluiceway-webhook"),
            ),
            tags=tags(headers),
            user=request.user or text_header(headers, b"x-sluiceway-user"),
            model=request.head.model,
            headers={**self.rule_headers(headers), **request.headers},
            streamed=streamed,
        )
        async with in_time(self._runtime.clock):
            row = await self.accept(principal, order)
        # It will be done: from here on the caller hears of it, whatever cannot be read.
        if asked.wait_s:
            with while_connected(receive), suppress(StoreUnavailable):
                row = await self.settled(principal.tenant_id, row.id, asked.wait_s)
        extra: Headers = [
            (b"preference-applied", asked.applied.encode()),
            (b"x-sluiceway-job", row.id.encode()),
        ]
        if row.status in FINAL:
            with suppress(StoreUnavailable):
                status, body, more = result_of(await self.answered(row))
                return status, body, extra + more
        extra.append((b"location", b"/v1/jobs/" + row.id.encode()))
        return 202, msgspec.json.encode(await self.told(row)), extra

    def rule_headers(self, headers: Mapping[bytes, bytes]) -> dict[str, str]:
        """Return the headers that rules of routes ask for, to be kept with a job."""
        return named_headers(headers, self._runtime.gateway.kit.catalog.rule_headers)

    async def accept(
        self, principal: Principal, order: Order, beside: Beside | None = None
    ) -> JobRow:
        """Commit a job and ring; what its caller named stands for it then.

        `beside` is written in the same transaction.

        Raises:
            InvalidRequest, QueueFull, StoreUnavailable: nothing was accepted.
        """
        runtime, once = self._runtime, current()
        self._check_webhook(order.wishes.webhook_url)

        async def also(tx: Tx, job: NewJob) -> None:
            if beside is not None:
                await beside(tx, job)
            if once is not None:
                await once.bind(tx, job)

        return await submit(
            runtime.store,
            runtime.bell,
            runtime.ids,
            clock=runtime.clock,
            principal=principal,
            order=order,
            room=self._room,
            also=also,
        )

    def _check_webhook(self, url: object) -> None:
        """Refuse an address that is never sent to; everything else is for the terms to say."""
        allowed = networks(self._runtime.config.webhooks.allow_networks)
        mistake = address_mistake(url, allowed) if isinstance(url, str) else None
        if mistake is not None:
            raise InvalidRequest(f"webhook_url {mistake}.", param="webhook_url")

    async def again(self, tenant_id: str, earlier: Earlier) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers of what a named call was answered before.

        A job whose answer was never sent whole is shown as it stands.

        Raises:
            NotFound: the job has been deleted since.
        """
        if earlier.body is not None or earlier.job_id is None:
            return earlier.status or 200, earlier.body or b"", dict(earlier.headers)
        async with in_time(self._runtime.clock):
            shown = await self.shown(await self.row(tenant_id, earlier.job_id))
        headers = {"location": f"/v1/jobs/{shown.id}", "x-sluiceway-job": shown.id}
        return 202, msgspec.json.encode(shown), headers

    async def row(self, tenant_id: str, job_id: str) -> JobRow:
        """Return the tenant's job.

        Raises:
            NotFound: no such job of this tenant.
        """
        async with self._runtime.store.read() as tx:
            row = await get_job(tx, tenant_id, job_id)
        if row is None:
            raise NotFound(f"No job '{job_id}'.")
        return row

    async def settled(self, tenant_id: str, job_id: str, wait_s: float) -> JobRow:
        """Return the job as soon as it is final, or as it stands after `wait_s` seconds.

        When this process is about to end it is returned as it stands then.
        """
        clock = self._runtime.clock
        deadline = Deadline.after(wait_s, clock)
        while True:
            async with in_time(clock):
                row = await self.row(tenant_id, job_id)
            left_s = deadline.left_s(clock)
            if row.status in FINAL or left_s <= 0 or self._closing.over:
                return row
            look_s = LOOK_S if wait_s - left_s < SOON_S else LATER_LOOK_S
            await clock.sleep(min(look_s, left_s))

    async def answered(self, row: JobRow) -> JobRow:
        """Return the job with its answer, also where that is too large for the database.

        Raises:
            OwnFault: it is gone.
            StoreUnavailable: it cannot be read now.
        """
        async with in_time(self._runtime.clock, ANSWER_S):
            return await with_answer(self._runtime.objects, row)

    async def shown(self, row: JobRow) -> JobObject:
        """Return the job object with its attempts and its place in the queue."""
        async with self._runtime.store.read() as tx:
            attempts = await attempts_of(tx, row.id, last=MOST_ATTEMPTS)
            position = await queue_position(tx, row)
            starts_at = await self._room.starts_at(tx, row, position)
        return job_object(
            row, attempts=attempts, queue_position=position, estimated_start=starts_at
        )

    async def told(self, row: JobRow) -> JobObject:
        """Return the object of a job that has just been accepted, whatever else cannot be read.

        A caller who does not hear of it would submit it again.
        """
        try:
            async with in_time(self._runtime.clock, TOLD_S):
                return await self.shown(row)
        except StoreUnavailable:
            return job_object(row)

    async def listed(self, rows: Sequence[JobRow]) -> list[JobObject]:
        """Return the job objects of a page: without what has to be counted for each."""
        async with self._runtime.store.read() as tx:
            return [
                job_object(row, attempts=await attempts_of(tx, row.id, last=MOST_ATTEMPTS))
                for row in rows
            ]


def keeps_events(request: InferenceRequest) -> bool:
    """Return whether a job of this call tells its answer while it is made."""
    return request.stream and request.endpoint in FOLDS


def result_of(row: JobRow) -> tuple[int, bytes, Headers]:
    """Return what the sync call would have answered, for a job that has ended."""
    extra: Headers = []
    if row.cost_nanousd is not None:
        extra.append((b"x-sluiceway-cost-usd", bytes(usd(row.cost_nanousd))))
    if row.status == "succeeded" and row.response_body is not None:
        return row.response_status or 200, row.response_body, extra
    failure = row.error or {"code": row.status, "message": f"The job {row.status}."}
    dialect = ENDPOINTS[row.endpoint].dialect if row.endpoint in ENDPOINTS else "openai"
    body = body_of(failure, dialect, row.request_id)
    return status_of(failure, dialect), body, [*extra, (b"x-should-retry", b"false")]
