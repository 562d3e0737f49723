"""`/admin/budgets…`: how budgets stand, and limits that are raised for a while."""

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from api.answers import json_of
from api.asgi import AnyRequest
from api.edge import Edge
from api.handlers.admin import only_master
from api.handlers.subscribers import decoded
from api.in_time import in_time
from shared.errors import NotFound
from shared.jobs.raising import Raise, raise_budget, raises_of, unraise_budget
from shared.jobs.terms import moment
from shared.ledger.budgets import BudgetTable
from shared.ledger.report import budgets_report, shown_raise

RAISES = "/raises"


class NewRaise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that raises a limit: decimal text, and a moment or none: the window's end."""

    amount_usd: str
    expires_at: int | float | str | None = None
    reason: str | None = None


@get("/admin/budgets", operation_id="list_budgets", summary="Budgets, and how they stand")
async def list_budgets(edge: NamedDependency[Edge], request: AnyRequest) -> Response[bytes]:
    """Return every budget of the config in its window of the moment, with its raises.

    Budgets of users are listed once they are used, the 200 who have spent most; their template
    has `each_user`.
    """
    only_master(edge, request)
    async with in_time(edge.clock):
        found = await budgets_report(edge.runtime.store, _table(edge))
    return json_of({"object": "list", "data": found})


@get("/admin/budgets/{rest:path}", operation_id="list_budget_raises", summary="A budget's raises")
async def list_raises(
    edge: NamedDependency[Edge], request: AnyRequest, rest: FromPath[str]
) -> Response[bytes]:
    """Return, for `/admin/budgets/{id}/raises`, the raises that count now.

    Raises:
        NotFound: there is no such budget.
    """
    only_master(edge, request)
    async with in_time(edge.clock):
        rows = await raises_of(edge.runtime.store, _table(edge), _budget_id(rest))
    return json_of({"object": "list", "data": [shown_raise(row) for row in rows]})


@post(
    "/admin/budgets/{rest:path}",
    operation_id="raise_budget",
    summary="Raise a budget's limit for a while",
)
async def create_raise(
    edge: NamedDependency[Edge], request: AnyRequest, rest: FromPath[str]
) -> Response[bytes]:
    """Raise, for `/admin/budgets/{id}/raises`, the limit; calls in all processes soon know it.

    Jobs that wait for their budget are tried again.

    Raises:
        NotFound: there is no such budget.
        InvalidRequest: the amount is no money, or the moment lies behind.
    """
    only_master(edge, request)
    budget_id = _budget_id(rest)
    body = await decoded(edge, request, NewRaise)
    asked = Raise(
        amount_usd=body.amount_usd,
        expires_at=None if body.expires_at is None else moment(body.expires_at, "expires_at"),
        reason=body.reason,
    )
    runtime = edge.runtime
    async with in_time(edge.clock):
        row = await raise_budget(
            runtime.store, runtime.bell, runtime.ids, _table(edge), budget_id, asked
        )
    return json_of(shown_raise(row), status=201)


@delete(
    "/admin/budgets/{rest:path}",
    operation_id="end_budget_raise",
    summary="End a raise",
    status_code=200,
)
async def delete_raise(
    edge: NamedDependency[Edge], request: AnyRequest, rest: FromPath[str]
) -> Response[bytes]:
    """End, for `/admin/budgets/{id}/raises/{raise_id}`, a raise now.

    Raises:
        NotFound: the budget has no such raise that counts.
    """
    only_master(edge, request)
    owner, _, raise_id = rest.rpartition("/")
    async with in_time(edge.clock):
        await unraise_budget(edge.runtime.store, _budget_id(owner), raise_id)
    return json_of({"id": raise_id, "object": "budget.raise", "deleted": True})


def _budget_id(rest: str) -> str:
    """Return the id, which has slashes itself, of a path that ends in `/raises`."""
    path = rest.removeprefix("/")
    if not path.endswith(RAISES):
        raise NotFound(f"There is nothing at /admin/budgets/{path}; end it in {RAISES}.")
    return path.removesuffix(RAISES)


def _table(edge: Edge) -> BudgetTable:
    return BudgetTable(edge.runtime.config)


HANDLERS = (list_budgets, list_raises, create_raise, delete_raise)
