"""`/admin/cache`: forgetting kept answers; behind the master key."""

from typing import Annotated, Any

from litestar import delete
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.asgi import AnyRequest
from api.edge import Edge
from api.handlers.admin import only_master
from shared.cache.entry import CacheAway
from shared.errors import StoreUnavailable
from shared.gateway.caching import CachingGateway
from shared.telemetry.log import get_logger

log = get_logger("api")


@delete(
    "/admin/cache", operation_id="forget_answers", summary="Forget kept answers", status_code=200
)
async def forget_answers(
    edge: NamedDependency[Edge],
    request: AnyRequest,
    tenant: Annotated[str | None, QueryParameter(description="Only those of a tenant")] = None,
    model: Annotated[str | None, QueryParameter(description="Only those of a route")] = None,
) -> dict[str, Any]:
    """Forget the answers of a tenant, of a model, of both, or all of them.

    Answers to questions that are being asked now are not kept either. `deleted` counts those that
    were found; of answers in memory each process has its own, and counts only them.
    """
    only_master(edge, request)
    deleted = 0
    if isinstance(edge.gateway, CachingGateway):
        try:
            deleted = await edge.gateway.forget(tenant=tenant, model=model)
        except (CacheAway, OSError) as error:
            raise StoreUnavailable(
                "The cache does not answer, so some answers may be left; try again."
            ) from error
        log.info("cache.forgotten", tenant_id=tenant, model=model, deleted=deleted)
    return {"object": "cache.deleted", "tenant": tenant, "model": model, "deleted": deleted}


HANDLERS = (forget_answers,)
