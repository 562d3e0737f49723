"""Answers from the cache, as callers and operators see them."""

import asyncio
import json
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.edge.api.conftest import KEY, MASTER_KEY
from tests.edge.api.gateways import gateway, one_route, sdk
from tests.edge.api.messages import line, routes
from tests.fakes.upstream import Answer, chunk, completion, running_upstream, says, sse, streams
from tests.fakes.vendors.anthropic import AnthropicVendor

pytestmark = pytest.mark.anyio

OTHER_KEY = "sk-other-0123456789abcdef"
TENANTS = [
    {"id": "acme", "keys": [{"name": "ci", "key": KEY}]},
    {"id": "other", "keys": [{"name": "ci", "key": OTHER_KEY}]},
]
HELLO = [{"role": "user", "content": "Hello"}]
PRICE = {"input_per_mtok": 1, "output_per_mtok": 10}
USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
CHAT = "/v1/chat/completions"
MASTER = {"authorization": f"Bearer {MASTER_KEY}"}


@pytest.fixture
async def upstream():
    async with running_upstream() as server:
        yield server


@asynccontextmanager
async def opened(upstream, tmp_path, url, *, env=None, route=None, **cache):
    provider = {"kind": "openai_compatible", "base_url": upstream.base_url("up")}
    config = {
        **one_route(provider, price=PRICE, **(route or {})),
        "tenants": TENANTS,
        "cache": {"enabled": True, **cache},
    }
    more = {"SLUICEWAY_MASTER_KEY": MASTER_KEY, **(env or {})}
    async with gateway(tmp_path, url, config, env=more) as http:
        yield http


@pytest.fixture
async def http(upstream, tmp_path, sqlite_url):
    async with opened(upstream, tmp_path, sqlite_url) as client:
        yield client


async def ask(http, *, headers=None, **more):
    body = {"model": "chat", "messages": HELLO, "temperature": 0, **more}
    return await http.post(CHAT, json=body, headers=headers)


def results(*answers):
    return [answer.headers["x-sluiceway-cache"] for answer in answers]


async def test_the_same_question_is_answered_once_by_the_provider(upstream, http):
    """The second answer is the first one's bytes; it costs nothing and says what it saved."""
    upstream.script("up", says("hello there", usage=USAGE))

    first, second = await ask(http), await ask(http)

    assert ["miss", "hit"] == results(first, second)
    assert 1 == len(upstream.requests)
    assert first.content == second.content
    told = {name: second.headers[name] for name in second.headers if "sluiceway" in name}
    del told["x-sluiceway-overhead-ms"]
    assert {
        "x-sluiceway-cache": "hit",
        "x-sluiceway-provider": "vendor",
        "x-sluiceway-model": "m",
        "x-sluiceway-route": "chat",
        "x-sluiceway-attempts": "0",
        "x-sluiceway-cost-usd": "0",
        "x-sluiceway-saved-usd": "0.00012",
    } == told
    assert "0" == second.headers["age"]
    assert "0.00012" == first.headers["x-sluiceway-cost-usd"]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"temperature": 0}, {"temperature": 0.0, "seed": None}, True),
        ({"user": "joe"}, {"user": "ann", "metadata": {"a": "b"}}, True),
        ({"model": "chat"}, {"model": "alias"}, True),
        ({"top_p": 0.5}, {"top_p": 0.6}, False),
        ({"messages": HELLO}, {"messages": [{"role": "user", "content": "Hello "}]}, False),
        ({"vendor_word": 1}, {"vendor_word": 2}, False),
        ({"max_tokens": 5}, {}, False),
    ],
)
async def test_what_makes_two_questions_the_same(
    upstream, tmp_path, sqlite_url, first, second, same
):
    async with opened(upstream, tmp_path, sqlite_url, route={"aliases": ["alias"]}) as http:
        await ask(http, **first)
        again = await ask(http, **second)

    assert ["hit" if same else "miss"] == results(again)


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": None},
        {"temperature": 0.7},
        {"store": True},
        {"web_search_options": {"search_context_size": "low"}},
        {"tools": [{"type": "web_search"}]},
    ],
)
async def test_what_may_be_answered_differently_each_time_is_asked_each_time(upstream, http, more):
    answers = [await ask(http, **more) for _ in range(2)]

    assert ["bypass", "bypass"] == results(*answers)
    assert 2 == len(upstream.requests)


