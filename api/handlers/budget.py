"""`GET /v1/budget`: how much the key may still spend."""

from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.edge import Edge
from api.in_time import in_time
from shared.identity import Principal
from shared.ledger.cost import usd_text
from shared.ledger.showing import standing_of


@get("/v1/budget", operation_id="get_budget", summary="What your key may still spend")
async def get_budget(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    user: Annotated[str | None, QueryParameter(description="Whose own budgets to add")] = None,
) -> Response[bytes]:
    """Return each budget around the key's calls, in its window of the moment.

    Amounts are USD as decimal text, moments epoch seconds. Calls of the last second may not be in
    it yet. `applies_to` says which calls a budget counts; a call needs room in all that do. Of a
    budget `shared` with other tenants only what remains is told. `estimated_requests_left` goes by
    `mean_request_usd`, what the key's requests cost of late.
    """
    async with in_time(edge.clock):
        found = await standing_of(edge.runtime.store, edge.budgets, edge.holds, principal, user)
    mean = found.mean_nanousd
    shown: dict[str, Any] = {
        "object": "list",
        "mean_request_usd": None if mean is None else usd_text(mean),
        "data": found.budgets,
    }
    return Response(msgspec.json.encode(shown), media_type="application/json")


HANDLERS = (get_budget,)
