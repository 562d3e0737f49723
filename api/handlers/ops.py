"""`/livez /readyz /health /metrics`: for orchestrators and Prometheus."""

import asyncio
from typing import Any

from litestar import Response, get
from litestar.di import NamedDependency

from api.edge import Edge
from shared.errors import StoreUnavailable
from shared.queue.wiring import broker_answers
from shared.telemetry.exposition import exposed
from shared.telemetry.metrics import DEPENDENCY_UP

PROBE_S = 1.0


@get("/livez", operation_id="livez", summary="The process runs")
async def livez() -> dict[str, str]:
    """Return 200 as long as the event loop turns."""
    return {"status": "ok"}


@get("/readyz", operation_id="readyz", summary="The process can serve")
async def readyz(edge: NamedDependency[Edge]) -> Response[dict[str, Any]]:
    """Return 200 when calls can be served, with what is degraded; 503 without the database."""
    report = await _report(edge)
    ready = report["database"] == "ok" and not edge.stopping
    if edge.stopping:
        report["status"] = "stopping"
    return Response(report, status_code=200 if ready else 503)


@get("/health", operation_id="health", summary="What works and what is degraded")
async def health(edge: NamedDependency[Edge]) -> dict[str, Any]:
    """Return the same facts as `/readyz`, always with 200."""
    return await _report(edge)


@get("/metrics", operation_id="metrics", summary="Prometheus metrics")
async def metrics() -> Response[bytes]:
    """Return the Prometheus text exposition."""
    text, kind = await asyncio.to_thread(exposed)  # with many processes it reads many files
    return Response(text, headers={"content-type": kind})


async def _report(edge: Edge) -> dict[str, Any]:
    settings = edge.runtime.settings
    asked = {"database": _database(edge), "redis": _broker(settings.redis_url)}
    if settings.broker_url != settings.redis_url:
        asked["broker"] = _broker(settings.broker_url)
    states = dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))
    for name, state in states.items():
        if state != "not configured":
            DEPENDENCY_UP.labels(name).set(state == "ok")
    degraded = [name for name, state in states.items() if state != "ok"]
    return {
        "status": "ok" if not degraded else "degraded",
        "degraded": degraded,
        **states,
        "in_flight": edge.running,
    }


async def _database(edge: Edge) -> str:
    try:
        await edge.runtime.store.ping(PROBE_S)
    except StoreUnavailable:
        return "away"
    return "ok"


async def _broker(url: str | None) -> str:
    if url is None:
        return "not configured"
    return "ok" if await asyncio.to_thread(broker_answers, url) else "away"


HANDLERS = (livez, readyz, health, metrics)
