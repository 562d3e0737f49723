"""`/admin/budgets…`: how budgets stand, and raises of their limits."""

import asyncio
import time
from urllib.parse import quote

import pytest

from tests.edge.api.conftest import CONFIG, KEY, MASTER_KEY

pytestmark = pytest.mark.anyio

MASTER = {"authorization": f"Bearer {MASTER_KEY}"}
BUDGETS = """
budgets:
- {match: {tenant: acme, model: mock}, window: day, limit_usd: "0.000001", thresholds: [80]}
- {match: {provider: mock}, window: hour, limit_usd: 5, action: warn}
"""
MODEL = "tenant:acme,model:mock/day"
HELLO = {"model": "mock", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def settings(settings):
    text = CONFIG.replace(
        "{id: acme,", "{id: acme, users: {budgets: [{window: day, limit_usd: 1}]},"
    )
    settings.config_path.write_text(text + BUDGETS)
    return settings


@pytest.fixture
def ask(http):
    """Ask as the operator; return status and body."""

    async def ask(method, path, **how):
        answer = await http.request(method, path, headers=MASTER, **how)
        return answer.status_code, answer.json()

    return ask


def raises(budget_id, rest=""):
    return f"/admin/budgets/{budget_id}/raises{rest}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/budgets"),
        ("GET", raises(MODEL)),
        ("POST", raises(MODEL)),
        ("DELETE", raises(MODEL, "/raise_1")),
    ],
)
async def test_only_the_master_key_sees_and_raises(http, method, path):
    assert 403 == (await http.request(method, path)).status_code


async def test_budgets_are_listed_as_they_stand(http, ask):
    _, page = await ask("GET", "/admin/budgets")

    template, model, provider = page["data"]
    assert ("user:acme/*/day", True, "1") == (
        template["id"], template["each_user"], template["limit_usd"],
    )  # fmt: skip
    assert {
        "object": "budget", "id": MODEL, "tenant": "acme", "window": "day", "timezone": "UTC",
        "action": "reject", "thresholds": [80], "limit_usd": "0.000001", "raised_usd": "0",
        "spent_usd": "0", "held_usd": "0", "remaining_usd": "0.000001", "each_user": False,
        "raises": [],
        "starts_at": model["starts_at"], "resets_at": model["resets_at"],
    } == model  # fmt: skip
    assert model["starts_at"] <= time.time() < model["resets_at"]
    assert ("provider:mock/hour", "warn", None) == (
        provider["id"], provider["action"], provider["tenant"],
    )  # fmt: skip


async def test_a_raise_lets_calls_through_until_it_ends(http, ask):
    """The refusal names the budget, the raise goes by that name, and within seconds calls run."""
    refused = await http.post("/v1/chat/completions", json=HELLO)
    error = refused.json()["error"]
    assert (429, "budget_exceeded", MODEL) == (
        refused.status_code, error["code"], error["limit_source"],
    )  # fmt: skip

    status, raised = await ask("POST", raises(MODEL), json={"amount_usd": "0.5", "reason": "why"})

    assert (201, "budget.raise", "0.5", "why", MODEL) == (
        status, raised["object"], raised["amount_usd"], raised["reason"], raised["budget_id"],
    )  # fmt: skip
    assert await becomes(http, 200)
    _, listed = await ask("GET", raises(quote(MODEL, safe="")))
    assert [raised] == listed["data"]
    _, page = await ask("GET", "/admin/budgets")
    shown = {one["id"]: one for one in page["data"]}
    assert ("0.5", [raised]) == (shown[MODEL]["raised_usd"], shown[MODEL]["raises"])
    assert "user:acme/bob/1/day" in shown, "a user's budget, once it is used"
    path = raises(MODEL, f"/{raised['id']}")
    assert (200, {"id": raised["id"], "object": "budget.raise", "deleted": True}) == await ask(
        "DELETE", path
    )
    assert await becomes(http, 429)
    assert 404 == (await ask("DELETE", path))[0]


async def becomes(http, status) -> bool:
    give_up_at = time.monotonic() + 10
    while time.monotonic() < give_up_at:
        answer = await http.post("/v1/chat/completions", json=HELLO | {"user": "bob/1"})
        if answer.status_code == status:
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"amount_usd": 5},
        {"amount_usd": "much"},
        {"amount_usd": "0"},
        {"amount_usd": "-1"},
        {"amount_usd": "NaN"},
        {"amount_usd": "1e30"},
        {"amount_usd": "0.0000000001"},
        {"amount_usd": "1", "expires_at": 0},
        {"amount_usd": "1", "expires_at": "9999-12-31T00:00:00Z"},
        {"amount_usd": "1", "reason": "x" * 501},
        {"amount_usd": "1", "for": "ever"},
    ],
)
async def test_what_is_no_raise_is_refused(ask, body):
    status, answer = await ask("POST", raises(MODEL), json=body)

    assert (400, "invalid_request") == (status, answer["error"]["code"])


async def test_all_raises_of_a_budget_together_have_a_bound(ask):
    asked = [
        await ask("POST", raises(MODEL), json={"amount_usd": amount})
        for amount in ("600000000", "600000000", "400000000")
    ]

    assert [201, 400, 201] == [status for status, _ in asked]


@pytest.mark.parametrize("budget_id", ["tenant:acme/day", "user:acme/*/day", "nonsense"])
async def test_what_is_no_budget_is_not_raised(ask, budget_id):
    assert 404 == (await ask("POST", raises(budget_id), json={"amount_usd": "1"}))[0]
    assert 404 == (await ask("GET", raises(budget_id)))[0]
    assert 404 == (await ask("GET", f"/admin/budgets/{budget_id}"))[0]


async def test_a_user_s_budget_is_raised_before_he_used_it(ask):
    status, raised = await ask("POST", raises("user:acme/ann/day"), json={"amount_usd": "1"})

    assert (201, "user:acme/ann/day") == (status, raised["budget_id"])
    assert KEY not in str(raised)