@pytest.mark.parametrize(
    ("more", "headers"),
    [
        ({"temperature": 1, "seed": 7}, {}),
        ({"temperature": 1}, {"cache-control": "max-age=60"}),
    ],
)
async def test_a_seed_or_a_named_age_makes_a_question_worth_keeping(upstream, http, more, headers):
    answers = [await ask(http, headers=headers, **more) for _ in range(2)]

    assert ["miss", "hit"] == results(*answers)


async def test_the_config_may_keep_everything(upstream, tmp_path, sqlite_url):
    async with opened(upstream, tmp_path, sqlite_url, requests="all") as http:
        answers = [await ask(http, temperature=1) for _ in range(2)]

    assert ["miss", "hit"] == results(*answers)


async def test_no_cache_asks_anew_and_keeps_what_it_gets(upstream, http):
    upstream.script("up", says("old"), says("new"))
    await ask(http)

    anew = await ask(http, headers={"cache-control": "no-cache"})
    after = await ask(http)

    assert ["bypass", "hit"] == results(anew, after)
    assert anew.content == after.content
    assert 2 == len(upstream.requests)


async def test_no_store_leaves_nothing_behind(upstream, http):
    alone = await ask(http, headers={"cache-control": "no-store"})
    after = await ask(http)

    assert ["bypass", "miss"] == results(alone, after)


async def test_an_answer_older_than_asked_for_is_not_given(upstream, http):
    await ask(http)

    assert ["miss"] == results(await ask(http, headers={"cache-control": "max-age=0"}))


async def test_an_answer_that_must_be_new_is_kept_for_those_who_take_older_ones(upstream, http):
    """As `no-cache` does; an age makes any question one to keep, 0 as well."""
    fresh = {"cache-control": "max-age=0"}
    answers = [await ask(http, headers=fresh, temperature=1) for _ in range(2)]
    later = await ask(http, headers={"cache-control": "max-age=60"}, temperature=1)

    assert ["miss", "miss", "hit"] == results(*answers, later)
    assert 2 == len(upstream.requests)


async def test_tenants_do_not_share_answers(upstream, http):
    await ask(http)

    other = await ask(http, headers={"authorization": f"Bearer {OTHER_KEY}"})

    assert ["miss"] == results(other)


async def test_tenants_share_answers_where_the_config_says_so(upstream, tmp_path, sqlite_url):
    async with opened(upstream, tmp_path, sqlite_url, across_tenants=True) as http:
        await ask(http)
        other = await ask(http, headers={"authorization": f"Bearer {OTHER_KEY}"})

    assert ["hit"] == results(other)


async def test_failures_are_not_kept(upstream, http):
    upstream.script("up", Answer(status=500, pieces=(b"{}",)))

    failed, good, again = await ask(http), await ask(http), await ask(http)

    assert [502, 200, 200] == [failed.status_code, good.status_code, again.status_code]
    assert ["miss", "hit"] == results(good, again)


async def test_a_fallbacks_answer_is_not_kept(upstream, tmp_path, sqlite_url):
    """It stands in while the route's own target is down, and no longer."""
    provider = {"kind": "openai_compatible", "base_url": upstream.base_url("up")}
    spare = {"kind": "openai_compatible", "base_url": upstream.base_url("spare")}
    config = one_route(provider, fallbacks=["spare"])
    config["providers"]["spare"] = spare
    config["routes"].append({"model": "spare", "targets": [{"provider": "spare", "model": "s"}]})
    upstream.script("up", Answer(status=500, pieces=(b"{}",)))

    async with gateway(tmp_path, sqlite_url, {**config, "cache": {"enabled": True}}) as http:
        first, second = await ask(http), await ask(http)

    assert ["miss", "miss"] == results(first, second)
    assert ["spare", "vendor"] == [one.headers["x-sluiceway-provider"] for one in (first, second)]


