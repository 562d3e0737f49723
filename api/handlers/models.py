"""`GET /v1/models` and `/v1/models/{id}`: what this key may ask for, in its caller's dialect.

Which of them is told by the `anthropic-version` header, which Anthropic's SDKs always send.
"""

from typing import Annotated, Any

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from api import anthropic_models
from api.asgi import AnyRequest
from api.auth import header_map
from api.call import dialect_of
from api.edge import Edge
from api.errors import ANTHROPIC
from shared.identity import Principal

CREATED = 1767225600
"""The routes have no birthday: the first second of 2026, so that clients may sort."""


@get("/v1/models", operation_id="list_models", summary="List models")
async def list_models(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    request: AnyRequest,
    limit: Annotated[
        int,
        QueryParameter(ge=1, le=anthropic_models.MAX_LIMIT, description="Anthropic's form only"),
    ] = 20,
    after_id: FromQuery[str | None] = None,
    before_id: FromQuery[str | None] = None,
) -> dict[str, Any]:
    """Return the models this key may use by name, in Anthropic's form a page of them.

    Raises:
        InvalidRequest: `after_id` or `before_id` is no model's.
    """
    names = edge.gateway.models(principal)
    if _is_anthropic(request):
        return anthropic_models.page(
            names, created_s=CREATED, limit=limit, after=after_id, before=before_id
        )
    return {"object": "list", "data": [_model(edge, name) for name in names]}


@get("/v1/models/{model:path}", operation_id="get_model", summary="Retrieve a model")
async def get_model(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    request: AnyRequest,
    model: FromPath[str],
) -> dict[str, Any]:
    """Return one model; names may hold slashes.

    Raises:
        ModelNotFound: none of that name that this key may use.
    """
    name = model.removeprefix("/")
    edge.gateway.check(principal, name)
    if _is_anthropic(request):
        return anthropic_models.model(name, created_s=CREATED)
    return _model(edge, name)


def _is_anthropic(request: AnyRequest) -> bool:
    return dialect_of(header_map(request.scope["headers"])) == ANTHROPIC


def _model(edge: Edge, name: str) -> dict[str, Any]:
    route = edge.gateway.kit.catalog.routes.find(name)
    owner = name.partition("/")[0] if route is None else route.choices[0][0].target.provider
    return {"id": name, "object": "model", "created": CREATED, "owned_by": owner}


HANDLERS = (list_models, get_model)
