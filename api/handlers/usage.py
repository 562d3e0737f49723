"""`GET /v1/usage`: what this key's tenant has used."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.edge import Edge
from api.in_time import in_time
from shared.identity import Principal
from shared.jobs.terms import moment
from shared.ledger.cost import usd_text
from shared.store.cache_hits import CacheTotals, cache_totals
from shared.store.ledger import usage_totals
from shared.store.records import ModelTotals, UsageTotals

DEFAULT_SPAN = timedelta(days=30)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@get("/v1/usage", operation_id="get_usage", summary="Usage totals of your tenant")
async def get_usage(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    since: Annotated[str | None, QueryParameter(description="RFC 3339 or epoch seconds")] = None,
    until: Annotated[str | None, QueryParameter(description="RFC 3339 or epoch seconds")] = None,
) -> dict[str, Any]:
    """Return totals of `[since, until)`; by default the last 30 days up to now.

    Costs are USD as decimal text, from integer nano-dollars. `unpriced_attempts` were made on
    models without a known price and are not in the cost; `estimated_attempts` had no usage from
    their provider. `cache` is what kept answers have saved, by whole hours: it is in no other
    figure.
    """
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        # Before 1970 there is nothing, and the calendar ends soon after it.
        end = max(EPOCH, moment(until, "until")) if until is not None else await tx.now()
        start = moment(since, "since") if since is not None else end - DEFAULT_SPAN
        totals = await usage_totals(tx, principal.tenant_id, start, end)
        cached = await cache_totals(tx, principal.tenant_id, start, end)
    return _shown(totals, start, end, principal.tenant_id) | {"cache": _cached(cached)}


def _shown(totals: UsageTotals, start: datetime, end: datetime, tenant_id: str) -> dict[str, Any]:
    return {
        "object": "usage",
        "tenant": tenant_id,
        "since": int(start.timestamp()),
        "until": int(end.timestamp()),
        "requests": totals.requests,
        "attempts": totals.attempts,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "cache_read_tokens": totals.cache_read_tokens,
        "reasoning_tokens": totals.reasoning_tokens,
        "cost_usd": usd_text(totals.cost_nanousd),
        "cost_nanousd": totals.cost_nanousd,
        "unpriced_attempts": totals.unpriced_attempts,
        "estimated_attempts": totals.estimated_attempts,
        "by_model": [_model(one) for one in totals.by_model],
    }


def _cached(totals: CacheTotals) -> dict[str, Any]:
    return {
        "hits": totals.hits,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "saved_usd": usd_text(totals.saved_nanousd),
        "saved_nanousd": totals.saved_nanousd,
    }


def _model(totals: ModelTotals) -> dict[str, Any]:
    return {
        "provider": totals.provider,
        "model": totals.model,
        "attempts": totals.attempts,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "cost_usd": usd_text(totals.cost_nanousd),
    }


HANDLERS = (get_usage,)