async def test_a_cache_that_is_off_is_not_mentioned(upstream, tmp_path, sqlite_url):
    async with opened(upstream, tmp_path, sqlite_url, enabled=False) as http:
        answers = [await ask(http) for _ in range(2)]

    assert [False, False] == ["x-sluiceway-cache" in one.headers for one in answers]
    assert 2 == len(upstream.requests)


async def test_hits_take_nothing_from_limits(upstream, tmp_path, sqlite_url):
    async with opened(upstream, tmp_path, sqlite_url, route={"limits": {"rpm": 1}}) as http:
        answers = [await ask(http) for _ in range(3)]

    assert ["miss", "hit", "hit"] == results(*answers)


# Streams


async def test_a_kept_answer_is_told_as_a_stream(upstream, http):
    """The SDK puts the same answer together that it would have been given whole."""
    upstream.script("up", says("one two three " * 20, usage=USAGE))
    whole = await ask(http)
    pieces = []

    async with sdk(http).chat.completions.stream(
        model="chat", messages=HELLO, temperature=0, stream_options={"include_usage": True}
    ) as streaming:
        async for event in streaming:
            pieces += [event] if "content.delta" == event.type else []
        answer = await streaming.get_final_completion()

    asked = whole.json()
    assert asked["choices"][0]["message"]["content"] == answer.choices[0].message.content
    assert (asked["id"], asked["model"]) == (answer.id, answer.model)
    assert ("stop", 30) == (answer.choices[0].finish_reason, answer.usage.total_tokens)
    assert 0 == answer.usage.model_extra.get("cost", 0)
    assert len(pieces) > 3
    assert 1 == len(upstream.requests)


@pytest.mark.parametrize("include_usage", [False, True])
async def test_a_stream_is_kept_and_told_again(upstream, http, include_usage):
    asked = {"stream": True, "stream_options": {"include_usage": include_usage}}
    upstream.script("up", streams("one ", "two ", "three", usage=USAGE))

    first, second = await ask(http, **asked), await ask(http, **asked)
    whole = await ask(http)

    assert ["miss", "hit", "hit"] == results(first, second, whole)
    assert "text/event-stream; charset=utf-8" == second.headers["content-type"]
    assert "one two three" == text_of(first) == text_of(second)
    assert include_usage == (b'"total_tokens":30' in second.content)
    assert second.content.endswith(b"data: [DONE]\n\n")
    body = whole.json()
    assert "one two three" == body["choices"][0]["message"]["content"]
    assert 30 == body["usage"]["total_tokens"]
    assert "0.00012" == whole.headers["x-sluiceway-saved-usd"]


def text_of(answer):
    events = [line[6:] for line in answer.text.split("\n\n") if line.startswith("data: {")]
    deltas = [
        choice["delta"] for event in events for choice in json.loads(event).get("choices", [])
    ]
    return "".join(delta.get("content") or "" for delta in deltas)


async def test_tool_calls_are_kept_and_told_again(upstream, http):
    call = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": ""},
    }
    more = {"index": 0, "function": {"arguments": '{"at": 1}'}}
    pieces = [
        {"role": "assistant", "content": None},
        {"tool_calls": [call]},
        {"tool_calls": [more]},
    ]
    events = [*(chunk(piece) for piece in pieces), chunk({}, "tool_calls"), b"data: [DONE]\n\n"]
    upstream.script("up", sse(events))

    first = await ask(http, stream=True)
    client = sdk(http).chat.completions
    async with client.stream(model="chat", messages=HELLO, temperature=0) as streaming:
        answer = await streaming.get_final_completion()

    assert ["miss"] == results(first)
    (made,) = answer.choices[0].message.tool_calls
    assert ("call_1", "look", '{"at": 1}') == (
        made.id,
        made.function.name,
        made.function.arguments,
    )
    assert 1 == len(upstream.requests)


