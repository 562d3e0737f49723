"""`create_app(runtime)`: the Litestar application."""

from litestar import Litestar, Response, Router, asgi
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.handlers import ASGIRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.types import Receive, Scope, Send

from api.asgi import AnyRequest
from api.auth import bearer, header_map
from api.call import request_id_of
from api.edge import Edge
from api.errors import answer_of
from api.handlers import docs, jobs, models, ops, usage
from api.inference import inference_app
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


def create_app(edge: Edge) -> Litestar:
    """Return the app over an open Edge; whoever runs it opens and closes the Edge."""

    async def principal_of(request: AnyRequest) -> Principal:
        return await edge.keys.principal(bearer(header_map(request.scope["headers"])))

    app = Litestar(
        route_handlers=[
            *(_inference(endpoint, edge) for endpoint in ENDPOINTS),
            Router(
                path="/",
                route_handlers=[
                    *models.HANDLERS,
                    *jobs.HANDLERS,
                    *usage.HANDLERS,
                    *ops.HANDLERS,
                    *docs.HANDLERS,
                ],
                middleware=[identified(edge)],
            ),
        ],
        dependencies={
            "edge": Provide(lambda: edge, sync_to_thread=False),
            "principal": Provide(principal_of),
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
        request_max_body_size=edge.max_body_bytes,
        logging_config=None,
    )
    app.state.edge = edge
    return app


def _inference(endpoint: str, edge: Edge) -> ASGIRouteHandler:
    serve = inference_app(endpoint, edge)

    @asgi(endpoint, copy_scope=False)
    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        await serve(scope, receive, send)

    return route


def _on_gateway_error(request: AnyRequest, error: GatewayError) -> Response[bytes]:
    status, body, headers = answer_of(error)
    if REQUEST_ID not in request.scope["state"]:  # no route: the middleware has not run
        edge: Edge = request.app.state.edge
        given = request_id_of(header_map(request.scope["headers"]))
        headers["x-request-id"] = given or edge.ids("req")
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def _on_http_exception(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    return _on_gateway_error(request, _translated(request, error))


def _on_bug(request: AnyRequest, error: Exception) -> Response[bytes]:
    log.error("request.failed", path=request.scope["path"], exc_info=error)
    return _on_gateway_error(request, OwnFault("Something broke in the gateway; it is logged."))


def _translated(request: AnyRequest, error: HTTPException) -> CallerError | OwnFault:
    path = request.scope["path"]
    match error.status_code:
        case 404:
            hint = f"; did you mean /v1{path}?" if f"/v1{path}" in ENDPOINTS else ""
            return NotFound(f"There is nothing at {path}{hint}")
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
            return OwnFault("Something broke in the gateway; it is logged.")


def _invalid(error: HTTPException) -> InvalidRequest:
    """Return the refusal of a query or path parameter, which Litestar describes in `extra`."""
    for found in error.extra if isinstance(error.extra, list) else []:
        if isinstance(found, dict) and "key" in found:
            param = str(found["key"])
            return InvalidRequest(f"`{param}` is wrong: {found['message']}.", param=param)
    return InvalidRequest(error.detail)
