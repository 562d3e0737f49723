"""The mock says what its table says, and its faults are those of the wire."""

import asyncio
import base64
import json
import struct

import pytest

from shared.errors import FailureKind, UpstreamError
from shared.providers.exchange import HttpRequest
from shared.providers.mock import MockTransport
from tests.contract.providers.golden import cases
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "x": {}},
            "required": ["city", "unit"],
        },
    },
}


class Mocked:
    def __init__(self):
        self.clock = FakeClock()
        self.transport = MockTransport(self.clock)

    async def call(self, said="hi there", path="/v1/chat/completions", **fields):
        """Return the status, the headers and the chunks."""
        fields = {"messages": [{"role": "user", "content": said}], "model": "m", **fields}
        request = HttpRequest(
            url=f"mock://mock{path}", headers={}, body=json.dumps(fields).encode()
        )
        async with self.transport.open(request, connect_s=1) as response:
            return response.status, response.headers, [c async for c in response.chunks()]

    async def answer(self, *args, **fields):
        _, _, chunks = await self.call(*args, **fields)
        return json.loads(b"".join(chunks))


@pytest.fixture
def mocked():
    return Mocked()


async def test_the_golden_answer_is_what_it_says(mocked):
    case = cases("mock")["mock/options_merged"]
    request = case.exchange.request

    async with mocked.transport.open(request, connect_s=1) as response:
        said = json.loads(await response.read(10_000))

    said["id"] = said["id"][: len("chatcmpl-mock-")]
    assert case.answer["body"] == said


async def test_the_same_call_gives_the_same_answer(mocked):
    assert await mocked.call() == await Mocked().call()
    assert await mocked.call() != await mocked.call("something else")


async def test_echoes_word_by_word(mocked):
    _, headers, chunks = await mocked.call("hi there", stream=True)
    deltas = [json.loads(chunk[6:])["choices"][0]["delta"] for chunk in chunks[:-1]]

    assert "text/event-stream" == headers["content-type"]
    assert ["", "You", " said:", " hi", " there"] == [d["content"] for d in deltas[:-1]]
    assert b"data: [DONE]\n\n" == chunks[-1]


async def test_usage_only_when_asked(mocked):
    _, _, without = await mocked.call(stream=True)
    _, _, asked = await mocked.call(stream=True, stream_options={"include_usage": True})

    assert b"usage" not in b"".join(without)
    assert {"prompt_tokens": 5, "completion_tokens": 4} == {
        name: json.loads(asked[-2][6:])["usage"][name]
        for name in ("prompt_tokens", "completion_tokens")
    }


async def test_tokens_and_max_tokens(mocked):
    long = await mocked.answer(mock={"tokens": 40})
    cut = await mocked.answer(mock={"tokens": 40}, max_completion_tokens=7)

    assert (40, "stop") == (
        long["usage"]["completion_tokens"],
        long["choices"][0]["finish_reason"],
    )
    assert (7, "length") == (
        cut["usage"]["completion_tokens"],
        cut["choices"][0]["finish_reason"],
    )


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ("please call get_weather", "auto"),
        ("anything", "required"),
        ("anything", {"type": "function", "function": {"name": "get_weather"}}),
    ],
)
async def test_calls_tools(mocked, said, choice):
    body = await mocked.answer(said, tools=[TOOL], tool_choice=choice)
    (call,) = body["choices"][0]["message"]["tool_calls"]

    assert "get_weather" == call["function"]["name"]
    assert {"city": "mock", "unit": "C"} == json.loads(call["function"]["arguments"])


async def test_answers_after_the_tool_has_spoken(mocked):
    body = await mocked.answer(
        messages=[
            {"role": "user", "content": "call get_weather"},
            {"role": "tool", "content": "5 C"},
        ],
        tools=[TOOL],
    )

    assert "You said: 5 C" == body["choices"][0]["message"]["content"]


async def test_json_when_json_is_wanted(mocked):
    schema = TOOL["function"]["parameters"]
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    body = await mocked.answer(response_format=wanted)

    assert {"city": "mock", "unit": "C"} == json.loads(body["choices"][0]["message"]["content"])


async def test_vectors_are_of_length_one_and_the_same_in_either_form(mocked):
    plain = await mocked.answer(path="/v1/embeddings", input=["a", "b"], dimensions=4)
    packed = await mocked.answer(
        path="/v1/embeddings", input=["a", "b"], dimensions=4, encoding_format="base64"
    )
    vectors = [row["embedding"] for row in plain["data"]]

    assert [1.0, 1.0] == [pytest.approx(sum(x * x for x in vector)) for vector in vectors]
    assert vectors == [
        list(struct.unpack("<4f", base64.b64decode(row["embedding"]))) for row in packed["data"]
    ]
    assert vectors[0] != vectors[1]


async def test_status_and_retry_after(mocked):
    status, headers, chunks = await mocked.call(mock={"status": 429, "retry_after_s": 1.5})

    assert (429, "1.5") == (status, headers["retry-after"])
    assert "rate_limit_exceeded" == json.loads(b"".join(chunks))["error"]["code"]


async def test_only_the_first_calls_fail(mocked):
    told = {"status": 500, "times": 2}
    statuses = [(await mocked.call(mock=told))[0] for _ in range(4)]
    apart = (await mocked.call(mock={**told, "id": "other"}))[0]

    assert ([500, 500, 200, 200], 500) == (statuses, apart)


async def test_delays_take_the_clocks_time(mocked):
    await mocked.call("one", stream=True, mock={"delay_ms": 300, "pace_ms": 50})

    assert 0.55 == pytest.approx(mocked.clock.elapsed_s)


@pytest.mark.parametrize(
    "fields",
    [
        {"mock": {"reset": True}},
        {"mock": {"cut_after": 2}, "stream": True},
        {"mock": {"cut_after": 1}},
    ],
)
async def test_breaks_are_connection_failures(mocked, fields):
    with pytest.raises(UpstreamError) as caught:
        await mocked.call(**fields)

    assert FailureKind.CONNECTION is caught.value.kind


@pytest.mark.parametrize(
    "fields", [{"mock": {"silent": True}}, {"mock": {"stall_after": 2}, "stream": True}]
)
async def test_silence_lasts_until_the_caller_gives_up(mocked, fields):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await mocked.call(**fields)


async def test_what_it_cannot_read_is_a_400(mocked):
    status, _, _ = await mocked.call(mock={"status": "five hundred"})

    assert 400 == status


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": 3}},
        {"response_format": {"type": "json_schema", "json_schema": [1]}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"schema": {"type": "array", "minItems": 10**12}},
            }
        },
    ],
    ids=["choice", "format", "huge"],
)
async def test_wrong_or_huge_wishes_are_answered(mocked, fields):
    status, _, _ = await mocked.call(**fields)

    assert 200 == status
