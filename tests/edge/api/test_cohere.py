"""An unmodified OpenAI client against Cohere's native dialect: chat, vectors, ranking."""

import openai
import pytest

from tests.edge.api.gateways import gateway, one_route, sdk
from tests.fakes.vendors.cohere import CohereVendor

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
USER = {"role": "user", "content": "Rain?"}
PRICE = {"input_per_mtok": "1000", "output_per_mtok": "1000"}


@pytest.fixture
async def vendor():
    async with CohereVendor() as started:
        yield started


@pytest.fixture
async def http(vendor, tmp_path, sqlite_url):
    provider = {"kind": "cohere", "base_url": vendor.base_url, "api_key": "co-1"}
    config = one_route(provider, "command-a", price=PRICE)
    async with gateway(tmp_path, sqlite_url, config) as client:
        yield client


@pytest.fixture
def client(http):
    return sdk(http)


async def test_a_conversation_with_a_tool(client, vendor):
    """The plan is shown as thought and goes back as a plan; books take what is billed."""
    vendor.calls(("weather", {"city": "Graz"}))
    vendor.says("Rain.")

    raw = await client.chat.completions.with_raw_response.create(
        model="chat", messages=[USER], tools=[WEATHER], tool_choice="required"
    )
    first = raw.parse()
    said = first.choices[0].message
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "wet"}
    history = [USER, said.model_dump(exclude_none=True), result]
    second = await client.chat.completions.create(model="chat", messages=history, tools=[WEATHER])

    assert ("tool_calls", "I will look.") == (
        first.choices[0].finish_reason,
        said.reasoning_content,
    )
    assert (70, 3) == (first.usage.prompt_tokens, first.usage.completion_tokens)
    assert "0.006" == raw.headers["x-sluiceway-cost-usd"]
    assert "Rain." == second.choices[0].message.content
    assert ["/v2/chat", "/v2/chat"] == [path for path, _, _ in vendor.requests]
    assert "REQUIRED" == vendor.requests[0][2]["tool_choice"]
    assert "I will look." == vendor.requests[1][2]["messages"][1]["tool_plan"]
    assert "Bearer co-1" == vendor.requests[0][1]["authorization"]


async def test_streams(client, vendor):
    vendor.thinks("Hm hm", "Yes it is")
    vendor.calls(("weather", {"city": "Graz"}), ("weather", {}))

    async with client.chat.completions.stream(
        model="chat", messages=[USER], stream_options={"include_usage": True}
    ) as stream:
        first = await stream.get_final_completion()
    async with client.chat.completions.stream(
        model="chat", messages=[USER], tools=[WEATHER]
    ) as stream:
        second = await stream.get_final_completion()

    assert ("Yes it is", "stop") == (
        first.choices[0].message.content,
        first.choices[0].finish_reason,
    )
    assert (70, 3) == (first.usage.prompt_tokens, first.usage.completion_tokens)
    calls = second.choices[0].message.tool_calls
    assert ['{"city": "Graz"}', "{}"] == [call.function.arguments for call in calls]
    assert "tool_calls" == second.choices[0].finish_reason


@pytest.mark.behaviour(62)
async def test_what_it_cannot_do_is_said(client, vendor):
    vendor.says("Yes")

    raw = await client.chat.completions.with_raw_response.create(
        model="chat", messages=[USER], n=2, logit_bias={"1": 1}
    )

    assert "n,logit_bias" == raw.headers["x-sluiceway-dropped"]


@pytest.mark.behaviour(183, 185)
async def test_many_texts_are_asked_for_in_parts(client, vendor):
    """Vectors come in the order of the texts, of full width, tokens are added up."""
    for _ in range(3):
        vendor.embeds(6)

    answer = await client.embeddings.create(
        model="chat", input=[f"text {number}" for number in range(200)]
    )

    assert list(range(200)) == [row.index for row in answer.data]
    assert [float(number) for number in range(200)] == [row.embedding[0] for row in answer.data]
    assert {6} == {len(row.embedding) for row in answer.data}
    assert 600 == answer.usage.prompt_tokens
    assert [8, 96, 96] == sorted(len(sent["texts"]) for _, _, sent in vendor.requests)
    assert not any("encoding_format" in sent for _, _, sent in vendor.requests)


@pytest.mark.behaviour(185)
async def test_one_failure_fails_the_call(client, vendor):
    """What the other parts cost is charged, as an estimate."""
    vendor.embeds(6)
    vendor.fails(500, "internal")
    vendor.embeds(6)

    with pytest.raises(openai.InternalServerError) as caught:
        await client.embeddings.create(model="chat", input=[f"text {n}" for n in range(200)])

    assert "upstream_unavailable" == caught.value.code


@pytest.mark.behaviour(186)
async def test_token_ids_are_refused(client, vendor):
    with pytest.raises(openai.BadRequestError) as caught:
        await client.embeddings.create(model="chat", input=[1, 2, 3])

    assert "input" == caught.value.param
    assert [] == vendor.requests


async def test_ranking(http, vendor):
    """Documents are repeated where that was asked, as the API's first version did it."""
    vendor.ranks(1, 0)
    documents = ["a", {"text": "b"}]

    answer = await http.post(
        "/v1/rerank",
        json={"model": "chat", "query": "q", "documents": documents, "return_documents": True},
    )

    assert [(1, {"text": "b"}), (0, {"text": "a"})] == [
        (result["index"], result["document"]) for result in answer.json()["results"]
    ]
    path, _, sent = vendor.requests[0]
    assert "/v2/rerank" == path
    assert {"model": "command-a", "query": "q", "documents": ["a", "b"]} == sent
