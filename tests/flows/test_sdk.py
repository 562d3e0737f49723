"""An unmodified `openai` SDK works by changing its base URL and key."""

import json

import httpx
import openai
import pytest
from openai import OpenAI

from tests.fakes.stack import MASTER_KEY
from tests.fakes.upstream import Answer, completion, sse, status
from tests.fakes.vendor import USAGE
from tests.flows.conftest import KEY, UPSTREAM_KEY, Line

HELLO = [{"role": "user", "content": "hello brave new world"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}


@pytest.mark.behaviour(68)
def test_chat_is_relayed_whole(line: Line, client: OpenAI):
    """The answer is the provider's own; the provider saw its own model and key."""
    answer = client.chat.completions.create(model="alpha", messages=HELLO, seed=7)

    assert "hello brave new world" == answer.choices[0].message.content
    assert "alpha-1" == answer.model
    assert answer.usage is not None
    assert 1500 == answer.usage.total_tokens
    asked = line.vendor.asked("alpha")[-1]
    assert f"Bearer {UPSTREAM_KEY}" == asked.headers["authorization"]
    assert {"model": "alpha-1", "messages": HELLO, "seed": 7} == asked.json


@pytest.mark.behaviour(140)
def test_our_headers_tell_what_happened(client: OpenAI, request_id: str):
    raw = client.chat.completions.with_raw_response.create(
        model="alpha", messages=HELLO, extra_headers={"x-request-id": request_id}
    )

    told = {
        name: raw.headers[name]
        for name in (
            "x-request-id",
            "x-sluiceway-provider",
            "x-sluiceway-model",
            "x-sluiceway-route",
            "x-sluiceway-attempts",
            "x-sluiceway-cost-usd",
        )
    }
    assert {
        "x-request-id": request_id,
        "x-sluiceway-provider": "alpha",
        "x-sluiceway-model": "alpha-1",
        "x-sluiceway-route": "alpha",
        "x-sluiceway-attempts": "1",
        "x-sluiceway-cost-usd": "0.002",
    } == told
    assert 0 <= float(raw.headers["x-sluiceway-overhead-ms"]) < 1000
    assert request_id == raw.parse()._request_id


@pytest.mark.behaviour(91, 92, 101)
@pytest.mark.parametrize("model", ["mock", "alpha"])
def test_stream_without_usage_ends_with_the_finish(client: OpenAI, model: str):
    """Section 4 of OpenAI's order: role, content, finish; the usage we asked for is kept back."""
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True))

    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "assistant" == deltas[0].role
    assert not any(delta.role for delta in deltas[1:])
    assert "hello brave new world" in "".join(delta.content or "" for delta in deltas)
    assert ["stop"] == [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason]
    assert "stop" == chunks[-1].choices[0].finish_reason
    assert all(chunk.usage is None for chunk in chunks)
    assert 1 == len({chunk.id for chunk in chunks})


@pytest.mark.behaviour(100)
@pytest.mark.parametrize("model", ["mock", "alpha"])
def test_stream_with_usage_ends_with_usage_and_cost(client: OpenAI, model: str):
    chunks = list(
        client.chat.completions.create(
            model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )

    *before, last = chunks
    assert [] == last.choices
    assert last.usage is not None
    assert last.usage.total_tokens > 0
    assert float(last.model_dump()["sluiceway"]["cost_usd"]) > 0
    assert all(chunk.usage is None and chunk.choices for chunk in before)
    assert "stop" == before[-1].choices[0].finish_reason


def test_stream_is_plain_server_sent_events(line: Line):
    """Only `data:` lines, a blank line after each, `[DONE]` as the last."""
    answer = httpx.post(
        f"{line.api.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {KEY}"},
        json={"model": "mock", "messages": HELLO, "stream": True},
    )

    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    events = answer.text.split("\n\n")
    assert ["data: [DONE]", ""] == events[-2:]
    objects = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert {"chat.completion.chunk"} == {event["object"] for event in objects}


