"""`/admin/…`: what operators look at; behind the master key."""

from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from api.asgi import AnyRequest
from api.auth import bearer, header_map
from api.call import TAGS, named_headers
from api.call import tags as tags_of
from api.edge import Edge
from shared.errors import InvalidApiKey, ModelNotFound, NotFound, PermissionDenied
from shared.gateway.answer import CallContext
from shared.health.book import Seen
from shared.health.facts import Fact

EXPLAIN = "/explain"


@get("/admin/providers", operation_id="list_providers", summary="Providers and their targets")
async def list_providers(edge: NamedDependency[Edge], request: AnyRequest) -> dict[str, Any]:
    """Return every configured provider, with the targets that this process has asked.

    `phase` is that of the target's breaker: `closed` (asked), `open` (left alone), `half_open`
    (tried again), since when, and for what kind of failure. One that is `set_aside` goes last
    until then: it is `limited`, or its credential is `parked`. Each process has seen its own.
    """
    only_master(edge, request)
    health = edge.gateway.kit.health
    seen = list(health.seen())
    providers = edge.gateway.kit.catalog.providers
    return {
        "object": "list",
        "process": edge.runtime.owner,
        "data": [
            {
                "object": "provider",
                "name": name,
                "kind": provider.config.kind,
                "host": urlsplit(provider.config.base_url or "").netloc.rpartition("@")[2] or None,
                "targets": [_seen(edge, one) for one in seen if one.provider == name],
            }
            for name, provider in providers.items()
        ],
    }


@get("/admin/routes", operation_id="list_routes", summary="Routes by name")
async def list_routes(edge: NamedDependency[Edge], request: AnyRequest) -> dict[str, Any]:
    """Return every route of the config, wildcards too, with the targets in the file's order."""
    only_master(edge, request)
    routes = edge.gateway.kit.catalog.routes
    every = [*routes.by_name.values(), *(route for _, route in routes.wildcards)]
    return {
        "object": "list",
        "data": [
            {
                "object": "route",
                "model": route.configured,
                "aliases": [name for name, to in routes.aliases.items() if to == route.model],
                "strategy": route.strategy,
                "targets": [group[0].target.name for group in route.choices],
                "fallbacks": list(route.fallbacks),
            }
            for route in every
        ],
    }


@get("/admin/routes/{rest:path}", operation_id="explain_route", summary="What would be tried")
async def explain_route(
    edge: NamedDependency[Edge],
    request: AnyRequest,
    rest: FromPath[str],
    session: Annotated[str | None, QueryParameter(description="A session that sticks")] = None,
    tags: Annotated[str | None, QueryParameter(description="Tags for rules, as k=v,k=v")] = None,
) -> dict[str, Any]:
    """Return, for `/admin/routes/{model}/explain`, the targets in the order of being tried now.

    For a short chat request with those tags and with this request's own headers: `rule` tells which
    rule of the route that is `asked` for leads to `model`. Chance is drawn anew each time; whose
    turn it is does not change.
    """
    only_master(edge, request)
    model = rest.removeprefix("/")
    if not model.endswith(EXPLAIN):
        raise NotFound(f"There is nothing at /admin/routes/{model}; end it in {EXPLAIN}.")
    model = model.removesuffix(EXPLAIN)
    headers = header_map(request.scope["headers"])
    if tags is not None:
        headers[TAGS] = tags.encode()
    context = CallContext(
        request_id="",
        tags=tags_of(headers),
        session=session,
        headers=named_headers(headers, edge.rule_headers),
    )
    explanation = edge.gateway.explain(model, context)
    if explanation is None:
        raise ModelNotFound(f"No route has the name {model!r}.", param="model")
    return explanation


def only_master(edge: Edge, request: AnyRequest) -> None:
    """Return if the request has the master key.

    Raises:
        InvalidApiKey: it has none.
        PermissionDenied: it has another, or this gateway has no master key.
    """
    key = bearer(header_map(request.scope["headers"]))
    if key is None:
        raise InvalidApiKey("/admin needs the master key: 'Authorization: Bearer <key>'.")
    if not edge.keys.is_master(key):
        raise PermissionDenied("/admin needs the master key (SLUICEWAY_MASTER_KEY); this is none.")


def _seen(edge: Edge, seen: Seen) -> dict[str, Any]:
    age = timedelta(seconds=edge.clock.monotonic() - seen.since_s)
    return {
        "model": seen.model,
        "credential": seen.credential,
        "phase": seen.phase.value,
        "since": int((edge.clock.now() - age).timestamp()) if seen.reason else None,
        "reason": seen.reason,
        "set_aside": None if seen.fact is None else _set_aside(edge, seen.fact),
        "latency_ms": round(seen.latency_s * 1000, 1),
        "in_flight": seen.busy,
        "calls": seen.calls,
    }


def _set_aside(edge: Edge, fact: Fact) -> dict[str, Any]:
    left = timedelta(seconds=fact.until_s - edge.clock.monotonic())
    return {"fact": fact.kind.value, "until": int((edge.clock.now() + left).timestamp())}


HANDLERS = (list_providers, list_routes, explain_route)
