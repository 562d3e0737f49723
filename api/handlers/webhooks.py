"""`/v1/webhook_endpoints…`: where a tenant wants to be told, as OpenAI manages it.

Under `/admin` the same paths take the master key and manage the endpoints of the operator.
"""

import os
from datetime import timedelta
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from api.asgi import AnyRequest
from api.edge import Edge
from api.handlers.subscribers import both, decoded, found, on_both, shown, shown_page
from api.in_time import in_time
from shared.errors import Conflict, NotFound
from shared.store.endpoints import (
    EndpointRow,
    count_endpoints,
    delete_endpoint,
    disable_endpoint,
    enable_endpoint,
    insert_endpoint,
    list_endpoints,
    update_endpoint,
)
from shared.webhooks.egress import networks
from shared.webhooks.signature import new_secret
from shared.webhooks.terms import (
    LONGEST_NAME,
    MOST_AT_ONCE,
    MOST_ENDPOINTS,
    checked_types,
    checked_url,
    types_for,
)

MAX_LIMIT = 100
OVERLAP = timedelta(hours=24)
"""How long a secret that was replaced goes on signing, where that was asked for."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]
Concurrency = Annotated[int, msgspec.Meta(ge=1, le=MOST_AT_ONCE)]


class NewEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that creates an endpoint."""

    name: Name
    url: str
    event_types: list[str]
    concurrency: Concurrency = MOST_AT_ONCE


class EndpointChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that changes an endpoint: what is missing stays."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    url: str | msgspec.UnsetType = msgspec.UNSET
    event_types: list[str] | msgspec.UnsetType = msgspec.UNSET
    concurrency: Concurrency | msgspec.UnsetType = msgspec.UNSET
    enabled: bool | msgspec.UnsetType = msgspec.UNSET


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that replaces a secret."""

    keep_old_secret_active_for_24_hours: bool = False


@get(both("/webhook_event_types"), operation_id=on_both("list_event_types"), summary="Event types")
async def list_event_types(subscriber: NamedDependency[str]) -> dict[str, Any]:
    """Return the event types that an endpoint of yours may be told of."""
    return {"object": "list", "data": list(types_for(subscriber))}


@post(
    both("/webhook_endpoints"),
    operation_id=on_both("create_webhook_endpoint"),
    summary="Create a webhook endpoint",
    status_code=200,
)
async def create_endpoint(
    edge: NamedDependency[Edge], subscriber: NamedDependency[str], request: AnyRequest
) -> Response[bytes]:
    """Create an endpoint; its `signing_secret` is in this answer and nowhere after it.

    Raises:
        InvalidRequest: the URL leads where nothing is sent, or there is no such event type.
        Conflict: there are as many endpoints as a tenant may have.
    """
    asked = await decoded(edge, request, NewEndpoint)
    secret = new_secret(os.urandom)
    async with in_time(edge.clock), edge.runtime.store.write() as tx:
        if await count_endpoints(tx, subscriber) >= MOST_ENDPOINTS:
            raise Conflict(f"You have {MOST_ENDPOINTS} webhook endpoints already; delete some.")
        now = await tx.now()
        row = EndpointRow(
            id=edge.ids("we"),
            tenant_id=subscriber,
            name=asked.name,
            url=_url(edge, asked.url),
            event_types=checked_types(subscriber, asked.event_types),
            secret=edge.runtime.sealer.seal(secret),
            concurrency=asked.concurrency,
            created_at=now,
            updated_at=now,
        )
        await insert_endpoint(tx, row)
    return shown(edge, row, secret)


@get(
    both("/webhook_endpoints"),
    operation_id=on_both("list_webhook_endpoints"),
    summary="List your webhook endpoints",
)
async def list_own_endpoints(
    edge: NamedDependency[Edge],
    subscriber: NamedDependency[str],
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = 20,
    after: FromQuery[str | None] = None,
) -> Response[bytes]:
    """Return a page of endpoints, newest first; `after` is the last id of the page before."""
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        rows = await list_endpoints(tx, subscriber, limit=limit + 1, after=after)
    return shown_page(edge, rows[:limit], more=len(rows) > limit)


@get(
    both("/webhook_endpoints/{endpoint_id:str}"),
    operation_id=on_both("get_webhook_endpoint"),
    summary="Read a webhook endpoint",
)
async def get_own_endpoint(
    edge: NamedDependency[Edge], subscriber: NamedDependency[str], endpoint_id: FromPath[str]
) -> Response[bytes]:
    """Return the endpoint, with whether it is told anything and since when it has not taken it."""
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        return shown(edge, await found(tx, subscriber, endpoint_id))


@post(
    both("/webhook_endpoints/{endpoint_id:str}"),
    operation_id=on_both("update_webhook_endpoint"),
    summary="Change a webhook endpoint",
    status_code=200,
)
async def update_own_endpoint(
    edge: NamedDependency[Edge],
    subscriber: NamedDependency[str],
    request: AnyRequest,
    endpoint_id: FromPath[str],
) -> Response[bytes]:
    """Change what is given. `enabled` turns it off and on; on, it starts with a clean record.

    Deliveries already under way or waiting keep the URL they were made with.

    Raises:
        InvalidRequest: the URL leads where nothing is sent, or there is no such event type.
    """
    asked = await decoded(edge, request, EndpointChange)
    async with in_time(edge.clock), edge.runtime.store.write() as tx:
        row = await found(tx, subscriber, endpoint_id)
        now = await tx.now()
        changed = _changed(edge, row, asked)
        if changed != row:
            await update_endpoint(tx, msgspec.structs.replace(changed, updated_at=now))
        if asked.enabled is True and row.disabled_at is not None:
            await enable_endpoint(tx, row.id)
        if asked.enabled is False:
            await disable_endpoint(tx, row.id, why="you turned it off", at=now)
        return shown(edge, await found(tx, subscriber, endpoint_id))


@delete(
    both("/webhook_endpoints/{endpoint_id:str}"),
    operation_id=on_both("delete_webhook_endpoint"),
    summary="Delete a webhook endpoint",
    status_code=200,
)
async def delete_own_endpoint(
    edge: NamedDependency[Edge], subscriber: NamedDependency[str], endpoint_id: FromPath[str]
) -> dict[str, Any]:
    """Delete an endpoint with its log; what waits for it is not delivered."""
    async with in_time(edge.clock), edge.runtime.store.write() as tx:
        if not await delete_endpoint(tx, endpoint_id, subscriber):
            raise NotFound(f"There is no webhook endpoint '{endpoint_id}'.")
    return {"id": endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True}


@post(
    both("/webhook_endpoints/{endpoint_id:str}/rotate_secret"),
    operation_id=on_both("rotate_webhook_secret"),
    summary="Replace a signing secret",
    status_code=200,
)
async def rotate_secret(
    edge: NamedDependency[Edge],
    subscriber: NamedDependency[str],
    request: AnyRequest,
    endpoint_id: FromPath[str],
) -> Response[bytes]:
    """Replace the signing secret; with `keep_old_secret_active_for_24_hours` both sign for a day.

    Attempts under way keep the secret they began with.
    """
    asked = await decoded(edge, request, Rotation)
    secret = new_secret(os.urandom)
    async with in_time(edge.clock), edge.runtime.store.write() as tx:
        row = await found(tx, subscriber, endpoint_id)
        now = await tx.now()
        keeps = asked.keep_old_secret_active_for_24_hours
        row = msgspec.structs.replace(
            row,
            secret=edge.runtime.sealer.seal(secret),
            old_secret=row.secret if keeps else None,
            old_secret_until=now + OVERLAP if keeps else None,
            updated_at=now,
        )
        await update_endpoint(tx, row)
    return shown(edge, row, secret)


def _changed(edge: Edge, row: EndpointRow, asked: EndpointChange) -> EndpointRow:
    fields = {
        name: value
        for name in ("name", "concurrency")
        if (value := getattr(asked, name)) is not msgspec.UNSET
    }
    if asked.url is not msgspec.UNSET:
        fields["url"] = _url(edge, asked.url)
    if asked.event_types is not msgspec.UNSET:
        fields["event_types"] = checked_types(row.tenant_id, asked.event_types)
    return msgspec.structs.replace(row, **fields)


def _url(edge: Edge, url: str) -> str:
    webhooks = edge.runtime.config.webhooks
    return checked_url(url, networks(webhooks.allow_networks), webhooks.allow_topics)


HANDLERS = (
    list_event_types,
    create_endpoint,
    list_own_endpoints,
    get_own_endpoint,
    update_own_endpoint,
    delete_own_endpoint,
    rotate_secret,
)
