"""`/v1/responses` by OpenAI's own SDK, over a vendor that has nothing but chat."""

import json
from contextlib import asynccontextmanager

import openai
import pytest
from pydantic import BaseModel

from tests.edge.api.gateways import gateway, one_route, sdk
from tests.fakes.upstream import DONE, Answer, chunk, sse
from tests.fakes.vendors.openai import USAGE, OpenAIVendor

ASKED = {"model": "chat", "input": "What is it?"}
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@asynccontextmanager
async def line(tmp_path, sqlite_url, **route):
    """Yield the vendor and a client of the gateway before it."""
    async with OpenAIVendor() as vendor:
        provider = {"kind": "openai_compatible", "base_url": f"{vendor.base_url}/v1"}
        async with gateway(tmp_path, sqlite_url, one_route(provider, **route)) as http:
            yield vendor, sdk(http), http


@pytest.fixture
async def setting(tmp_path, sqlite_url):
    async with line(tmp_path, sqlite_url) as opened:
        yield opened


@pytest.fixture
def vendor(setting):
    return setting[0]


@pytest.fixture
def client(setting):
    return setting[1]


@pytest.fixture
def http(setting):
    return setting[2]


async def streamed(client, **asked):
    """Run the stream helper to its end; return its events and the final response."""
    async with client.responses.stream(**{**ASKED, **asked}) as stream:
        seen = [event async for event in stream]
        return seen, await stream.get_final_response()


async def test_a_text_comes_whole(client, vendor):
    vendor.says("hello there")

    answer = await client.responses.create(**ASKED, instructions="Be brief.")

    assert "hello there" == answer.output_text
    assert ("completed", "response", "m") == (answer.status, answer.object, answer.model)
    assert (20, 10, 30) == (
        answer.usage.input_tokens,
        answer.usage.output_tokens,
        answer.usage.total_tokens,
    )
    assert (4, 2) == (
        answer.usage.input_tokens_details.cached_tokens,
        answer.usage.output_tokens_details.reasoning_tokens,
    )
    assert "Be brief." == answer.instructions
    (_, _, asked), *_ = vendor.requests
    assert [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?"},
    ] == asked["messages"]


@pytest.mark.behaviour(173, 174, 175)
async def test_the_helper_streams_a_text(client, vendor):
    vendor.says("hello brave new world")

    seen, final = await streamed(client)

    assert "hello brave new world" == final.output_text
    assert list(range(len(seen))) == [event.sequence_number for event in seen]
    (added,) = [event for event in seen if "response.output_item.added" == event.type]
    assert [] == added.item.content
    deltas = [event for event in seen if "response.output_text.delta" == event.type]
    assert all([] == event.logprobs for event in deltas)
    (done,) = [event for event in seen if "response.output_item.done" == event.type]
    assert added.item.id == done.item.id == final.output[0].id == deltas[0].item_id
    assert 30 == final.usage.total_tokens
    assert seen[0].response.id == final.id


@pytest.mark.behaviour(173, 175)
async def test_the_helper_streams_calls(client, vendor):
    vendor.calls(("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"}))

    seen, final = await streamed(client, tools=[WEATHER])

    calls = [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})]
    assert calls == [(item.name, json.loads(item.arguments)) for item in final.output]
    added, done = (
        [(e.item.id, e.item.call_id) for e in seen if e.type == f"response.output_item.{word}"]
        for word in ("added", "done")
    )
    assert added == done == [(item.id, item.call_id) for item in final.output]
    assert [0, 1] == [e.output_index for e in seen if e.type == "response.output_item.added"]


@pytest.mark.behaviour(173)
async def test_the_helper_streams_a_thought_and_a_text(client, vendor):
    vendor.thinks("let me see", "it is four")

    seen, final = await streamed(client)

    assert ["reasoning", "message"] == [item.type for item in final.output]
    assert "let me see" == final.output[0].summary[0].text
    assert "it is four" == final.output_text
    kinds = [event.type for event in seen]
    assert kinds.index("response.reasoning_summary_part.done") < kinds.index(
        "response.output_text.delta"
    )


@pytest.mark.parametrize("play", ["says", "calls", "thinks"])
async def test_a_stream_means_what_the_whole_means(client, vendor, play):
    for _ in range(2):
        match play:
            case "says":
                vendor.says("hello there")
            case "calls":
                vendor.calls(("get_weather", {"city": "Oslo"}))
            case "thinks":
                vendor.thinks("let me see", "it is four")
        vendor.ticks = 0

    whole = await client.responses.create(**ASKED, tools=[WEATHER])
    _, streamed_one = await streamed(client, tools=[WEATHER])

    assert without_ids(whole) == without_ids(streamed_one)


