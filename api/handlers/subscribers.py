"""What the handlers of webhook endpoints share: whose they are, how they are read and shown."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.types import Method

from api.answers import json_of, page_of
from api.asgi import AnyRequest, check_json, read_body
from api.auth import bearer, header_map
from api.edge import Edge
from api.handlers.admin import only_master
from shared.errors import InvalidRequest, NotFound, OwnFault
from shared.gateway.parse import named
from shared.store.endpoints import EndpointRow, get_endpoint
from shared.store.engine import Tx
from shared.webhooks.event import OPERATOR
from shared.webhooks.signature import PREFIX

ADMIN = "/admin"

T = TypeVar("T")


async def subscriber_of(edge: NamedDependency[Edge], request: AnyRequest) -> str:
    """Return the tenant whose endpoints a request is about: its key's, or under /admin OPERATOR.

    Raises:
        CallerError: the key is not good for it.
    """
    if request.scope["path"].startswith(f"{ADMIN}/"):
        only_master(edge, request)
        return OPERATOR
    principal = await edge.keys.principal(bearer(header_map(request.scope["headers"])))
    return principal.tenant_id


def both(path: str) -> list[str]:
    """Return the path under `/v1` and under `/admin`."""
    return [f"/v1{path}", f"{ADMIN}{path}"]


def on_both(name: str) -> Callable[[HTTPRouteHandler, Method, list[Any]], str]:
    """Return what names the operation apart on each of the two paths."""

    def name_of(_handler: HTTPRouteHandler, _method: Method, path: list[Any]) -> str:
        return f"operator_{name}" if path[0] == ADMIN.strip("/") else name

    return name_of


async def decoded(edge: Edge, request: AnyRequest, kind: type[T]) -> T:
    """Return the request's body; an absent one counts as an empty object.

    Raises:
        InvalidRequest: it is not what `kind` says.
    """
    headers = header_map(request.scope["headers"])
    check_json(headers)
    raw = await read_body(request.receive, headers, edge.max_body_bytes, edge.clock)
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise named(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}") from error


async def found(tx: Tx, tenant_id: str, endpoint_id: str) -> EndpointRow:
    """Return the tenant's endpoint.

    Raises:
        NotFound: it has none of that id.
    """
    row = await get_endpoint(tx, endpoint_id, tenant_id)
    if row is None:
        raise NotFound(f"There is no webhook endpoint '{endpoint_id}'.")
    return row


def shown(edge: Edge, row: EndpointRow, secret: str | None = None) -> Response[bytes]:
    """Answer with an endpoint; with its secret where that is new."""
    return json_of(_view(edge, row) | ({"signing_secret": secret} if secret else {}))


def shown_page(edge: Edge, rows: Sequence[EndpointRow], *, more: bool) -> Response[bytes]:
    """Answer with a page of endpoints."""
    return json_of(page_of([_view(edge, row) for row in rows], more=more))


def _view(edge: Edge, row: EndpointRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "webhook_endpoint",
        "name": row.name,
        "url": row.url,
        "event_types": row.event_types,
        "concurrency": row.concurrency,
        "status": "enabled" if row.disabled_at is None else "disabled",
        "disabled_at": _epoch(row.disabled_at),
        "disabled_reason": row.disabled_why,
        "failing_since": _epoch(row.failing_since),
        "signing_secret_hint": _hint(edge, row.secret),
        "old_secret_expires_at": _epoch(row.old_secret_until),
        "created_at": _epoch(row.created_at),
        "updated_at": _epoch(row.updated_at),
    }


def _epoch(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _hint(edge: Edge, sealed: str) -> str | None:
    """Return a secret's end, None for one that was sealed under another key."""
    try:
        return f"{PREFIX}…{edge.runtime.sealer.open(sealed)[-4:]}"
    except OwnFault:
        return None