async def test_a_stream_that_broke_is_not_kept(upstream, http):
    broken = sse([chunk({"role": "assistant", "content": "one"})], end="reset")
    upstream.script("up", broken, says("whole"))

    first = await ask(http, stream=True)
    second = await ask(http)

    assert b"stream_interrupted" in first.content
    assert ["miss", "miss"] == results(first, second)


async def test_anthropics_answers_are_kept_in_both_forms(tmp_path, sqlite_url):
    """Thoughts keep their signatures, calls their ids."""
    look = {"name": "look", "input_schema": {"type": "object"}}
    questions = (
        {"messages": HELLO},
        {"messages": [{"role": "user", "content": "Look"}], "tools": [look]},
    )
    async with AnthropicVendor() as vendor:
        vendor.thinks("first this", "then that")
        vendor.calls(("look", {"at": 1}))
        provider = {"kind": "anthropic", "base_url": vendor.base_url, "api_key": "sk-ant-key-1"}
        config = {**routes(("claude", provider)), "cache": {"enabled": True, "requests": "all"}}
        async with line(tmp_path, sqlite_url, config) as api, api.sdk() as sdk:
            for question in questions:
                asked = {"model": "claude", "max_tokens": 10, **question}
                whole = await sdk.messages.create(**asked)
                async with sdk.messages.stream(**asked) as streaming:
                    told = await streaming.get_final_message()
                assert shown(whole) == shown(told)
        assert 2 == len(vendor.requests)


def shown(message):
    content = [block.model_dump(exclude_none=True) for block in message.content]
    usage = message.usage
    return message.id, content, message.stop_reason, (usage.input_tokens, usage.output_tokens)


async def test_what_a_stream_cannot_tell_is_asked_for_as_a_stream(tmp_path, sqlite_url):
    """Blocks in an order of their own are not put into another."""
    blocks = [
        {"type": "text", "text": "Looking"},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
        {"type": "text", "text": "and waiting"},
    ]
    async with AnthropicVendor() as vendor:
        provider = {"kind": "anthropic", "base_url": vendor.base_url, "api_key": "sk-ant-key-1"}
        config = {**one_route(provider, "claude-opus-4-6"), "cache": {"enabled": True}}
        for _ in range(4):
            vendor.answers(*blocks)
        async with gateway(tmp_path, sqlite_url, config) as http:
            asked = {"model": "chat", "max_tokens": 9, "messages": HELLO, "temperature": 0}
            path = "/v1/messages"
            streamed = [await http.post(path, json={**asked, "stream": True}) for _ in range(2)]
            whole = [await http.post(path, json=asked) for _ in range(2)]
            late = await http.post(path, json={**asked, "stream": True})

    assert ["miss", "miss", "miss", "hit", "bypass"] == results(*streamed, *whole, late)


# In Redis


async def test_processes_share_answers_in_redis(upstream, redis_server, tmp_path, sqlite_url):
    env = {"SLUICEWAY_CACHE_URL": redis_server.url}
    async with opened(upstream, tmp_path, sqlite_url, env=env) as first:
        one = await ask(first)
    async with opened(upstream, tmp_path, sqlite_url, env=env) as second:
        other = await ask(second)
        forgotten = await second.delete("/admin/cache", headers=MASTER)
        after = await ask(second)

    assert ["miss", "hit", "miss"] == results(one, other, after)
    assert 1 == forgotten.json()["deleted"]
    assert one.content == other.content