def without_ids(response):
    """What was said and used."""
    items = [item.model_dump(exclude={"id"}, exclude_none=True) for item in response.output]
    for item in items:
        item.pop("parsed_arguments", None)
        for part in item.get("content", ()):
            part.pop("parsed", None)
    return items, response.usage, response.status


class City(BaseModel):
    name: str
    people: int


async def test_an_answer_is_parsed(client, vendor):
    """Structured output: the schema goes out as chat has it, the model comes back filled."""
    vendor.says('{"name": "Oslo", "people": 700000}')

    answer = await client.responses.parse(**ASKED, text_format=City)

    assert City(name="Oslo", people=700_000) == answer.output_parsed
    form = vendor.requests[-1][2]["response_format"]
    assert ("json_schema", "City", True) == (
        form["type"],
        form["json_schema"]["name"],
        form["json_schema"]["strict"],
    )


@pytest.mark.behaviour(177)
@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
async def test_an_answer_that_was_cut_is_incomplete(client, vendor, finish, reason):
    pieces = [chunk({"content": "hello"}), chunk({}, finish), chunk(usage=USAGE), DONE]
    vendor.script(lambda _: sse(pieces))

    stream = await client.responses.create(**ASKED, stream=True)
    last = [event async for event in stream][-1]

    assert "response.incomplete" == last.type
    assert ("incomplete", reason) == (
        last.response.status,
        last.response.incomplete_details.reason,
    )
    assert "incomplete" == last.response.output[0].status


@pytest.mark.behaviour(122)
async def test_a_stream_that_breaks_raises(client, vendor):
    """The SDK raises what the error event holds; nothing pretends that the answer is whole."""
    pieces = [chunk({"role": "assistant", "content": "hel"}), chunk({"content": "lo"})]
    vendor.script(lambda _: sse(pieces))

    stream = await client.responses.create(**ASKED, stream=True)
    with pytest.raises(openai.APIError) as raised:
        [event async for event in stream]

    assert "stream_interrupted" == raised.value.code


@pytest.mark.behaviour(122)
async def test_the_error_event_has_its_turn(http, vendor):
    """Its number goes on from the event before it."""
    vendor.script(lambda _: sse([chunk({"content": "hel"})]))

    answer = await http.post("/v1/responses", json={**ASKED, "stream": True})

    events = [json.loads(block.split("\ndata: ")[1]) for block in answer.text.split("\n\n")[:-1]]
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    assert ("error", "stream_interrupted") == (events[-1]["type"], events[-1]["code"])


async def test_a_refused_request_keeps_its_status(client, vendor):
    vendor.fails(400, "invalid_request_error")

    with pytest.raises(openai.BadRequestError):
        await client.responses.create(**ASKED, stream=True)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("input", [{"type": "nonsense"}], "invalid_request"),
        ("input", [{"role": "boss", "content": "hi"}], "invalid_request"),
        ("input", [], "invalid_request"),
        ("tools", [{"type": "function"}], "invalid_request"),
        ("prompt", {"id": "pmpt_1"}, "unsupported_parameter"),
        ("store", "yes", "invalid_request"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(http, vendor, field, value, code):
    answer = await http.post("/v1/responses", json={**ASKED, field: value})

    error = answer.json()["error"]
    assert (400, code) == (answer.status_code, error["code"])
    assert error["param"].startswith(field)
    assert [] == vendor.requests


async def test_what_a_chat_cannot_do_is_named(http, vendor):
    vendor.says("hi")

    answer = await http.post("/v1/responses", json={**ASKED, "max_tool_calls": 2})

    assert "max_tool_calls" in answer.headers["x-sluiceway-dropped"]


async def test_an_unmended_answer_has_no_items(client, vendor):
    """A provider's empty answer is a response that says nothing, not a fault."""
    empty = {"choices": [{"index": 0, "message": {"role": "assistant", "content": ""}}]}
    empty["choices"][0]["finish_reason"] = "stop"
    vendor.script(Answer(pieces=(json.dumps({**empty, "model": "m"}).encode(),)))

    answer = await client.responses.create(**ASKED)

    assert "" == answer.output_text