def test_the_stream_helper_accumulates(client: OpenAI):
    with client.chat.completions.stream(
        model="alpha", messages=HELLO, stream_options={"include_usage": True}
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()

    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert "hello brave new world" == final.choices[0].message.content
    assert final.usage is not None
    assert USAGE["total_tokens"] == final.usage.total_tokens


@pytest.mark.behaviour(110)
def test_tools_are_called_whole_and_streamed(client: OpenAI):
    """The same call and the same arguments, whichever way it was asked."""
    messages = [{"role": "user", "content": "please call get_weather"}]
    whole = client.chat.completions.create(model="mock", messages=messages, tools=[WEATHER])
    with client.chat.completions.stream(model="mock", messages=messages, tools=[WEATHER]) as stream:
        streamed = stream.get_final_completion()

    expected = {"city": "mock", "days": 1}
    for answer in (whole, streamed):
        assert "tool_calls" == answer.choices[0].finish_reason
        calls = answer.choices[0].message.tool_calls or []
        assert [("get_weather", expected)] == [
            (call.function.name, json.loads(call.function.arguments)) for call in calls
        ]


@pytest.mark.behaviour(183)
def test_embeddings_are_the_same_as_floats_and_by_default(client: OpenAI):
    """The SDK's default asks for base64 and decodes it."""
    default = client.embeddings.create(model="mock", input=["one", "two"])
    floats = client.embeddings.create(model="mock", input=["one", "two"], encoding_format="float")

    assert [0, 1] == [row.index for row in default.data]
    assert [row.embedding for row in floats.data] == [row.embedding for row in default.data]
    assert floats.data[0].embedding != floats.data[1].embedding
    assert 2 == default.usage.prompt_tokens


def test_models_are_listed_and_retrieved(client: OpenAI):
    listed = {model.id for model in client.models.list()}

    assert {"mock", "team/mock", "alpha", "pair", "stubborn", "slow"} == listed
    assert "team/mock" == client.models.retrieve("team/mock").id
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert "model_not_found" == caught.value.code


@pytest.mark.behaviour(1)
def test_a_request_that_is_wrong_is_a_bad_request_with_param(client: OpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="mock", messages=[])

    assert ("invalid_request", "messages") == (caught.value.code, caught.value.param)
    assert caught.value.request_id is not None


def test_a_providers_refusal_keeps_its_words(line: Line, client: OpenAI):
    """Status, message, code and param are the provider's: the request is at fault, not we."""
    refusal = {
        "message": "temperature is too hot",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "decimal_above_max_value",
    }
    line.vendor.script("alpha", status(400, refusal))

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="pair", messages=HELLO, temperature=3)

    error = caught.value
    assert ("decimal_above_max_value", "temperature") == (error.code, error.param)
    assert "temperature is too hot" in error.message
    assert isinstance(error.body, dict)
    assert ["failed"] == [attempt["outcome"] for attempt in error.body["attempts"]]


@pytest.mark.behaviour(138)
def test_an_unknown_key_is_an_authentication_error(line: Line):
    with line.client("sk-nobody") as stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.chat.completions.create(model="mock", messages=HELLO)

    assert "invalid_api_key" == caught.value.code


def test_the_master_key_is_denied_here(line: Line):
    with line.client(MASTER_KEY) as admin, pytest.raises(openai.PermissionDeniedError) as caught:
        admin.chat.completions.create(model="mock", messages=HELLO)

    assert "permission_denied" == caught.value.code


@pytest.mark.behaviour(137)
def test_an_unknown_model_is_not_found(client: OpenAI):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-none", messages=HELLO)

    assert ("model_not_found", "model") == (caught.value.code, caught.value.param)


@pytest.mark.behaviour(132)
def test_a_provider_that_limits_is_a_rate_limit_error(line: Line, client: OpenAI):
    line.vendor.script("alpha", status(429, retry_after="7"))

    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="alpha", messages=HELLO)

    assert "rate_limit_exceeded" == caught.value.code
    assert "7" == caught.value.response.headers["retry-after"]


@pytest.mark.behaviour(120, 134)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        (status(500), (502, "upstream_unavailable")),
        (status(503), (503, "overloaded")),
        (status(401), (502, "upstream_credential")),
        (status(404), (502, "upstream_unavailable")),
        (sse([b"data: {nonsense\n\n"]), (502, "upstream_malformed")),
    ],
    ids=["500", "503", "401", "404", "garbage"],
)
def test_a_failing_provider_is_a_server_error(
    line: Line, client: OpenAI, stream, upstream, expected
):
    """Also for a stream, as long as nothing has been sent."""
    line.vendor.script("alpha", upstream)

    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="alpha", messages=HELLO, stream=stream)

    assert expected == (caught.value.status_code, caught.value.code)
    assert UPSTREAM_KEY not in str(caught.value.body)


def test_fields_nobody_knows_survive(line: Line, client: OpenAI):
    body = {**completion("hi"), "vendor_extra": {"answer": 42}}
    line.vendor.script("alpha", Answer(pieces=(json.dumps(body).encode(),)))

    answer = client.chat.completions.create(model="alpha", messages=HELLO)

    assert {"answer": 42} == answer.model_dump()["vendor_extra"]
