"""`/v1/jobs/{id}/events`: a streamed job while it runs, and again afterwards."""

from typing import Annotated

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from api.asgi import AnyRequest
from api.auth import header_map
from api.call import text_header
from api.edge import Edge
from api.feed import Feed, Followed
from api.in_time import in_time
from shared.errors import InvalidRequest
from shared.identity import Principal

LAST_EVENT_ID = b"last-event-id"


@get(
    "/v1/jobs/{job_id:str}/events",
    operation_id="follow_job",
    summary="Follow a streamed job",
)
async def follow_job(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    request: AnyRequest,
    job_id: FromPath[str],
    starting_after: Annotated[
        int | None, QueryParameter(ge=-1, description="the number of the last event seen")
    ] = None,
) -> Response[bytes]:
    """Stream the events of the job's call as they come; each has its number as its id.

    `Last-Event-ID` goes on after that one, over restarts and from another process too. Once the
    job has ended and all is told, 204 says that there is nothing to come back for.

    Raises:
        NotFound: the tenant has no such job.
        InvalidRequest: it was not submitted with `stream: true`, or the number is none.
    """
    after = _number(text_header(header_map(request.scope["headers"]), LAST_EVENT_ID))
    if after is None:
        after = -1 if starting_after is None else starting_after
    async with in_time(edge.clock):
        row = await edge.async_calls.row(principal.tenant_id, job_id)
    if not row.streamed:
        raise InvalidRequest("Only a job submitted with `stream: true` has events.")
    feed = Feed(edge.runtime.store, edge.clock, edge.closing, row, numbered=True)
    if await feed.is_over(after):
        return Response(b"", status_code=204)
    return Followed(feed.after(after))


def _number(told: str | None) -> int | None:
    if told is None or told == "":
        return None
    if not (told.isascii() and told.isdecimal()):
        raise InvalidRequest("Last-Event-ID must be the number of an event.", param="Last-Event-ID")
    return int(told)


HANDLERS = (follow_job,)
