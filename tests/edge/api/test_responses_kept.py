"""What `/v1/responses` keeps: read, listed, deleted, and gone on from."""

import json
from contextlib import asynccontextmanager

import httpx
import openai
import pytest

from tests.edge.api.conftest import KEY
from tests.edge.api.gateways import URL, gateway, one_route, sdk
from tests.fakes.vendors.openai import OpenAIVendor

OTHER_KEY = "sk-other-0123456789abcdef"
TENANTS = [
    {"id": "acme", "keys": [{"name": "ci", "key": KEY}]},
    {"id": "other", "keys": [{"name": "ci", "key": OTHER_KEY}]},
]
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
async def vendor():
    async with OpenAIVendor() as opened:
        yield opened


@asynccontextmanager
async def opened(vendor, folder, url, **more):
    provider = {"kind": "openai_compatible", "base_url": f"{vendor.base_url}/v1"}
    config = {**one_route(provider), "tenants": TENANTS, **more}
    async with gateway(folder, url, config) as http:
        yield http


@pytest.fixture
async def http(vendor, tmp_path, sqlite_url):
    async with opened(vendor, tmp_path, sqlite_url) as client:
        yield client


@pytest.fixture
def client(http):
    return sdk(http)


@pytest.fixture
def stranger(http):
    """A client of another tenant, over the same gateway."""
    return openai.AsyncOpenAI(
        api_key=OTHER_KEY, base_url=f"{URL}/v1", http_client=http, max_retries=0,
        default_headers={"authorization": f"Bearer {OTHER_KEY}"},
    )  # fmt: skip


def messages(vendor):
    """What the vendor was asked last."""
    return vendor.requests[-1][2]["messages"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_read_again(client, vendor, stream):
    """It is there as soon as its caller knows of it, with what it was made from."""
    vendor.says("hello there")
    answer = await created(client, stream=stream, input="hi")

    again = await client.responses.retrieve(answer.id)
    items = await client.responses.input_items.list(answer.id)

    assert ("hello there", True, 30) == (again.output_text, again.store, again.usage.total_tokens)
    (item,) = items.data
    assert ("message", "user", "hi") == (item.type, item.role, item.content[0].text)


async def created(client, *, stream=False, **asked):
    if not stream:
        return await client.responses.create(model="chat", **asked)
    async with client.responses.stream(model="chat", **asked) as streaming:
        return await streaming.get_final_response()


@pytest.mark.behaviour(181)
async def test_what_is_not_to_be_kept_is_not(client, vendor):
    vendor.says("hello there")
    answer = await created(client, input="hi", store=False)

    assert answer.store is False
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(answer.id)


@pytest.mark.behaviour(178)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_goes_on(client, vendor, stream):
    """The vendor has no memory: it is sent all that was said, in order."""
    vendor.says("I am Ada.")
    vendor.says("Ada, still.")
    vendor.says("Yes.")
    first = await created(client, input="Who are you?")
    second = await created(client, stream=stream, input="And now?", previous_response_id=first.id)
    third = await created(client, input="Sure?", previous_response_id=second.id)

    assert first.id == second.previous_response_id
    said = [(message["role"], message["content"]) for message in messages(vendor)]
    assert [
        ("user", "Who are you?"),
        ("assistant", "I am Ada."),
        ("user", "And now?"),
        ("assistant", "Ada, still."),
        ("user", "Sure?"),
    ] == said
    listed = await client.responses.input_items.list(third.id, order="asc", limit=2)
    everything = [item.content[0].text async for item in listed]
    assert [text for _, text in said] == everything


async def test_items_are_known_by_their_ids(client, stranger, vendor):
    """Clients that trust in `store` send references instead of what was said."""
    vendor.says("I am Ada.")
    vendor.says("Ada, still.")
    first = await created(client, input="Who are you?")
    asked = [
        {"role": "user", "content": "Who are you?"},
        {"type": "item_reference", "id": first.output[0].id},
        {"role": "user", "content": "And now?"},
    ]

    await created(client, input=asked)

    said = [(message["role"], message["content"]) for message in messages(vendor)]
    assert [("user", "Who are you?"), ("assistant", "I am Ada."), ("user", "And now?")] == said
    with pytest.raises(openai.BadRequestError) as refused:
        await created(stranger, input=asked)
    assert "input[1]" == refused.value.param


@pytest.mark.behaviour(179)
async def test_instructions_and_tools_are_not_carried_on(client, vendor):
    vendor.says("Aye.")
    vendor.says("Yes.")
    first = await created(client, input="hi", instructions="Speak like a pirate.", tools=[TOOL])

    second = await created(client, input="again", previous_response_id=first.id)

    assert "system" not in {message["role"] for message in messages(vendor)}
    assert "tools" not in vendor.requests[-1][2]
    assert (None, []) == (second.instructions, second.tools)


async def test_a_thought_goes_back_where_it_is_wanted(vendor, tmp_path, sqlite_url):
    """DeepSeek refuses its own calls without the thoughts that led to them."""
    provider = {"kind": "deepseek", "base_url": f"{vendor.base_url}/v1", "api_key": "sk-1"}
    vendor.thinks("hm", "Aye.")
    vendor.says("Yes.")

    async with gateway(tmp_path, sqlite_url, one_route(provider)) as http:
        first = await created(sdk(http), input="hi")
        await created(sdk(http), input="again", previous_response_id=first.id)

    said = messages(vendor)[1]
    assert ("Aye.", "hm") == (said["content"], said["reasoning_content"])


async def test_a_tool_is_called_and_answered(client, vendor):
    """The call, and the thought that led to it, stand before the result."""
    vendor.calls(("look", {"at": "sky"}))
    vendor.says("It is blue.")
    first = await created(client, input="Look!", tools=[TOOL])
    (call,) = first.output
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "blue"}

    second = await created(client, input=[result], previous_response_id=first.id, tools=[TOOL])

    assert "It is blue." == second.output_text
    _, assistant, tool = messages(vendor)
    assert [(call.call_id, "look", {"at": "sky"})] == [
        (made["id"], made["function"]["name"], json.loads(made["function"]["arguments"]))
        for made in assistant["tool_calls"]
    ]
    assert ("tool", call.call_id, "blue") == (tool["role"], tool["tool_call_id"], tool["content"])


