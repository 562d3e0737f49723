"""Every answer says what it cost, on every path that leads to one."""

import asyncio

import pytest

from tests.edge.api.gateways import gateway, one_route
from tests.fakes.upstream import Answer, running_upstream, says

PRICE = {"input_per_mtok": 1_000, "output_per_mtok": 2_000}
HELLO = [{"role": "user", "content": "Hello"}]
USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
COST = "x-sluiceway-cost-usd"
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": HELLO}),
        ("/v1/completions", {"prompt": "Hello"}),
        ("/v1/embeddings", {"input": "Hello"}),
        ("/v1/responses", {"input": "Hello", "store": False}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 9}),
    ],
)
async def test_a_whole_answer_says_it(http, path, body):
    answer = await http.post(path, json={"model": "mock", **body})

    assert 200 == answer.status_code, answer.text
    assert float(answer.headers[COST]) > 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": HELLO, "stream_options": {"include_usage": True}}),
        ("/v1/completions", {"prompt": "Hello", "stream_options": {"include_usage": True}}),
        ("/v1/responses", {"input": "Hello", "store": False}),
    ],
)
async def test_a_stream_says_it_at_its_end(http, path, body):
    """Its headers go out before anybody knows."""
    answer = await http.post(path, json={"model": "mock", "stream": True, **body})

    assert COST not in answer.headers
    assert 1 == answer.text.count('"cost_usd":0.0')


async def test_an_answer_in_vain_says_what_it_cost_all_the_same(tmp_path, sqlite_url):
    """The first target's answer cannot be read and is paid for; the second refuses."""
    async with running_upstream() as upstream:
        upstream.script("up", Answer(status=200, pieces=(b"no JSON",)))
        upstream.script("up", Answer(status=500, pieces=(b"{}",)))
        provider = {"kind": "openai_compatible", "base_url": upstream.base_url("up")}
        config = one_route(provider, price=PRICE)
        config["routes"][0]["targets"].append({"provider": "vendor", "model": "n"})
        async with gateway(tmp_path, sqlite_url, config) as http:
            failed = await http.post(CHAT, json={"model": "chat", "messages": HELLO})
            usage = await settled(http, 2)
            upstream.script("up", Answer(status=500, pieces=(b"{}",)))
            upstream.script("up", Answer(status=500, pieces=(b"{}",)))
            free = await http.post(CHAT, json={"model": "chat", "messages": HELLO})

    assert (502, 502) == (failed.status_code, free.status_code)
    assert usage["cost_usd"] == failed.headers[COST]
    assert float(usage["cost_usd"]) > 0
    assert COST not in free.headers


async def test_the_header_is_what_stands_in_the_books(tmp_path, sqlite_url):
    """20 x 0.001 + 10 x 0.002, exactly."""
    async with running_upstream() as upstream:
        upstream.script("up", says("hi", usage=USAGE))
        provider = {"kind": "openai_compatible", "base_url": upstream.base_url("up")}
        async with gateway(tmp_path, sqlite_url, one_route(provider, price=PRICE)) as http:
            answer = await http.post(CHAT, json={"model": "chat", "messages": HELLO})
            usage = await settled(http, 1)

    assert "0.04" == answer.headers[COST] == usage["cost_usd"]


async def test_an_answer_that_does_not_count_its_words_is_charged_for_them_and_says_so(
    tmp_path, sqlite_url
):
    """20 x 0.001 + 4,000 bytes / 4 x 0.002."""
    async with running_upstream() as upstream:
        for spoken in ("word" * 1_000, ""):
            told = {"prompt_tokens": 20, "completion_tokens": 0, "total_tokens": 20}
            upstream.script("up", says(spoken, usage=told))
        provider = {"kind": "openai_compatible", "base_url": upstream.base_url("up")}
        async with gateway(tmp_path, sqlite_url, one_route(provider, price=PRICE)) as http:
            answer = await http.post(CHAT, json={"model": "chat", "messages": HELLO})
            silent = await http.post(CHAT, json={"model": "chat", "messages": HELLO})

    assert ("2.02", "estimated") == (answer.headers[COST], answer.headers["x-sluiceway-cost"])
    assert "0.02" == silent.headers[COST]
    assert "x-sluiceway-cost" not in silent.headers


async def settled(http, attempts):
    async with asyncio.timeout(10):
        while (usage := (await http.get("/v1/usage")).json())["attempts"] < attempts:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return usage
