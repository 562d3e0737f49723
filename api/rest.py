"""Everything but inference: Litestar, one app for every Edge, which comes with the request."""

import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from litestar import Litestar, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.routes import HTTPRoute
from litestar.types import Scope
from typing_extensions import override

from api.asgi import AnyRequest
from api.auth import bearer, header_map
from api.call import dialect_of, request_id_of
from api.edge import Edge, edge_of
from api.errors import ANTHROPIC, answer_of
from api.front import BROKEN
from api.handlers import (
    admin,
    batches,
    budget,
    budgets,
    cache,
    deliveries,
    docs,
    files,
    job_events,
    jobs,
    ledger,
    models,
    operating,
    ops,
    responses,
    uploads,
    usage,
    webhooks,
)
from api.handlers.subscribers import subscriber_of
from api.named import named
from api.openapi import Unserved
from api.request_id import REQUEST_ID, identified
from shared.errors import (
    CallerError,
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OwnFault,
    RequestTooLarge,
)
from shared.gateway.parse import ENDPOINTS
from shared.identity import Principal
from shared.telemetry.log import get_logger

log = get_logger("api")


MAX_SHOWN = 200
"""How much of a path an error repeats."""


_HANDLERS = (
    *models.HANDLERS,
    *jobs.HANDLERS,
    *job_events.HANDLERS,
    *files.HANDLERS,
    *uploads.HANDLERS,
    *batches.HANDLERS,
    *responses.HANDLERS,
    *webhooks.HANDLERS,
    *deliveries.HANDLERS,
    *budget.HANDLERS,
    *usage.HANDLERS,
    *ops.HANDLERS,
    *admin.HANDLERS,
    *operating.HANDLERS,
    *budgets.HANDLERS,
    *ledger.HANDLERS,
    *cache.HANDLERS,
    *docs.HANDLERS,
)


class _App(Litestar):
    @staticmethod
    @override
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        """Return msgspec's alone: handlers take nothing else.

        Pydantic's loads it wherever it is installed, and our list of prices needs it: 8 MB in each
        process that looks nothing up there.
        """
        return [*plugins, MsgspecDIPlugin()]


@functools.cache
def rest_app() -> Litestar:
    """Return the app; whoever asks it puts the Edge into the request's scope (`with_edge`)."""
    return _App(
        route_handlers=_HANDLERS,
        middleware=[identified, named],
        dependencies={
            "edge": Provide(_edge, sync_to_thread=False),
            "principal": Provide(_principal),
            "subscriber": Provide(subscriber_of),
        },
        exception_handlers={
            GatewayError: _on_gateway_error,
            HTTPException: _on_http_exception,
            Exception: _on_bug,
        },
        openapi_config=OpenAPIConfig(
            title="Sluiceway",
            version="0.1.0",
            openapi_router=Unserved("/schema", route_handlers=[]),
        ),
        request_max_body_size=None,  # handlers read bodies by themselves, within the config's limit
        logging_config=None,
    )


def _edge(scope: Scope) -> Edge:
    return edge_of(scope)


async def _principal(request: AnyRequest) -> Principal:
    headers = header_map(request.scope["headers"])
    return await edge_of(request.scope).keys.principal(bearer(headers))


@functools.cache
def methods_of() -> Callable[[str], Iterable[str]]:
    """Return what tells the methods that the app takes on a path.

    Litestar's own answer to OPTIONS knows those of one handler only.
    """
    patterns = [
        (re.compile(_pattern(route)), route.methods)
        for route in rest_app().routes
        if isinstance(route, HTTPRoute)
    ]

    def methods(path: str) -> Iterable[str]:
        return next((found for pattern, found in patterns if pattern.fullmatch(path)), ())

    return methods


def _pattern(route: HTTPRoute) -> str:
    parts = (
        re.escape(part) if isinstance(part, str) else ".+" if part.type is Path else "[^/]+"
        for part in route.path_components
    )
    return "/" + "/".join(parts)


def _on_gateway_error(request: AnyRequest, error: GatewayError) -> Response[bytes]:
    asked = header_map(request.scope["headers"])
    dialect = dialect_of(asked)
    own_id = request.scope["state"].get(REQUEST_ID)
    names: dict[str, str] = {}
    if own_id is None:  # no route: the middleware has not run
        own_id = names["x-request-id"] = request_id_of(asked) or edge_of(request.scope).ids("req")
        if dialect == ANTHROPIC:
            names["request-id"] = own_id
    status, body, headers = answer_of(error, dialect, own_id)
    headers |= names
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def _on_http_exception(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    return _on_gateway_error(request, _translated(request, error))


def _on_bug(request: AnyRequest, error: Exception) -> Response[bytes]:
    log.error("request.failed", path=request.scope["path"], exc_info=error)
    return _on_gateway_error(request, OwnFault(BROKEN))


def _translated(request: AnyRequest, error: HTTPException) -> CallerError | OwnFault:
    path = request.scope["path"][:MAX_SHOWN]
    match error.status_code:
        case 404:
            return NotFound(f"There is nothing at {path}.{_hint(request.app, path)}")
        case 405:
            allowed = (error.headers or {}).get("allow", "")
            return MethodNotAllowed(
                f"{path} does not take {request.scope['method']}.",
                allowed=[name.strip() for name in allowed.split(",") if name.strip()],
            )
        case 413:
            return RequestTooLarge("The body is larger than server.max_body_mb.")
        case status if status < 500:  # noqa: PLR2004 (HTTP: the caller's fault)
            return _invalid(error)
        case _:
            return OwnFault(BROKEN)


def _hint(app: Litestar, path: str) -> str:
    """Return what was probably meant: base URLs lack their `/v1`, or have it twice."""
    paths = {*ENDPOINTS, *(route.path for route in app.routes)}
    groups = {one.split("/")[2] for one in paths if one.startswith("/v1/")}
    if path.startswith("/v1/v1/"):
        return f" Did you mean {path.removeprefix('/v1')}? The base URL ends in one /v1."
    if path.startswith("/") and path.split("/")[1] in groups:
        return f" Did you mean /v1{path}? The base URL ends in /v1."
    return ""


def _invalid(error: HTTPException) -> InvalidRequest:
    """Return the refusal of a query or path parameter, which Litestar describes in `extra`."""
    for found in error.extra if isinstance(error.extra, list) else []:
        if isinstance(found, dict) and "key" in found:
            param = str(found["key"])
            return InvalidRequest(f"`{param}` is wrong: {found['message']}.", param=param)
    return InvalidRequest(error.detail)
