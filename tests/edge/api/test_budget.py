"""`GET /v1/budget`: how much a key may still spend."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.store.engine import open_store
from shared.store.raises import insert_raise
from shared.store.records import RaiseRow
from tests.edge.api.conftest import KEY
from tests.edge.api.gateways import gateway, one_route
from tests.fakes.upstream import running_upstream, says

OTHER_KEY = "sk-other-0123456789abcdef"
PRICE = {"input_per_mtok": 1_000, "output_per_mtok": 1_000}
USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
ASK = {"model": "chat", "max_tokens": 10, "messages": [{"role": "user", "content": "Hello"}]}
DAY = {"window": "day", "limit_usd": 1}
TENANTS = [
    {
        "id": "acme",
        "keys": [
            {"name": "ci", "key": KEY, "budgets": [{**DAY, "action": "warn", "window": "month"}]},
            {"name": "cd", "key": OTHER_KEY, "budgets": [DAY]},
        ],
        "budgets": [{**DAY, "timezone": "Europe/Berlin"}],
        "users": {"budgets": [{**DAY, "limit_usd": "0.1"}]},
    },
    {"id": "other", "budgets": [DAY]},
]
BUDGETS = [
    {**DAY, "match": {"tenant": "acme", "tag": "team=search"}, "limit_usd": "0.25"},
    {**DAY, "match": {"provider": "vendor"}, "limit_usd": 3},
]


@pytest.fixture
async def http(tmp_path, sqlite_url):
    async with running_upstream() as upstream:
        upstream.script("up", *(says("hi", usage=USAGE) for _ in range(5)))
        provider = {"kind": "openai_compatible", "base_url": upstream.base_url("up")}
        config = {**one_route(provider, price=PRICE), "tenants": TENANTS, "budgets": BUDGETS}
        async with gateway(tmp_path, sqlite_url, config) as client:
            yield client


async def budgets(http, key=KEY, **asked):
    answer = await http.get("/v1/budget", params=asked, headers={"authorization": f"Bearer {key}"})
    assert 200 == answer.status_code, answer.text
    return answer.json()


async def test_the_budgets_around_a_key(http):
    """Of one that is shared with others only what remains is told."""
    found = await budgets(http)

    day, month, tag, provider = found["data"]
    assert None is found["mean_request_usd"]
    assert ("tenant:acme/day", {"tenant": "acme"}, "Europe/Berlin", "reject") == tuple(
        day[name] for name in ("id", "applies_to", "timezone", "action")
    )
    assert ("1", "0", "0", "0", "1", None) == tuple(
        day[name]
        for name in (
            "limit_usd", "raised_usd", "spent_usd", "held_usd", "remaining_usd",
            "estimated_requests_left",
        )
    )  # fmt: skip
    assert ("key:acme/ci/month", "warn") == (month["id"], month["action"])
    assert {"tenant": "acme", "tag": "team=search"} == tag["applies_to"]
    assert (True, "3", None, None) == tuple(
        provider[name] for name in ("shared", "remaining_usd", "spent_usd", "limit_usd")
    )
    assert day["starts_at"] <= datetime.now(UTC).timestamp() < day["resets_at"]


async def test_each_key_and_user_has_its_own(http):
    other = await budgets(http, key=OTHER_KEY)
    of_bob = await budgets(http, user="bob")

    assert "key:acme/cd/day" in ids(other)
    assert "key:acme/ci/month" not in ids(other)
    assert {"user:acme/bob/day"} == ids(of_bob) - ids(await budgets(http))


def ids(found):
    return {one["id"] for one in found["data"]}


async def test_what_is_spent_and_how_far_the_rest_goes(http):
    """0.03 a request: 20 + 10 tokens at 1,000 a million. What is in stock is not held."""
    for _ in range(2):
        answer = await http.post("/v1/chat/completions", json=ASK)
        assert "0.03" == answer.headers["x-sluiceway-cost-usd"]

    async with asyncio.timeout(10):  # the books reach the database within a second
        while (found := await budgets(http))["data"][0]["spent_usd"] != "0.06":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    day = found["data"][0]

    assert ("0.03", "0", "0.94", 31) == (
        found["mean_request_usd"], day["held_usd"], day["remaining_usd"],
        day["estimated_requests_left"],
    )  # fmt: skip


async def test_raises_are_shown_and_counted(http, sqlite_url):
    now = datetime.now(UTC)
    row = RaiseRow(
        id="raise_1",
        budget_id="tenant:acme/day",
        amount_nanousd=500_000_000,
        reason="launch",
        created_at=now,
        expires_at=now + timedelta(hours=1),
    )
    store = await open_store(sqlite_url)
    async with store.write() as tx:
        await insert_raise(tx, row)
    await store.close()

    day, *others = (await budgets(http))["data"]

    assert ("0.5", "1.5", "launch") == (
        day["raised_usd"], day["remaining_usd"], day["raises"][0]["reason"],
    )  # fmt: skip
    assert {"0", None} == {one["raised_usd"] for one in others}
