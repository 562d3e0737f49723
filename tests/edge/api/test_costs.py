"""What a caller is told of costs, and what the metrics say of those that are not sure."""

import pytest

from tests.edge.api.gateways import gateway, one_route
from tests.fakes.upstream import DONE, chunk, running_upstream, says, sse, status, streams
from tests.pure.telemetry.test_metrics import value

PRICE = {"input_per_mtok": "2", "output_per_mtok": "4", "per_request_usd": "0.01"}
ASK = {"model": "chat", "messages": [{"role": "user", "content": "x" * 100}]}
SEVEN_AND_THREE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@pytest.fixture
async def upstream():
    async with running_upstream() as started:
        yield started


@pytest.fixture
def opened(upstream, tmp_path, sqlite_url):
    """Open a gateway whose route is as given, over one scripted provider."""

    def opened(**route):
        provider = {
            "kind": "openai_compatible",
            "base_url": upstream.base_url(),
            "price_factor": "0.5",
            "regional_factor": "1.1",
        }
        return gateway(tmp_path, sqlite_url, one_route(provider, **route))

    return opened


def told(answer):
    """Return the two headers about the cost."""
    names = ("x-sluiceway-cost-usd", "x-sluiceway-cost")
    return tuple(answer.headers.get(name) for name in names)


def doubts(why):
    return value("sluiceway_cost_doubts_total", provider="vendor", why=why)


async def test_factors_multiply_and_a_sure_cost_has_no_doubt(opened, upstream):
    """(7 x 2 + 3 x 4) / 10^6 x 0.5 x 1.1 x 3, and a fee of 0.01 x 0.5 x 3."""
    upstream.script("up", says("hi", usage=SEVEN_AND_THREE))
    async with opened(price=PRICE, price_factor="3") as client:
        answer = await client.post("/v1/chat/completions", json=ASK)

    assert ("0.0150429", None) == told(answer)


async def test_an_unknown_price_is_said_and_the_call_made(opened, upstream):
    upstream.script("up", says("hi"))
    upstream.script("up", streams("hi", usage=SEVEN_AND_THREE))
    async with opened() as client:
        whole = await client.post("/v1/chat/completions", json=ASK)
        stream = await client.post("/v1/chat/completions", json={**ASK, "stream": True})

    assert [(None, "unknown")] * 2 == [told(whole), told(stream)]


async def test_a_route_may_deny_what_has_no_price(opened, upstream):
    async with opened(unknown_price="deny") as client:
        answer = await client.post("/v1/chat/completions", json=ASK)

    assert (403, "permission_denied") == (answer.status_code, answer.json()["error"]["code"])
    assert [] == upstream.requests


async def test_a_route_may_guess_a_price(opened, upstream):
    """By its other target: (7 x 2 + 3 x 4) / 10^6 x 0.5 x 1.1, and half the fee."""
    before = doubts("price")
    upstream.script("up", says("hi", usage=SEVEN_AND_THREE))
    upstream.script("up", streams("hi", usage=SEVEN_AND_THREE))
    targets = [
        {"provider": "vendor", "model": "m"},
        {"provider": "vendor", "model": "n", "price": PRICE},
    ]
    async with opened(unknown_price="estimate", targets=targets) as client:
        answer = await client.post("/v1/chat/completions", json=ASK)
        stream = await client.post("/v1/chat/completions", json={**ASK, "stream": True})

    assert ("0.0050143", "estimated") == told(answer)
    assert "estimated" == stream.headers["x-sluiceway-cost"]
    assert before + 2 == doubts("price")


async def test_where_the_price_is_a_guess_the_providers_own_account_counts(opened, upstream):
    upstream.script("up", says("hi", usage={**SEVEN_AND_THREE, "cost": 0.25}))
    targets = [{"provider": "vendor", "model": "llama-3.3-70b-versatile"}]
    async with opened(unknown_price="estimate", targets=targets) as client:
        answer = await client.post("/v1/chat/completions", json=ASK)

    assert ("0.25", "estimated") == told(answer)


@pytest.mark.behaviour(157)
async def test_missing_counts_are_made_up_and_said(opened, upstream):
    before = doubts("usage")
    upstream.script("up", says("hi", usage={"note": "none"}))
    async with opened(price={"input_per_mtok": "2", "output_per_mtok": "4"}) as client:
        answer = await client.post("/v1/chat/completions", json=ASK)

    cost_usd, doubt = told(answer)
    assert "estimated" == doubt
    assert float(cost_usd) > 30 * 2 * 0.55 / 10**6
    assert before + 1 == doubts("usage")


async def test_a_stream_that_counts_nothing_has_the_price_of_its_tier(opened, upstream):
    """Which of its chunks told the tier, and which would have counted, is the provider's affair."""
    costs = []
    price = {
        "input_per_mtok": "2",
        "output_per_mtok": "4",
        "tiers": [{"name": "flex", "factor": "0.5"}],
    }
    async with opened(price=price) as client:
        for tier in ({}, {"service_tier": "flex"}):
            head = chunk({"role": "assistant", "content": "hi"}, **tier)
            upstream.script("up", sse([head, chunk({}, "stop"), DONE]))
            before = value("sluiceway_cost_nanousd_total", provider="vendor")
            await client.post("/v1/chat/completions", json={**ASK, "stream": True})
            costs.append(value("sluiceway_cost_nanousd_total", provider="vendor") - before)

    assert 0 < costs[0] == 2 * costs[1]


@pytest.mark.behaviour(155)
async def test_a_difference_from_the_providers_account_is_counted(opened, upstream):
    """Ours is 0.0050143: one in a hundred is let pass."""
    before = doubts("reported")
    counted = []
    async with opened(price=PRICE) as client:
        for cost in (0.0050143, 0.00505, 0.0051, 0.004):
            upstream.script("up", says("hi", usage={**SEVEN_AND_THREE, "cost": cost}))
            answer = await client.post("/v1/chat/completions", json=ASK)
            assert ("0.0050143", None) == told(answer)
            counted.append(doubts("reported") - before)

    assert [0, 0, 1, 2] == counted


@pytest.mark.behaviour(159)
async def test_a_refused_call_pays_no_fee(opened, upstream):
    upstream.script("up", status(429))
    upstream.script("up", says("hi", usage=SEVEN_AND_THREE))
    retry = {"max_attempts": 2, "base_s": 0, "max_s": 0}
    async with opened(price=PRICE, retry=retry) as client:
        answer = await client.post("/v1/chat/completions", json=ASK)

    assert "2" == answer.headers["x-sluiceway-attempts"]
    assert ("0.0050143", None) == told(answer)
