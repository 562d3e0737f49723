"""`/admin/ledger…`: what an attempt cost, and putting it right; behind the master key."""

from typing import Any

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from api.asgi import AnyRequest, read_body
from api.auth import header_map
from api.edge import Edge
from api.handlers.admin import only_master
from api.idempotency import HEADER, PARAM
from api.in_time import in_time
from shared.errors import InvalidRequest
from shared.gateway.parse import named
from shared.ledger.adjust import Account, Adjustment, account_of, adjust
from shared.ledger.cost import usd_text
from shared.store.records import LedgerRow

MOST_BODY_BYTES = 64 * 1024
LONGEST_KEY = 255

_decode = msgspec.json.Decoder(Adjustment).decode


@post(
    "/admin/ledger/adjustments",
    operation_id="adjust_ledger",
    summary="Correct what an attempt cost",
    status_code=201,
)
async def adjust_ledger(edge: NamedDependency[Edge], request: AnyRequest) -> dict[str, Any]:
    """Add an amount of either sign to an attempt's cost, as a row of its own with the reason.

    The body is `{"attempt_id", "cost_usd", "reason"}`; with an `Idempotency-Key` it is written
    once. The sums of the attempt's hour and of its budgets follow.

    Raises:
        InvalidRequest: the amount or the reason is none.
        NotFound: the ledger has no such attempt.
        Conflict: it is an adjustment itself, or would cost less than nothing.
        IdempotencyMismatch: the key stands for another adjustment.
    """
    only_master(edge, request)
    headers = header_map(request.scope["headers"])
    raw = await read_body(request.receive, headers, MOST_BODY_BYTES, edge.clock)
    key = headers.get(HEADER)
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        why = f"Idempotency-Key must have 1 to {LONGEST_KEY} characters."
        raise InvalidRequest(why, param=PARAM)
    try:
        asked = _decode(raw)
    except msgspec.ValidationError as error:
        raise named(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}") from error
    async with in_time(edge.clock):
        account, row = await adjust(
            edge.runtime.store, edge.ids, asked, key=None if key is None else key.decode("latin-1")
        )
    return {**_adjustment(row), "net_cost_usd": usd_text(account.net_nanousd)}


@get(
    "/admin/ledger/{attempt_id:str}",
    operation_id="show_ledger_row",
    summary="What an attempt cost, and why",
)
async def show_ledger_row(
    edge: NamedDependency[Edge], request: AnyRequest, attempt_id: FromPath[str]
) -> dict[str, Any]:
    """Return an attempt's row in the ledger, with its adjustments and what it comes to."""
    only_master(edge, request)
    async with in_time(edge.clock):
        account = await account_of(edge.runtime.store, attempt_id)
    return _shown(account)


def _shown(account: Account) -> dict[str, Any]:
    row = account.row
    cost = row.cost_nanousd
    return {
        "object": "ledger.attempt",
        "id": row.attempt_id,
        "request_id": row.request_id,
        "job_id": row.job_id,
        "batch_id": row.batch_id,
        "tenant_id": row.tenant_id,
        "key_id": row.key_id,
        "user": row.user,
        "route": row.route,
        "provider": row.provider,
        "model": row.model,
        "outcome": row.outcome,
        "code": row.code,
        "usage": msgspec.structs.asdict(row.usage),
        "cost_usd": None if cost is None else usd_text(cost),
        "price_source": row.price_source,
        "price_version": row.price_version,
        "budgets": [one.budget_id for one in row.budgets],
        "started_at": int(row.started_at.timestamp()),
        "ended_at": int(row.ended_at.timestamp()),
        "adjustments": [_adjustment(one) for one in account.corrections],
        "net_cost_usd": usd_text(account.net_nanousd),
    }


def _adjustment(row: LedgerRow) -> dict[str, Any]:
    return {
        "object": "ledger.adjustment",
        "id": row.attempt_id,
        "attempt_id": row.adjusts,
        "tenant_id": row.tenant_id,
        "cost_usd": usd_text(row.cost_nanousd or 0),
        "reason": row.reason,
    }


HANDLERS = (adjust_ledger, show_ledger_row)