async def test_without_redis_every_call_is_asked(upstream, tmp_path, sqlite_url):
    """As `policies.redis_down.cache` says; only forgetting cannot be done without it."""
    env = {"SLUICEWAY_CACHE_URL": f"unix://{tmp_path}/nobody.sock"}
    async with opened(upstream, tmp_path, sqlite_url, env=env) as http:
        upstream.script("up", says("one"), says("two"), streams("three"))
        answers = [await ask(http), await ask(http), await ask(http, stream=True)]
        forgotten = await http.delete("/admin/cache", headers=MASTER)

    assert ["bypass"] * 3 == results(*answers)
    assert (503, "store_unavailable") == (
        forgotten.status_code,
        forgotten.json()["error"]["code"],
    )


# At the same time


async def test_a_thousand_same_questions_are_asked_once(upstream, http):
    upstream.always("up", msgspec.structs.replace(says("hello", usage=USAGE), wait_s=0.2))

    answers = await asyncio.gather(*(ask(http) for _ in range(1_000)))

    assert 1 == len(upstream.requests)
    assert {200} == {answer.status_code for answer in answers}
    assert (1, 999) == (results(*answers).count("miss"), results(*answers).count("hit"))


async def test_a_hundred_same_streams_are_asked_once(upstream, http):
    upstream.always("up", streams("one ", "two", usage=USAGE, gap_s=0.05))

    answers = await asyncio.gather(*(ask(http, stream=True) for _ in range(100)))

    assert 1 == len(upstream.requests)
    assert {"one two"} == {text_of(answer) for answer in answers}


async def test_when_the_one_who_asks_leaves_another_asks(upstream, http):
    upstream.always("up", msgspec.structs.replace(says("hello"), wait_s=0.3))
    leader = asyncio.create_task(ask(http))
    await upstream.wait_for_requests(1)
    others = [asyncio.create_task(ask(http)) for _ in range(20)]
    await asyncio.sleep(0.05)

    leader.cancel()
    answers = await asyncio.gather(*others)

    assert {200} == {answer.status_code for answer in answers}
    assert 2 == len(upstream.requests)


async def test_all_that_wait_are_told_that_no_target_answered(upstream, http):
    """An outage is not multiplied by those that wait."""
    upstream.always("up", Answer(status=500, pieces=(b"{}",), wait_s=0.2))

    answers = await asyncio.gather(*(ask(http) for _ in range(20)))

    assert {502} == {answer.status_code for answer in answers}
    assert 1 == len(upstream.requests)


async def test_a_stream_that_breaks_is_asked_by_each_alone(upstream, http):
    """Nobody waits in a row for one broken stream after another."""
    head = chunk({"role": "assistant", "content": "one"})
    upstream.script("up", sse([head, head], end="reset", gap_s=0.2))
    upstream.always("up", streams("whole", usage=USAGE))

    answers = await asyncio.gather(*(ask(http, stream=True) for _ in range(5)))

    assert 1 == sum(b"stream_interrupted" in answer.content for answer in answers)
    assert 4 == sum("whole" == text_of(answer) for answer in answers)


async def test_waiting_for_another_ends_with_the_callers_own_time(upstream, http):
    upstream.always("up", msgspec.structs.replace(says("hello"), wait_s=1.5))
    leader = asyncio.create_task(ask(http))
    await upstream.wait_for_requests(1)

    hasty = await ask(http, headers={"x-sluiceway-timeout": "0.3"})

    assert (504, "deadline_exceeded") == (hasty.status_code, hasty.json()["error"]["code"])
    assert ["miss"] == results(await leader)


# What operators see


async def test_forgetting_is_for_operators(http):
    for headers, status in (({}, 403), ({"authorization": ""}, 401)):
        answer = await http.delete("/admin/cache", headers=headers or None)
        assert status == answer.status_code


@pytest.mark.parametrize(
    ("query", "deleted"),
    [
        ("", 1),
        ("?tenant=acme", 1),
        ("?model=alias", 1),
        ("?tenant=acme&model=chat", 1),
        ("?tenant=other", 0),
        ("?model=else", 0),
    ],
)
async def test_answers_are_forgotten_by_tenant_and_model(
    upstream, tmp_path, sqlite_url, query, deleted
):
    async with opened(upstream, tmp_path, sqlite_url, route={"aliases": ["alias"]}) as http:
        await ask(http)
        answer = await http.delete(f"/admin/cache{query}", headers=MASTER)
        after = await ask(http)

    assert (200, deleted) == (answer.status_code, answer.json()["deleted"])
    assert ["miss" if deleted else "hit"] == results(after)


