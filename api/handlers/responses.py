"""`/v1/responses/{id}`: reading and deleting what a call has kept."""

from typing import Annotated, Any, Literal

from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from api.answers import json_of, page_of
from api.background import unknown
from api.edge import Edge
from api.feed import Followed
from api.in_time import in_time
from shared.identity import Principal
from shared.store.responses import delete_response

MAX_LIMIT = 100


@get("/v1/responses/{response_id:str}", operation_id="get_response", summary="Read a response")
async def get_own_response(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    response_id: FromPath[str],
    stream: FromQuery[bool | None] = None,
    starting_after: Annotated[
        int, QueryParameter(ge=-1, description="the number of the last event seen")
    ] = -1,
) -> Response[bytes]:
    """Return a response that was stored within the last 30 days, or that is still being made.

    `stream` gives the events of one that was made in the background as a stream, as far as they
    come after `starting_after`; it goes on until the response has ended.

    Raises:
        NotFound: the tenant has none of that id.
        InvalidRequest: it is to be streamed, but was not asked for as a stream.
    """
    tenant_id = principal.tenant_id
    if stream:
        return Followed(await edge.background.follow(tenant_id, response_id, starting_after))
    return _json(await edge.background.read(tenant_id, response_id))


@delete(
    "/v1/responses/{response_id:str}",
    operation_id="delete_response",
    summary="Delete a response",
    status_code=200,
)
async def delete_own_response(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], response_id: FromPath[str]
) -> dict[str, Any]:
    """Delete a response; its ledger rows stay. Others that go on from it still can.

    One that is still being made is cancelled.

    Raises:
        NotFound: the tenant has none of that id.
    """
    await edge.background.give_up(principal.tenant_id, response_id)
    async with in_time(edge.clock), edge.runtime.store.write() as tx:
        deleted = await delete_response(tx, principal.tenant_id, response_id)
    if not deleted:
        raise unknown(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@get(
    "/v1/responses/{response_id:str}/input_items",
    operation_id="list_input_items",
    summary="List what a response was made from",
)
async def list_input_items(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    response_id: FromPath[str],
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = 20,
    order: FromQuery[Literal["asc", "desc"]] = "desc",
    after: FromQuery[str | None] = None,
) -> Response[bytes]:
    """Return a page of the items, those of earlier turns too; `after` is the last one before it.

    Raises:
        NotFound: the tenant has no response of that id.
    """
    items = await edge.responses.items(principal.tenant_id, response_id)
    if items is None:
        raise unknown(response_id)
    if order == "desc":
        items.reverse()
    if after is not None:
        places = [place for place, item in enumerate(items) if item.get("id") == after]
        items = items[places[0] + 1 :] if places else []
    page = items[:limit]
    return json_of(page_of(page, more=len(items) > limit))


@post(
    "/v1/responses/{response_id:str}/cancel",
    operation_id="cancel_response",
    summary="Cancel a response that runs in the background",
    status_code=200,
)
async def cancel_response(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], response_id: FromPath[str]
) -> Response[bytes]:
    """Cancel a response; asking twice changes nothing, and one that has ended stays as it is.

    Raises:
        NotFound: the tenant has none of that id.
        InvalidRequest: it was not made in the background.
    """
    return _json(await edge.background.cancel(principal.tenant_id, response_id))


def _json(body: bytes) -> Response[bytes]:
    return Response(body, media_type="application/json")


HANDLERS = (get_own_response, delete_own_response, list_input_items, cancel_response)
