"""`/v1/responses` before a vendor that has them itself."""

import json

import openai
import pytest

from tests.edge.api.gateways import gateway, one_route, sdk
from tests.fakes.upstream import Answer, sse
from tests.fakes.vendors.openai import OpenAIVendor
from tests.fakes.vendors.responses_wire import response_events, response_object

ASKED = {"model": "chat", "input": "What is it?"}


@pytest.fixture
async def vendor():
    async with OpenAIVendor() as opened:
        yield opened


@pytest.fixture
async def http(vendor, tmp_path, sqlite_url):
    provider = {"kind": "openai", "base_url": f"{vendor.base_url}/v1", "api_key": "sk-up"}
    price = {"input_per_mtok": 1, "output_per_mtok": 2}
    async with gateway(tmp_path, sqlite_url, one_route(provider, price=price)) as client:
        yield client


@pytest.fixture
def client(http):
    return sdk(http)


def response(text="hello there", **fields):
    return {**response_object({"model": "m"}, text=text, thought="", calls=[]), **fields}


def whole(body):
    return Answer(pieces=(json.dumps(body).encode(),))


async def test_the_answer_is_the_vendors_own(client, vendor):
    vendor.says("hello there")

    raw = await client.responses.with_raw_response.create(**ASKED, top_logprobs=3)

    answer = raw.parse()
    assert ("resp_1", "hello there", "m") == (answer.id, answer.output_text, answer.model)
    assert "0.00004" == raw.headers["x-sluiceway-cost-usd"]
    path, _, asked = vendor.requests[-1]
    assert ("/v1/responses", {**ASKED, "model": "m", "top_logprobs": 3}) == (path, asked)


@pytest.mark.behaviour(176)
@pytest.mark.parametrize("play", ["says", "calls", "thinks"])
async def test_the_helper_runs_to_its_end(client, vendor, play):
    match play:
        case "says":
            vendor.says("hello there")
        case "calls":
            vendor.calls(("look", {"at": "sky"}))
        case "thinks":
            vendor.thinks("let me see", "it is four")

    async with client.responses.stream(**ASKED) as stream:
        numbers = [event.sequence_number async for event in stream]
        final = await stream.get_final_response()

    assert list(range(len(numbers))) == numbers
    assert 30 == final.usage.total_tokens
    assert {"cost_usd": 0.00004} == final.model_dump()["sluiceway"]
    assert final.id == (await client.responses.retrieve("resp_1")).id


async def test_the_gateway_remembers_for_the_vendor(client, vendor):
    """Its own memory may be another account's; the conversation is sent written out."""
    vendor.script(whole(response("I am Ada.", id="resp_a")))
    vendor.script(whole(response("Ada, still.", id="resp_b")))
    await client.responses.create(**ASKED)

    second = await client.responses.create(**ASKED, previous_response_id="resp_a")

    asked = vendor.requests[-1][2]
    assert "previous_response_id" not in asked
    assert ["user", "assistant", "user"] == [item["role"] for item in asked["input"]]
    assert "resp_a" == second.previous_response_id


async def test_a_failed_response_is_an_error(client, vendor):
    error = {"code": "server_error", "message": "oops"}
    vendor.script(whole(response(status="failed", error=error)))

    with pytest.raises(openai.APIStatusError) as failed:
        await client.responses.create(**ASKED)

    assert 502 == failed.value.status_code


async def test_a_stream_that_fails_later_raises(client, vendor):
    failed = {"type": "response.failed", "sequence_number": 5}
    error = {"code": "server_error", "message": "oops"}
    last = json.dumps({**failed, "response": response(status="failed", error=error)})
    pieces = [*response_events(response())[:5], f"event: x\ndata: {last}\n\n".encode()]
    vendor.script(lambda _: sse(pieces, gap_s=0.02))

    stream = await client.responses.create(**ASKED, stream=True)
    with pytest.raises(openai.APIError) as broken:
        [event async for event in stream]

    assert "stream_interrupted" == broken.value.code
