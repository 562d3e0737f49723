"""`/v1/completions` by OpenAI's own client: relayed where there is one, else asked of a chat."""

import json

import openai
import pytest

from tests.edge.api.gateways import gateway, one_route, sdk
from tests.fakes.upstream import Answer, running_upstream, says, sse, streams

CHUNK = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.fixture
async def upstream():
    async with running_upstream() as started:
        yield started


@pytest.fixture
async def http(upstream, tmp_path, sqlite_url):
    provider = {"kind": "groq", "api_key": "gsk-1", "base_url": upstream.base_url()}
    older = {"kind": "vllm", "base_url": upstream.base_url()}
    config = one_route(provider, "llama")
    config["providers"]["older"] = older
    config["routes"].append(
        {"model": "older", "targets": [{"provider": "older", "model": "davinci"}]}
    )
    async with gateway(tmp_path, sqlite_url, config) as client:
        yield client


@pytest.fixture
def client(http):
    return sdk(http)


async def test_a_model_that_only_chats(client, upstream):
    upstream.script("up", says("there", usage=USAGE))

    answer = await client.completions.create(
        model="chat", prompt="Hello", max_tokens=5, stop="END", echo=True
    )

    assert ("text_completion", "Hellothere") == (answer.object, answer.choices[0].text)
    assert ("stop", 5) == (answer.choices[0].finish_reason, answer.usage.total_tokens)
    (sent,) = upstream.requests
    assert "/up/v1/chat/completions" == sent.path
    assert [{"role": "user", "content": "Hello"}] == sent.json["messages"]
    assert 5 == sent.json["max_completion_tokens"]
    assert ["END"] == sent.json["stop"]
    assert "prompt" not in sent.json


async def test_a_stream_of_a_model_that_only_chats(client, upstream):
    upstream.script("up", streams("Hel", "lo", usage=USAGE))

    stream = await client.completions.create(
        model="chat", prompt=["Say"], stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    texts = [choice.text for chunk in chunks for choice in chunk.choices]
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert "Hello" == "".join(texts)
    assert ["stop"] == [reason for reason in finishes if reason]
    assert 5 == chunks[-1].usage.total_tokens
    assert {"text_completion"} == {chunk.object for chunk in chunks}


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1], [2]]])
async def test_what_a_chat_cannot_be_asked(client, upstream, prompt):
    with pytest.raises(openai.BadRequestError) as caught:
        await client.completions.create(model="chat", prompt=prompt)

    assert "prompt" == caught.value.param
    assert [] == upstream.requests


async def test_what_is_lost_is_said(client, upstream):
    upstream.script("up", says("there"))

    raw = await client.completions.with_raw_response.create(
        model="chat", prompt="Hello", suffix="!", best_of=3
    )

    assert {"suffix", "best_of"} == set(raw.headers["x-sluiceway-dropped"].split(","))


async def test_a_server_that_has_them(client, upstream):
    """Everything goes and comes as it is: token ids, suffix, logprobs."""
    body = {**CHUNK, "choices": [{"index": 0, "text": "x", "finish_reason": "length"}]}
    raw = json.dumps({**body, "usage": USAGE, "extra": 1}).encode()
    upstream.script("up", Answer(pieces=(raw,)))

    answer = await client.completions.with_raw_response.create(
        model="older", prompt=[1, 2], suffix="!", logprobs=2
    )

    assert raw == answer.content
    assert "/up/v1/completions" == upstream.requests[0].path
    assert {"model": "davinci", "prompt": [1, 2], "suffix": "!", "logprobs": 2} == (
        upstream.requests[0].json
    )


async def test_a_stream_of_a_server_that_has_them(client, upstream):
    events = [
        {**CHUNK, "choices": [{"index": 0, "text": "Hel", "finish_reason": None}]},
        {**CHUNK, "choices": [{"index": 0, "text": "lo", "finish_reason": "stop"}]},
    ]
    pieces = [f"data: {json.dumps(one)}\n\n".encode() for one in events]
    upstream.script("up", sse([*pieces, b"data: [DONE]\n\n"]))

    stream = await client.completions.create(model="older", prompt="Say", stream=True)

    assert "Hello" == "".join([chunk.choices[0].text async for chunk in stream])


async def test_no_prompt(http):
    answer = await http.post("/v1/completions", json={"model": "chat"})

    assert (400, "prompt") == (answer.status_code, answer.json()["error"]["param"])
