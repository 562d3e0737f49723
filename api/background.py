"""`background: true` on `/v1/responses`: a job that its caller knows as a response."""

from collections.abc import AsyncIterator, Mapping

from api.async_calls import AsyncCalls
from api.call import tags, text_header
from api.closing import Closing
from api.feed import Feed
from api.in_time import in_time
from shared.errors import InvalidRequest, NotFound
from shared.identity import Principal
from shared.jobs import response
from shared.jobs.background import Basis, begin
from shared.jobs.cancel import cancel
from shared.jobs.state import FINAL
from shared.jobs.submit import Order
from shared.jobs.terms import Wishes
from shared.providers.request import InferenceRequest
from shared.runtime import Runtime
from shared.store.records import JobRow
from shared.store.responses import get_response, job_of_response


class Background:
    """Begins, reads, follows and cancels the background responses of one process's callers."""

    def __init__(self, runtime: Runtime, async_calls: AsyncCalls, closing: Closing) -> None:
        self._runtime = runtime
        self._async_calls = async_calls
        self._closing = closing

    async def accept(
        self,
        principal: Principal,
        request: InferenceRequest,
        basis: Basis,
        headers: Mapping[bytes, bytes],
        request_id: str,
    ) -> JobRow:
        """Commit the job and its response together.

        Raises:
            ModelNotFound, InvalidRequest, QueueFull, StoreUnavailable: nothing was accepted.
        """
        self._runtime.gateway.check(principal, request.head.model)
        order = Order(
            endpoint=request.endpoint,
            body=request.raw,
            request_id=request_id,
            wishes=Wishes(
                priority=text_header(headers, b"x-sluiceway-priority"),
                deadline=text_header(headers, b"x-sluiceway-deadline"),
                webhook_url=text_header(headers, b"x-sluiceway-webhook"),
            ),
            tags=tags(headers),
            user=request.user or text_header(headers, b"x-sluiceway-user"),
            model=request.head.model,
            headers=self._async_calls.rule_headers(headers),
            streamed=request.stream,
            response_id=self._runtime.ids("resp"),
        )
        async with in_time(self._runtime.clock):
            return await self._async_calls.accept(principal, order, begin(basis))

    async def read(self, tenant_id: str, response_id: str) -> bytes:
        """Return a response as it stands, one that was not made in the background too.

        Raises:
            NotFound: the tenant has none of that id.
        """
        async with in_time(self._runtime.clock), self._runtime.store.read() as tx:
            found = await get_response(tx, tenant_id, response_id)
            if found is not None and response.is_open(found.body):
                job = await job_of_response(tx, tenant_id, response_id)
                if job is not None and job.status not in FINAL:
                    return response.standing(found.body, job.status)
                found = await get_response(tx, tenant_id, response_id)  # it has just ended
        if found is None:
            raise unknown(response_id)
        return found.body

    async def cancel(self, tenant_id: str, response_id: str) -> bytes:
        """Return the response after the wish to cancel it; asking twice changes nothing.

        Raises:
            NotFound: the tenant has none of that id.
            InvalidRequest: it was not made in the background.
        """
        body = await self.read(tenant_id, response_id)
        job = await self._job(tenant_id, response_id)
        if job is None:
            raise InvalidRequest("Only a response that runs in the background can be cancelled.")
        if job.status in FINAL:
            return body
        runtime = self._runtime
        async with in_time(runtime.clock):
            await cancel(
                runtime.store, runtime.bell, runtime.ids, tenant_id=tenant_id, job_id=job.id
            )
        return await self.read(tenant_id, response_id)

    async def give_up(self, tenant_id: str, response_id: str) -> None:
        """Cancel the making of a response that its caller no longer wants, if it is being made."""
        job = await self._job(tenant_id, response_id)
        if job is not None and job.status not in FINAL:
            await self.cancel(tenant_id, response_id)

    async def follow(self, tenant_id: str, response_id: str, after: int) -> AsyncIterator[bytes]:
        """Return the events of a response numbered above `after`.

        Raises:
            NotFound: the tenant has none of that id.
            InvalidRequest: it was not basis for as a stream in the background.
        """
        await self.read(tenant_id, response_id)
        job = await self._job(tenant_id, response_id)
        if job is None or not job.streamed:
            raise InvalidRequest(
                "Only a response made with `background` and `stream` is streamed again.",
                param="stream",
            )
        return self.events(job, after)

    def events(self, job: JobRow, after: int = -1) -> AsyncIterator[bytes]:
        """Return the events of a job numbered above `after`."""
        return Feed(self._runtime.store, self._runtime.clock, self._closing, job).after(after)

    async def _job(self, tenant_id: str, response_id: str) -> JobRow | None:
        async with in_time(self._runtime.clock), self._runtime.store.read() as tx:
            return await job_of_response(tx, tenant_id, response_id)


def unknown(response_id: str) -> NotFound:
    """Return what is said of a response that is not there."""
    return NotFound(f"Response with id '{response_id}' not found.")
