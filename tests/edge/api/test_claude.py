"""An unmodified OpenAI client against servers that speak Anthropic's Messages."""

import json

import openai
import pytest

from tests.edge.api.gateways import gateway, sdk
from tests.fakes.vendors.anthropic import SIGNATURE, USAGE, AnthropicVendor

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
async def vendors():
    async with AnthropicVendor() as first, AnthropicVendor() as second:
        yield first, second


@pytest.fixture
async def http(vendors, tmp_path, sqlite_url):
    """One route, with a second target to fall back to; a million tokens cost a dollar."""
    config = {
        "providers": {
            name: {"kind": "anthropic", "base_url": vendor.base_url, "api_key": "sk-ant-key-1"}
            for name, vendor in zip(("first", "second"), vendors, strict=True)
        },
        "routes": [
            {
                "model": "chat",
                "targets": [
                    {"provider": name, "model": "claude-opus-4-6"} for name in ("first", "second")
                ],
                "retry": {"max_attempts": 1},
                "price": {"input_per_mtok": 1, "output_per_mtok": 10},
            }
        ],
    }
    async with gateway(tmp_path, sqlite_url, config) as client:
        yield client


@pytest.fixture
def client(http):
    return sdk(http)


async def chunks(client, **asked):
    stream = await client.chat.completions.create(
        model="chat", messages=HELLO, stream=True, **asked
    )
    return [chunk async for chunk in stream]


def text(told):
    return "".join(chunk.choices[0].delta.content or "" for chunk in told if chunk.choices)


@pytest.mark.behaviour(87)
@pytest.mark.parametrize("streamed", [False, True])
async def test_thoughts_survive_the_clients_echo(client, vendors, streamed):
    """What the client got is sent back as it is, and Claude finds its own signed block in it."""
    vendor, _ = vendors
    thought = {"type": "thinking", "thinking": "Vienna, then.", "signature": SIGNATURE}
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Wien"}}
    vendor.answers(thought, call, stop_reason="tool_use")
    vendor.says("Sun.")
    asked = {"model": "chat", "messages": HELLO, "tools": [WEATHER], "reasoning_effort": "high"}

    if streamed:
        async with client.chat.completions.stream(**asked) as stream:
            first = await stream.get_final_completion()
    else:
        first = await client.chat.completions.create(**asked)
    said = first.choices[0].message
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "sunny"}
    history = [*HELLO, said.model_dump(exclude_none=True), result]
    second = await client.chat.completions.create(**{**asked, "messages": history})

    assert "Sun." == second.choices[0].message.content
    _, _, sent = vendor.requests[-1]
    assert [thought, call] == sent["messages"][1]["content"]
    assert ({"type": "adaptive"}, {"effort": "high"}) == (sent["thinking"], sent["output_config"])


@pytest.mark.behaviour(123)
async def test_overload_before_any_content_is_not_seen(client, vendors):
    """Another target answers; what the first had begun is not shown."""
    first, second = vendors
    first.breaks("overloaded_error")
    second.says("Hello there")

    told = await chunks(client)

    assert "Hello there" == text(told)
    assert 1 == sum(chunk.choices[0].delta.role is not None for chunk in told)
    assert 1 == len(first.requests) == len(second.requests)


@pytest.mark.behaviour(121, 124)
async def test_overload_after_content_is_an_error(client, vendors):
    first, second = vendors
    first.breaks("overloaded_error", after="Hello ")

    with pytest.raises(openai.APIError, match="It is overloaded_error"):
        await chunks(client)
    assert [] == second.requests


@pytest.mark.behaviour(150, 151)
async def test_each_token_is_counted_once(client, vendors):
    """Anthropic counts its cache beside the input, OpenAI inside; whole and streamed alike."""
    vendor, _ = vendors
    vendor.says("Hi")
    vendor.says("Hi")

    answer = await client.chat.completions.with_raw_response.create(model="chat", messages=HELLO)
    *_, last = await chunks(client, stream_options={"include_usage": True})

    whole = answer.parse().usage
    cache = USAGE["cache_read_input_tokens"], USAGE["cache_creation_input_tokens"]
    assert whole == last.usage
    assert USAGE["input_tokens"] + sum(cache) == whole.prompt_tokens
    assert cache == (
        whole.prompt_tokens_details.cached_tokens,
        whole.prompt_tokens_details.cache_write_tokens,
    )
    assert 0.00012 == float(answer.headers["x-sluiceway-cost-usd"]) == last.sluiceway["cost_usd"]


@pytest.mark.behaviour(62)
async def test_what_was_left_out_is_told(client, vendors):
    vendor, _ = vendors
    vendor.says("Hi")
    asked = client.chat.completions.with_raw_response

    answer = await asked.create(model="chat", messages=HELLO, seed=7, temperature=1.5)

    assert "seed,temperature" == answer.headers["x-sluiceway-dropped"]


@pytest.mark.parametrize(
    ("status", "kind", "seen"),
    [
        (400, "invalid_request_error", openai.BadRequestError),
        (529, "overloaded_error", openai.InternalServerError),
        (429, "rate_limit_error", openai.RateLimitError),
        (401, "authentication_error", openai.InternalServerError),
    ],
)
async def test_errors_are_in_the_callers_shape(client, vendors, status, kind, seen):
    """A refused key of the gateway's own is never the caller's 401."""
    for vendor in vendors:
        vendor.fails(status, kind)

    with pytest.raises(seen) as caught:
        await client.chat.completions.create(model="chat", messages=HELLO)
    assert "It is" in str(caught.value)


async def test_the_old_words_for_tools_are_understood(client, vendors):
    """Functions go out as tools, and the call comes back in the words it was asked in."""
    for _ in range(2):
        vendors[0].calls(("weather", {"city": "Oslo"}))
    history = [
        *HELLO,
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "weather", "arguments": "{}"},
        },
        {"role": "function", "name": "weather", "content": "rain"},
    ]
    asked = {"functions": [WEATHER["function"]], "function_call": {"name": "weather"}}

    whole = await client.chat.completions.create(model="chat", messages=history, **asked)
    async with client.chat.completions.stream(model="chat", messages=history, **asked) as events:
        streamed = await events.get_final_completion()

    body = vendors[0].requests[-1][2]
    (_, call, result) = body["messages"]
    assert (["weather"], "tool") == (
        [tool["name"] for tool in body["tools"]],
        body["tool_choice"]["type"],
    )
    assert call["content"][0]["id"] == result["content"][0]["tool_use_id"]
    for choice in (whole.choices[0], streamed.choices[0]):
        found = choice.message.function_call
        assert ("weather", {"city": "Oslo"}) == (found.name, json.loads(found.arguments))
        assert ("function_call", None) == (choice.finish_reason, choice.message.tool_calls)