@pytest.mark.behaviour(178)
async def test_a_tenant_knows_only_its_own(client, stranger, vendor):
    vendor.says("Secret.")
    answer = await created(client, input="hi")

    with pytest.raises(openai.BadRequestError) as refused:
        await created(stranger, input="go on", previous_response_id=answer.id)
    assert ("previous_response_not_found", "previous_response_id") == (
        refused.value.code,
        refused.value.param,
    )
    for reading in (stranger.responses.retrieve, stranger.responses.delete):
        with pytest.raises(openai.NotFoundError):
            await reading(answer.id)
    with pytest.raises(openai.NotFoundError):
        await stranger.responses.input_items.list(answer.id)
    assert 1 == len(vendor.requests)


async def test_a_deleted_response_is_gone(client, vendor):
    """It cannot be read or gone on from; what has gone on from it still can."""
    for text in ("One.", "Two.", "Three."):
        vendor.says(text)
    first = await created(client, input="1")
    second = await created(client, input="2", previous_response_id=first.id)

    await client.responses.delete(first.id)

    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError):
        await created(client, input="x", previous_response_id=first.id)
    await created(client, input="3", previous_response_id=second.id)
    assert ["1", "One.", "2", "Two.", "3"] == [one["content"] for one in messages(vendor)]


async def test_only_what_runs_in_the_background_is_cancelled(client, vendor):
    vendor.says("Done.")
    answer = await created(client, input="hi")

    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(answer.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.cancel("resp_nobody")


async def test_a_conversation_is_not_larger_than_a_request(vendor, tmp_path, sqlite_url):
    """What is kept cannot be used to make a request that could not be sent."""
    async with opened(vendor, tmp_path, sqlite_url, server={"max_body_mb": 1}) as http:
        client, last = sdk(http), None
        for _ in range(2):
            vendor.says("Long.")
            last = await created(client, input="x" * 600_000, previous_response_id=last)
            last = last.id

        with pytest.raises(openai.APIStatusError) as refused:
            await created(client, input="go on", previous_response_id=last)

    assert (413, "request_too_large") == (refused.value.status_code, refused.value.code)


async def test_a_job_goes_on_too_but_is_not_kept(http: httpx.AsyncClient, client, vendor):
    """A job's body holds the whole conversation, so a worker needs nothing more."""
    vendor.says("I am Ada.")
    first = await created(client, input="Who are you?")
    asked = {"model": "chat", "input": "And now?", "previous_response_id": first.id}

    accepted = [
        await http.post("/v1/responses", json=asked, headers={"prefer": "respond-async"}),
        await http.post("/v1/jobs", json={"endpoint": "/v1/responses", "body": asked}),
    ]
    refused = await http.post(
        "/v1/jobs", json={"endpoint": "/v1/responses", "body": {**asked, "background": True}}
    )

    assert [202, 202] == [answer.status_code for answer in accepted], accepted[0].text
    assert (400, "unsupported_parameter") == (
        refused.status_code,
        refused.json()["error"]["code"],
    )
