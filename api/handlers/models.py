"""`GET /v1/models` and `/v1/models/{id}`: what this key may ask for."""

from typing import Any

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath

from api.edge import Edge
from shared.errors import ModelNotFound
from shared.identity import Principal

CREATED = 1767225600
"""The routes have no birthday: the first second of 2026, so that clients may sort."""


@get("/v1/models", operation_id="list_models", summary="List models")
async def list_models(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],  # noqa: ARG001 (asking for it is the key check)
) -> dict[str, Any]:
    """Return OpenAI's list of models: every route and alias."""
    names = edge.gateway.kit.catalog.routes.names()
    return {"object": "list", "data": [_model(edge, name) for name in names]}


@get("/v1/models/{model:path}", operation_id="get_model", summary="Retrieve a model")
async def get_model(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],  # noqa: ARG001 (as above)
    model: FromPath[str],
) -> dict[str, Any]:
    """Return one model; names may hold slashes.

    Raises:
        ModelNotFound: no route of that name.
    """
    name = model.removeprefix("/")
    if edge.gateway.kit.catalog.routes.find(name) is None:
        raise ModelNotFound(f"The model '{name}' does not exist.", param="model")
    return _model(edge, name)


def _model(edge: Edge, name: str) -> dict[str, Any]:
    route = edge.gateway.kit.catalog.routes.find(name)
    owner = "sluiceway" if route is None else route.choices[0][0].target.provider
    return {"id": name, "object": "model", "created": CREATED, "owned_by": owner}


HANDLERS = (list_models, get_model)
