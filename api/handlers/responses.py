"""`/v1/responses/{id}`: reading and deleting what a call has kept."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from api.edge import Edge
from api.in_time import in_time
from shared.errors import InvalidRequest, NotFound, UnsupportedParameter
from shared.identity import Principal
from shared.store.responses import delete_response, get_response

MAX_LIMIT = 100


@get("/v1/responses/{response_id:str}", operation_id="get_response", summary="Read a response")
async def get_own_response(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    response_id: FromPath[str],
    stream: FromQuery[bool | None] = None,
) -> Response[bytes]:
    """Return a response that was stored within the last 30 days.

    Raises:
        NotFound: the tenant has none of that id.
        UnsupportedParameter: it is to be streamed once more.
    """
    if stream:
        raise UnsupportedParameter("A stored response is not streamed again.", param="stream")
    return Response(await _body(edge, principal, response_id), media_type="application/json")


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

    Raises:
        NotFound: the tenant has none of that id.
    """
    async with in_time(edge.clock), edge.runtime.store.write() as tx:
        deleted = await delete_response(tx, principal.tenant_id, response_id)
    if not deleted:
        raise _unknown(response_id)
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
        raise _unknown(response_id)
    if order == "desc":
        items.reverse()
    if after is not None:
        places = [place for place, item in enumerate(items) if item.get("id") == after]
        items = items[places[0] + 1 :] if places else []
    page = items[:limit]
    body = {
        "object": "list",
        "data": page,
        "first_id": page[0].get("id") if page else None,
        "last_id": page[-1].get("id") if page else None,
        "has_more": len(items) > limit,
    }
    return Response(msgspec.json.encode(body), media_type="application/json")


@post(
    "/v1/responses/{response_id:str}/cancel",
    operation_id="cancel_response",
    summary="Cancel a response that runs in the background",
    status_code=200,
)
async def cancel_response(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], response_id: FromPath[str]
) -> Response[bytes]:
    """Refuse: what can be read here has ended.

    Raises:
        NotFound: the tenant has none of that id.
        InvalidRequest: it has one.
    """
    await _body(edge, principal, response_id)
    raise InvalidRequest("Only a response that runs in the background can be cancelled.")


async def _body(edge: Edge, principal: Principal, response_id: str) -> bytes:
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        found = await get_response(tx, principal.tenant_id, response_id)
    if found is None:
        raise _unknown(response_id)
    return found.body


def _unknown(response_id: str) -> NotFound:
    return NotFound(f"Response with id '{response_id}' not found.")


HANDLERS = (get_own_response, delete_own_response, list_input_items, cancel_response)
