"""`/docs` and `/openapi.json`: open in dev, behind the master key elsewhere."""

from typing import Any

from litestar import MediaType, Response, get
from litestar.di import NamedDependency

from api.asgi import AnyRequest
from api.auth import bearer, header_map
from api.edge import Edge
from api.openapi import page_of, schema_of
from shared.errors import InvalidApiKey

GUARDS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}
"""The page runs no script, loads nothing and stands in nobody's frame."""


@get("/openapi.json", include_in_schema=False)
async def openapi(edge: NamedDependency[Edge], request: AnyRequest) -> dict[str, Any]:
    """Return the OpenAPI document, inference routes included."""
    _check(edge, request)
    return schema_of(request.app)


@get("/docs", include_in_schema=False, media_type=MediaType.HTML)
async def docs(edge: NamedDependency[Edge], request: AnyRequest) -> Response[str]:
    """Return the same as a page that needs nothing from elsewhere."""
    _check(edge, request)
    page = page_of(schema_of(request.app))
    return Response(page, media_type=MediaType.HTML, headers=GUARDS)


def _check(edge: Edge, request: AnyRequest) -> None:
    if edge.runtime.settings.environment == "dev":
        return
    key = bearer(header_map(request.scope["headers"]))
    if key is None or not edge.keys.is_master(key):
        raise InvalidApiKey("This page needs the master key: 'Authorization: Bearer <key>'.")


HANDLERS = (openapi, docs)