async def test_what_is_being_asked_is_not_kept_after_forgetting(upstream, http):
    upstream.always("up", msgspec.structs.replace(says("hello"), wait_s=0.3))
    asking = asyncio.create_task(ask(http))
    await upstream.wait_for_requests(1)

    await http.delete("/admin/cache", headers=MASTER)
    await asking

    assert ["miss"] == results(await ask(http))


async def test_hits_and_what_they_saved_stand_in_usage_and_metrics(upstream, http):
    """The ledger knows only what was asked of a provider."""
    upstream.script("up", says("hello", usage=USAGE))
    before = await metrics_of(http)
    for _ in range(3):
        await ask(http)

    usage = await until(lambda: usage_of(http), lambda found: 2 == found["cache"]["hits"])

    assert (1, 120_000) == (usage["attempts"], usage["cost_nanousd"])
    assert {
        "hits": 2,
        "input_tokens": 40,
        "output_tokens": 20,
        "saved_usd": "0.00024",
        "saved_nanousd": 240_000,
    } == usage["cache"]
    after = await metrics_of(http)
    assert {
        'sluiceway_cache_requests_total{result="hit"}': 2.0,
        'sluiceway_cache_requests_total{result="miss"}': 1.0,
        'sluiceway_cache_saved_nanousd_total{provider="vendor"}': 240_000.0,
    } == {name: value - before.get(name, 0.0) for name, value in after.items()}


async def usage_of(http):
    return (await http.get("/v1/usage")).json()


async def metrics_of(http):
    text = (await http.get("/metrics")).text
    lines = [line.rsplit(" ", 1) for line in text.splitlines()]
    names = ("sluiceway_cache_requests_total{result=", "sluiceway_cache_saved")
    found = {line[0]: float(line[1]) for line in lines if line[0].startswith(names)}
    return {name: value for name, value in found.items() if "bypass" not in name}


async def until(look, good, within_s=10.0):
    async with asyncio.timeout(within_s):
        while not good(found := await look()):  # noqa: ASYNC110 (SQL has no event)
            await asyncio.sleep(0.05)
    return found


# Elsewhere


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "hello"}),
        ("/v1/completions", {"prompt": "hello", "temperature": 0}),
    ],
)
async def test_other_endpoints_keep_their_answers_too(upstream, http, path, body):
    embedding = {"object": "embedding", "index": 0, "embedding": [0.5]}
    vectors = {"object": "list", "data": [embedding], "model": "m"}
    text = {**completion("x"), "choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}
    answer = vectors if "input" in body else text
    upstream.always("up", Answer(pieces=(json.dumps(answer).encode(),)))

    answers = [await http.post(path, json={"model": "chat", **body}) for _ in range(2)]

    assert ["miss", "hit"] == results(*answers)


async def test_a_response_that_is_stored_is_made_anew(upstream, http):
    """Each has an id of its own by which its caller goes on."""
    body = {"model": "chat", "input": "hello", "temperature": 0}

    stored = [await http.post("/v1/responses", json=body) for _ in range(2)]
    passing = [await http.post("/v1/responses", json={**body, "store": False}) for _ in range(2)]

    assert ["bypass", "bypass", "miss", "hit"] == results(*stored, *passing)
    assert passing[0].json()["id"] == passing[1].json()["id"]


async def test_an_anthropic_caller_and_an_openai_caller_do_not_share(upstream, http):
    await ask(http)

    body = {"model": "chat", "messages": HELLO, "temperature": 0, "max_tokens": 9}
    answer = await http.post("/v1/messages", json=body)

    assert ["miss"] == results(answer)
