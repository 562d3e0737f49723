"""An unmodified OpenAI client against a server that speaks Ollama's native dialect."""

import base64

import openai
import pytest

from tests.edge.api.gateways import gateway, one_route, sdk
from tests.fakes.vendors.ollama import OllamaVendor

PIXEL = base64.b64encode(b"\x89PNG pixel").decode()
CONTEXT = {"num_ctx": 8192}
"""What only the native surface understands, so that the call goes there."""
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
async def vendor():
    async with OllamaVendor() as started:
        yield started


@pytest.fixture
async def http(vendor, tmp_path, sqlite_url):
    provider = {"kind": "ollama", "base_url": vendor.base_url, "params": CONTEXT}
    async with gateway(tmp_path, sqlite_url, one_route(provider)) as client:
        yield client


@pytest.fixture
def client(http):
    return sdk(http)


async def test_a_conversation_with_a_tool(client, vendor):
    """Arguments go as an object and come as text, results by the tool's name; ids are made up."""
    vendor.calls(("weather", {"city": "Graz"}), ("weather", {"city": "Linz"}))
    vendor.says("Rain.")
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Rain?"}]

    first = await client.chat.completions.create(model="chat", messages=messages, tools=[WEATHER])
    said = first.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": city}
        for call, city in zip(said.tool_calls, ("wet", "dry"), strict=True)
    ]
    history = [*messages, said.model_dump(exclude_none=True), *reversed(results)]
    second = await client.chat.completions.create(model="chat", messages=history, tools=[WEATHER])

    assert "tool_calls" == first.choices[0].finish_reason
    assert '{"city":"Graz"}' == said.tool_calls[0].function.arguments
    assert 2 == len({call.id for call in said.tool_calls})
    assert ("Rain.", "stop") == (
        second.choices[0].message.content,
        second.choices[0].finish_reason,
    )
    path, _, sent = vendor.requests[1]
    assert "/api/chat" == path
    assert CONTEXT == sent["options"]
    assert ["system", "user", "assistant", "tool", "tool"] == [m["role"] for m in sent["messages"]]
    assert {"city": "Graz"} == sent["messages"][2]["tool_calls"][0]["function"]["arguments"]
    assert ("weather", "dry") == (sent["messages"][3]["tool_name"], sent["messages"][3]["content"])


async def test_a_stream_with_thoughts(client, vendor):
    vendor.thinks("Hm.", "Yes.")

    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": "Well?"}],
            reasoning_effort="high",
            stream=True,
            stream_options={"include_usage": True},
        )
    ]

    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    thoughts = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert ("Hm.", "Yes.") == (thoughts, "".join(delta.content or "" for delta in deltas))
    assert (7, 3) == (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens)
    assert vendor.requests[0][2]["think"] is True
    assert 1 == len({(chunk.id, chunk.created, chunk.model) for chunk in chunks})


@pytest.mark.behaviour(95)
async def test_calls_on_different_lines_are_numbered(client, vendor):
    vendor.calls(("a", {}), ("b", {"x": 1}), ("c", {}))

    async with client.chat.completions.stream(
        model="chat", messages=[{"role": "user", "content": "Go"}], tools=[WEATHER]
    ) as stream:
        whole = await stream.get_final_completion()

    calls = whole.choices[0].message.tool_calls
    assert [("a", "{}"), ("b", '{"x":1}'), ("c", "{}")] == [
        (call.function.name, call.function.arguments) for call in calls
    ]
    assert "tool_calls" == whole.choices[0].finish_reason


@pytest.mark.behaviour(39)
async def test_pictures_go_as_bare_base64(client, vendor):
    vendor.says("A pixel.")

    await client.chat.completions.create(
        model="chat",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What?"},
                    {
                        "type": "image_url",
                        "image_url": {"url": f"data:image/png;base64,{PIXEL}"},
                    },
                ],
            }
        ],
    )

    assert [{"role": "user", "content": "What?", "images": [PIXEL]}] == vendor.requests[0][2][
        "messages"
    ]


@pytest.mark.behaviour(41)
async def test_sound_is_refused(client, vendor):
    sound = {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}}

    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": [sound]}]
        )

    assert ("unsupported_parameter", "input_audio") == (caught.value.code, caught.value.param)
    assert [] == vendor.requests


async def test_an_error_line_ends_the_stream_with_an_error(client, vendor):
    vendor.breaks("Well", "model runner has unexpectedly stopped")

    stream = await client.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "Go"}], stream=True
    )

    with pytest.raises(openai.APIError, match="runner has unexpectedly stopped"):
        [chunk async for chunk in stream]


async def test_a_model_that_is_not_there(client, vendor):
    vendor.fails(404, 'model "m" not found, try pulling it first')

    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "Go"}]
        )

    assert "upstream_unavailable" == caught.value.code


@pytest.mark.behaviour(183, 184)
async def test_vectors_of_full_width_by_the_sdks_default(client, vendor):
    """The client asks for base64 of its own accord; the server never hears of it."""
    vendor.embeds(6)

    answer = await client.embeddings.create(model="chat", input=["a", "b", "c"])

    assert [6, 6, 6] == [len(row.embedding) for row in answer.data]
    assert [0.0, 1.0, 2.0] == [row.embedding[0] for row in answer.data]
    assert 9 == answer.usage.prompt_tokens
    path, _, sent = vendor.requests[0]
    assert "/api/embed" == path
    assert {"model": "m", "input": ["a", "b", "c"], "options": CONTEXT} == sent


@pytest.mark.behaviour(186)
@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
async def test_token_ids_are_refused(client, vendor, tokens):
    with pytest.raises(openai.BadRequestError) as caught:
        await client.embeddings.create(model="chat", input=tokens)

    assert "input" == caught.value.param
    assert [] == vendor.requests


@pytest.mark.behaviour(187)
async def test_another_width_than_was_asked_for_is_refused(client, vendor):
    vendor.embeds(6)

    with pytest.raises(openai.BadRequestError) as caught:
        await client.embeddings.create(model="chat", input="a", dimensions=4)

    assert "dimensions" == caught.value.param
