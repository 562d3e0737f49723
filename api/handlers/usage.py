"""`GET /v1/usage` and `/admin/usage`: what was used, in groups, as JSON or CSV."""

from litestar import get
from litestar.di import NamedDependency, Provide

from api.asgi import AnyRequest
from api.download import Download
from api.edge import Edge
from api.handlers.admin import only_master
from api.reports import Only, Query, answer, query_of
from shared.identity import Principal

_QUERY = {"wanted": Provide(query_of, sync_to_thread=False)}


@get(
    "/v1/usage",
    operation_id="get_usage",
    summary="What your tenant has used",
    dependencies=_QUERY,
)
async def get_usage(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    wanted: NamedDependency[Query],
) -> Download:
    """Return totals of `[since, until)`; by default the last 30 days up to now.

    With `group_by` the groups come after them as `data`, in order and however many. Costs are USD
    as decimal text, from integer nano-dollars. `unpriced_attempts` were made on models without a
    known price and are not in the cost; `estimated_attempts` had no usage from their provider.
    `cache_hits` and `saved_usd` are what kept answers have saved, by whole hours: they are in no
    other figure, and null in groups and under filters by which it is not known. Days are the time
    zone's, hours UTC's.
    """
    return await answer(edge, wanted.of_tenant(principal.tenant_id))


@get(
    "/admin/usage",
    operation_id="get_all_usage",
    summary="What all tenants have used",
    dependencies=_QUERY,
)
async def get_all_usage(
    edge: NamedDependency[Edge],
    request: AnyRequest,
    wanted: NamedDependency[Query],
    tenant: Only = None,
) -> Download:
    """Return the same of all tenants, or of one."""
    only_master(edge, request)
    return await answer(edge, wanted.of_tenant(tenant))


HANDLERS = (get_usage, get_all_usage)
