"""`/v1/messages` for an unmodified `anthropic` SDK, over a provider of another dialect."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import pytest

from tests.edge.api.conftest import KEY
from tests.edge.api.messages import Line, line, routes
from tests.fakes.upstream import Upstream, chunk, running_upstream, says, sse, status, streams

pytestmark = pytest.mark.anyio

MESSAGES = "/v1/messages"
HELLO = [{"role": "user", "content": "hello brave new world"}]
ASKED = {"model": "mock", "max_tokens": 100, "messages": HELLO}
WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream() as running:
        yield running


@pytest.fixture
async def api(upstream: Upstream, tmp_path: Path, sqlite_url: str) -> AsyncIterator[Line]:
    """Routes to the mock and to `up`, a compatible provider that answers as scripted."""
    up = {"kind": "openai_compatible", "base_url": upstream.base_url("up"), "api_key": "k"}
    config = routes(("mock", {"kind": "mock"}), ("up", up))
    async with line(tmp_path, sqlite_url, config) as opened:
        yield opened


@pytest.mark.behaviour(162)
@pytest.mark.parametrize("bearer", [False, True])
@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
@pytest.mark.parametrize("beta", [None, "no-such-beta-2030-01-01"])
async def test_every_sdk_is_let_in(api: Line, version: str, beta: str | None, *, bearer: bool):
    """Old and new ones by their headers; the beta namespace adds a query."""
    headers = {"anthropic-version": version}
    async with api.sdk(headers=headers, bearer=bearer) as sdk:
        if beta is None:
            answer = await sdk.messages.create(**ASKED)
        else:
            answer = await sdk.beta.messages.create(**ASKED, betas=[beta])

    assert "hello brave new world" in answer.content[0].text
    assert answer.id.startswith("msg_")
    assert ("message", "assistant", "end_turn") == (answer.type, answer.role, answer.stop_reason)
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


@pytest.mark.behaviour(140)
async def test_the_call_is_named_in_its_headers(api: Line):
    async with api.sdk(headers={"x-request-id": "mine"}) as sdk:
        raw = await sdk.messages.with_raw_response.create(**ASKED)

    assert ("mine", "mine") == (raw.headers["request-id"], raw.headers["x-request-id"])
    assert ("mock", "m-1") == (
        raw.headers["x-sluiceway-provider"],
        raw.headers["x-sluiceway-model"],
    )
    assert "mine" == (await raw.parse())._request_id


@pytest.mark.behaviour(163)
async def test_the_stream_helper_accumulates(api: Line):
    async with api.sdk() as sdk, sdk.messages.stream(**ASKED) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()

    assert "hello brave new world" in text
    assert text == final.content[0].text
    assert "end_turn" == final.stop_reason
    assert final.usage.input_tokens > 0
    assert final.usage.output_tokens > 0


@pytest.mark.behaviour(118)
async def test_a_streams_head(api: Line):
    answer = await api.http.post(MESSAGES, json={**ASKED, "stream": True})

    assert ("text/event-stream; charset=utf-8", "no-cache", "no") == (
        answer.headers["content-type"],
        answer.headers["cache-control"],
        answer.headers["x-accel-buffering"],
    )
    assert "content-length" not in answer.headers
    events = answer.text.split("\n\n")
    assert "event: message_start" == events[0].split("\n")[0]
    assert ["event: message_stop", 'data: {"type":"message_stop"}'] == events[-2].split("\n")


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_are_called_and_answered(api: Line, stream: object):
    """The mock calls the tool; its result goes back in the next turn."""
    asked = {
        **ASKED,
        "tools": [WEATHER],
        "messages": [{"role": "user", "content": "please call get_weather"}],
    }
    async with api.sdk() as sdk:
        if stream:
            async with sdk.messages.stream(**asked) as running:
                first = await running.get_final_message()
        else:
            first = await sdk.messages.create(**asked)
        call = next(block for block in first.content if block.type == "tool_use")
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
        messages = [*asked["messages"], first.to_param(), {"role": "user", "content": [result]}]
        second = await sdk.messages.create(**{**asked, "messages": messages})

    assert ("tool_use", "get_weather", {"city": "mock", "days": 1}) == (
        first.stop_reason,
        call.name,
        call.input,
    )
    assert "end_turn" == second.stop_reason


@pytest.mark.behaviour(166)
async def test_thoughts_are_blocks_of_their_own_and_go_back(api: Line, upstream: Upstream):
    """Where the provider signs nothing its thoughts return to it all the same."""
    thought = chunk({"role": "assistant", "reasoning_content": "hm"})
    upstream.script(
        "up",
        sse([thought, chunk({"content": "yes"}), chunk({}, "stop"), b"data: [DONE]\n\n"]),
        says("indeed"),
    )
    asked = {**ASKED, "model": "up"}
    async with api.sdk() as sdk:
        async with sdk.messages.stream(**asked) as running:
            first = await running.get_final_message()
        await sdk.messages.create(**{**asked, "messages": [*HELLO, first.to_param(), *HELLO]})

    assert [("thinking", "hm"), ("text", "yes")] == [
        (block.type, block.thinking if block.type == "thinking" else block.text)
        for block in first.content
    ]
    sent = upstream.asked("up")[-1].json["messages"][1]
    assert ("hm", "yes") == (sent["reasoning_content"], sent["content"])


@pytest.mark.behaviour(168)
@pytest.mark.parametrize("model", ["mock", "up"])
async def test_tokens_are_counted_for_every_model(api: Line, upstream: Upstream, model: str):
    """No provider is asked that cannot count; an estimate says that it is one."""
    asked = {"model": model, "messages": HELLO, "system": "be brief", "tools": [WEATHER]}
    async with api.sdk() as sdk:
        raw = await sdk.messages.with_raw_response.count_tokens(**asked)
        more = await sdk.messages.count_tokens(**{**asked, "messages": HELLO * 20})

    count = (await raw.parse()).input_tokens
    assert 20 < count < more.input_tokens
    assert "true" == raw.headers["x-sluiceway-estimated"]
    assert [] == upstream.requests


async def test_a_picture_counts_by_its_size_on_the_screen(api: Line):
    """Not by its bytes: a megabyte of base64 is no quarter of a million tokens."""
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 500_000}
    result = [{"type": "image", "source": source}]
    blocks = [
        {"type": "image", "source": source},
        {"type": "tool_result", "tool_use_id": "t", "content": result},
    ]
    async with api.sdk() as sdk:
        count = await sdk.messages.count_tokens(
            model="mock", messages=[{"role": "user", "content": blocks}]
        )

    assert 3_000 < count.input_tokens < 6_000


@pytest.mark.behaviour(169, 137, 138)
@pytest.mark.parametrize(
    ("fields", "key", "error", "kind", "code"),
    [
        (
            {"model": "nobody"},
            KEY,
            anthropic.NotFoundError,
            "not_found_error",
            "model_not_found",
        ),
        ({}, "sk-wrong", anthropic.AuthenticationError, "authentication_error", "invalid_api_key"),
        (
            {"messages": []},
            KEY,
            anthropic.BadRequestError,
            "invalid_request_error",
            "invalid_request",
        ),
        (
            {"messages": [{"role": "nobody", "content": "x"}]},
            KEY,
            anthropic.BadRequestError,
            "invalid_request_error",
            "invalid_request",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_refusals_are_anthropics_errors(
    api: Line,
    fields: dict[str, object],
    key: str,
    error: type[anthropic.APIStatusError],
    kind: str,
    code: str,
    stream: object,
):
    async with api.sdk(key=key) as sdk:
        with pytest.raises(error) as raised:
            await sdk.messages.create(**{**ASKED, **fields, "stream": stream})

    found = raised.value
    assert (kind, code) == (found.type, found.error_code)
    assert found.request_id == found.body["request_id"]
    assert found.request_id.startswith("req_")
    assert ("error", code) == (found.body["type"], found.body["error"]["code"])


@pytest.mark.behaviour(120, 169)
@pytest.mark.parametrize(
    ("answer", "error", "kind"),
    [
        (status(503), anthropic.OverloadedError, "overloaded_error"),
        (status(500), anthropic.InternalServerError, "api_error"),
        (
            status(429, {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}),
            anthropic.RateLimitError,
            "rate_limit_error",
        ),
        (
            status(400, {"message": "bad", "type": "invalid_request_error", "param": "top_p"}),
            anthropic.BadRequestError,
            "invalid_request_error",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_providers_failure_has_its_own_status(
    api: Line,
    upstream: Upstream,
    answer: object,
    error: type[anthropic.APIStatusError],
    kind: str,
    stream: object,
):
    """Also when a stream was asked for: nothing has been sent by then."""
    upstream.script("up", answer)
    async with api.sdk() as sdk:
        with pytest.raises(error) as raised:
            await sdk.messages.create(**{**ASKED, "model": "up", "stream": stream})

    assert kind == raised.value.type
    assert "application/json" == raised.value.response.headers["content-type"]


@pytest.mark.behaviour(122)
async def test_a_stream_that_breaks_raises(api: Line, upstream: Upstream):
    """The SDK would take a stream that just ends for a whole answer."""
    upstream.script("up", sse([chunk({"content": "hel"})], end="reset"))
    async with api.sdk() as sdk:
        seen: list[str] = []
        with pytest.raises(anthropic.APIStatusError) as raised:
            await _read(sdk, seen)

    assert ["hel"] == seen
    assert "stream_interrupted" == raised.value.error_code


async def _read(sdk: anthropic.AsyncAnthropic, seen: list[str]) -> None:
    async with sdk.messages.stream(**{**ASKED, "model": "up"}) as running:
        async for piece in running.text_stream:
            seen.append(piece)  # noqa: PERF401 (what came before a break counts, too)


@pytest.mark.parametrize(
    ("method", "path", "status_code", "kind"),
    [
        ("GET", MESSAGES, 405, "invalid_request_error"),
        ("POST", f"{MESSAGES}/batches", 404, "not_found_error"),
        ("GET", "/v1/models/nobody", 404, "not_found_error"),
    ],
)
async def test_paths_that_are_not_served_say_so_in_the_dialect(
    api: Line, method: str, path: str, status_code: int, kind: str
):
    answer = await api.http.request(method, path, headers={"anthropic-version": "2023-06-01"})

    assert (status_code, kind) == (answer.status_code, answer.json()["error"]["type"])
    assert answer.json()["request_id"] == answer.headers["request-id"]
    assert answer.headers["request-id"] == answer.headers["x-request-id"]


@pytest.mark.behaviour(170)
async def test_models_are_listed_in_the_callers_dialect(api: Line):
    async with api.sdk() as sdk:
        page = await sdk.models.list(limit=1)
        names = [model.id async for model in page]
        one = await sdk.models.retrieve("up")
    openai = (await api.http.get("/v1/models")).json()

    assert ["mock", "up"] == names
    assert (1, True, "mock", "mock") == (len(page.data), page.has_more, page.first_id, page.last_id)
    assert ("model", "up", "up", "active") == (one.type, one.id, one.display_name, one.lifecycle)
    assert 2026 == one.created_at.year
    assert ("list", ["mock", "up"]) == (openai["object"], [model["id"] for model in openai["data"]])


@pytest.mark.parametrize(
    ("query", "names", "has_more"),
    [
        ({}, ["mock", "up"], False),
        ({"before_id": "up", "limit": 1}, ["mock"], False),
        ({"before_id": "mock"}, [], False),
        ({"after_id": "mock"}, ["up"], False),
    ],
)
async def test_pages_of_models(
    api: Line, query: dict[str, str], names: list[str], has_more: object
):
    answer = await api.http.get(
        "/v1/models", params=query, headers={"anthropic-version": "2023-06-01"}
    )

    found = answer.json()
    assert (names, has_more) == ([model["id"] for model in found["data"]], found["has_more"])


async def test_a_page_after_nothing_is_refused(api: Line):
    answer = await api.http.get(
        "/v1/models", params={"after_id": "x"}, headers={"anthropic-version": "2023-06-01"}
    )

    assert (400, "after_id") == (answer.status_code, answer.json()["error"]["param"])


@pytest.mark.behaviour(172)
async def test_a_coding_agents_request_reaches_a_compatible_provider(api: Line, upstream: Upstream):
    """System blocks with marks, many tools, thinking, a long user id, a system message inside."""
    mark = {"type": "ephemeral"}
    upstream.script("up", streams("done"))
    asked = {
        "model": "up",
        "max_tokens": 32_000,
        "stream": True,
        "system": [
            {"type": "text", "text": "You are an agent."},
            {"type": "text", "text": "Tools are below.", "cache_control": mark},
        ],
        "thinking": {"type": "enabled", "budget_tokens": 10_000},
        "metadata": {"user_id": "user_" + "0" * 64 + "_account__session_" + "1" * 36},
        "tools": [{**WEATHER, "name": f"tool_{number}"} for number in range(24)],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "fix it", "cache_control": mark}],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""},
                    {"type": "text", "text": "Looking."},
                    {"type": "tool_use", "id": "toolu_1", "name": "tool_1", "input": {"city": "a"}},
                    {"type": "tool_use", "id": "toolu_2", "name": "tool_2", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "1"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_2",
                        "is_error": True,
                        "content": [{"type": "text", "text": "no", "cache_control": mark}],
                    },
                    {"type": "text", "text": "go on"},
                ],
            },
            {"role": "system", "content": "The user has opened a.py."},
        ],
    }
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "a-1,b-2", "x-app": "cli"}

    answer = await api.http.post(f"{MESSAGES}?beta=true", json=asked, headers=headers)

    assert 200 == answer.status_code
    assert "done" in answer.text
    sent = upstream.asked("up")[-1]
    assert not [name for name in sent.headers if name.startswith(("anthropic", "x-app"))]
    body = sent.json
    roles = ["system", "user", "assistant", "tool", "tool", "user"]
    assert roles == [message["role"] for message in body["messages"]][:6]
    assert "The user has opened a.py." in body["messages"][6]["content"]
    assert 24 == len(body["tools"])
    assert "thinking" not in body
    assert ["toolu_1", "toolu_2"] == [
        message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"
    ]
    calls = body["messages"][2]["tool_calls"]
    assert [{"city": "a"}, {}] == [json.loads(call["function"]["arguments"]) for call in calls]


async def test_a_message_can_be_a_job(api: Line):
    """The job keeps the path and is not run as a stream; counting is never one."""
    later = {"prefer": "respond-async"}

    job = await api.http.post(MESSAGES, json={**ASKED, "stream": True}, headers=later)
    same = await api.http.post("/v1/jobs", json={"endpoint": MESSAGES, "body": ASKED})
    count = await api.http.post(
        f"{MESSAGES}/count_tokens", json={"model": "mock", "messages": HELLO}, headers=later
    )
    refused = await api.http.post(
        "/v1/jobs", json={"endpoint": f"{MESSAGES}/count_tokens", "body": ASKED}
    )

    assert (202, MESSAGES) == (job.status_code, job.json()["endpoint"])
    assert (202, MESSAGES) == (same.status_code, same.json()["endpoint"])
    assert job.headers["request-id"] == job.headers["x-request-id"]
    assert 200 == count.status_code
    assert (400, "endpoint") == (refused.status_code, refused.json()["error"]["param"])


async def test_limits_are_told_by_anthropics_names_too(tmp_path: Path, sqlite_url: str):
    config = routes(("mock", {"kind": "mock"}), limits={"rpm": 1, "tpm": 100_000})
    async with line(tmp_path, sqlite_url, config) as api, api.sdk() as sdk:
        raw = await sdk.messages.with_raw_response.create(**ASKED)
        with pytest.raises(anthropic.RateLimitError) as raised:
            await sdk.messages.create(**ASKED)

    assert ("1", "0", "100000") == (
        raw.headers["anthropic-ratelimit-requests-limit"],
        raw.headers["anthropic-ratelimit-requests-remaining"],
        raw.headers["anthropic-ratelimit-tokens-limit"],
    )
    assert raw.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert ("rate_limit_error", "rate_limit_exceeded") == (
        raised.value.type,
        raised.value.error_code,
    )
    assert int(raised.value.response.headers["retry-after"]) > 0


@pytest.mark.behaviour(62)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_could_not_be_asked_is_told(api: Line, upstream: Upstream, stream: object):
    """A tool that only Anthropic runs cannot go to others."""
    upstream.script("up", streams("x") if stream else says("x"))
    search = {"type": "web_search_20250305", "name": "web_search"}
    answer = await api.http.post(
        MESSAGES, json={**ASKED, "model": "up", "tools": [search], "stream": stream}
    )

    assert (200, True) == (
        answer.status_code,
        "tools" in answer.headers.get("x-sluiceway-dropped", ""),
    )


async def test_the_user_is_the_one_of_the_metadata(tmp_path: Path, sqlite_url: str):
    """Limits and books know the same end users, whatever dialect names them."""
    key = {"name": "ci", "key": KEY}
    tenant = {"id": "acme", "keys": [key], "users": {"limits": {"rpm": 1}}}
    config = routes(("mock", {"kind": "mock"})) | {"tenants": [tenant]}
    async with line(tmp_path, sqlite_url, config) as api:
        asked = [
            await api.http.post(MESSAGES, json={**ASKED, "metadata": {"user_id": user}})
            for user in ("ann", "ann", "ben")
        ]

    assert [200, 429, 200] == [answer.status_code for answer in asked]
