"""The same conversations with every vendor, held by the unmodified SDKs of OpenAI and Anthropic.

The vendors are fakes that speak their own wire formats over HTTP; the gateway is a real process.
"""

import json
import time

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from tests.fakes.vendors.anthropic import AnthropicVendor
from tests.flows.conversations.conftest import Conversations
from tests.flows.conversations.rows import ROWS

HELLO = [{"role": "user", "content": "Say hello."}]
SAID = "Hello, brave new world. 你好 🌍"
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
PARIS = {"city": "Paris", "days": 2}
ROME = {"city": "Rome \u0000 \U0001f30d \u2600\ufe0f \u202b\u05e9\u05dc\u05d5\u05dd", "days": 1}
CHAT_TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather", "parameters": WEATHER},
}
ITS_TOOL = {"name": "get_weather", "description": "Weather", "input_schema": WEATHER}
FLAT_TOOL = {"type": "function", **CHAT_TOOL["function"], "strict": False}


PAUSE_S = 0.4
"""Between two words of a slow vendor."""


class City(BaseModel):
    """What a model is to answer with."""

    name: str
    inhabitants: int


def each(*can: str):
    """Parametrize by the vendors that can all of this."""
    names = [name for name, row in ROWS.items() if set(can) <= row.can]
    return pytest.mark.parametrize("name", names)


def last_asked(conversations: Conversations, name: str) -> str:
    """Return the vendor's newest request as text, with its escapes undone."""
    return json.dumps(conversations.vendors[name].requests[-1][2], ensure_ascii=False)


class TestChat:
    """`client.chat.completions`, whole and by its helper."""

    @pytest.mark.behaviour(68, 85, 91, 110, 149)
    @each("chat")
    def test_a_text(self, conversations: Conversations, name: str):
        vendor = conversations.vendors[name]
        vendor.says(SAID)
        vendor.says(SAID)

        client = conversations.openai
        whole = client.chat.completions.create(model=name, messages=HELLO)
        with client.chat.completions.stream(
            model=name, messages=HELLO, stream_options={"include_usage": True}
        ) as stream:
            chunks = [event.chunk for event in stream if event.type == "chunk"]
            streamed = stream.get_final_completion()

        assert 1 == len({(chunk.id, chunk.created, chunk.model) for chunk in chunks})
        for answer in (whole, streamed):
            assert ("stop", SAID) == _ended(answer)
            assert answer.id
            assert answer.created > 1_600_000_000
            assert answer.choices[0].message.tool_calls is None
            assert answer.usage is not None
            assert answer.usage.total_tokens > 0
        assert (whole.model, whole.usage) == (streamed.model, streamed.usage)
        forwarded = {**conversations.vendors[name].requests[-1][1]}
        assert [] == [header for header in forwarded if header.startswith("x-stainless")]
        assert conversations.key not in "".join(forwarded.values())

    @pytest.mark.behaviour(34, 70, 94, 110)
    @each("chat")
    def test_tools(self, conversations: Conversations, name: str):
        """Two calls at once, answered in the other order, then a text; whole and streamed."""
        vendor = conversations.vendors[name]
        for stream in (False, True):
            messages: list = [{"role": "user", "content": "Paris and Rome?"}]
            client = conversations.openai
            vendor.calls(("get_weather", PARIS), ("get_weather", ROME))
            first = _completed(client, name, messages, stream=stream)
            calls = first.choices[0].message.tool_calls or []
            messages.append(first.choices[0].message.model_dump(exclude_none=True))
            messages += [
                {"role": "tool", "tool_call_id": call.id, "content": f"sunny {at}"}
                for at, call in reversed(list(enumerate(calls)))
            ]
            vendor.says(SAID)
            second = _completed(client, name, messages, stream=stream)

            assert "tool_calls" == first.choices[0].finish_reason
            assert [PARIS, ROME] == [json.loads(call.function.arguments) for call in calls]
            assert {"get_weather"} == {call.function.name for call in calls}
            assert 2 == len({call.id for call in calls} - {""})
            assert ("stop", SAID) == _ended(second)
            asked = last_asked(conversations, name)
            assert "sunny 0" in asked
            assert "sunny 1" in asked

    @pytest.mark.behaviour(60)
    @each("chat")
    def test_a_parsed_answer(self, conversations: Conversations, name: str):
        """Whether the vendor knows schemas or has to be made to by a tool."""
        asked = {
            "model": name,
            "messages": [{"role": "user", "content": "The city 'Paris' (7)"}],
            "response_format": City,
        }
        client = conversations.openai
        with conversations.thinking():
            whole = client.chat.completions.parse(**asked)
            with client.chat.completions.stream(**asked) as stream:
                streamed = stream.get_final_completion()

        for answer in (whole, streamed):
            assert City(name="Paris", inhabitants=7) == answer.choices[0].message.parsed
            assert "stop" == answer.choices[0].finish_reason
            assert not answer.choices[0].message.tool_calls

    @pytest.mark.behaviour(86)
    @each("thoughts")
    def test_thoughts(self, conversations: Conversations, name: str):
        vendor = conversations.vendors[name]
        for stream in (False, True):
            vendor.thinks("Two and two.", "Four.")
            client = conversations.openai
            answer = _completed(client, name, HELLO, stream=stream, reasoning_effort="low")

            message = answer.choices[0].message.model_dump()
            assert ("Two and two.", "Four.") == (message["reasoning_content"], message["content"])

    @pytest.mark.behaviour(78, 87, 88)
    @each("proofs")
    def test_thoughts_come_back(self, conversations: Conversations, name: str):
        """Who echoes the message as it came sends the vendor's proofs back, unread."""
        vendor = conversations.vendors[name]
        client = conversations.openai
        for stream in (False, True):
            vendor.thinks("Two and two.", "Four.")
            first = _completed(client, name, HELLO, stream=stream, reasoning_effort="low")
            echoed = first.choices[0].message.model_dump(exclude_none=True)
            vendor.says(SAID)
            history = [*HELLO, echoed, {"role": "user", "content": "Sure?"}]
            _completed(client, name, history, stream=stream, reasoning_effort="low")

            asked = last_asked(conversations, name)
            assert [] == [proof for proof in ROWS[name].proofs if proof not in asked]

    @pytest.mark.behaviour(115)
    @each("long")
    def test_a_very_long_argument(self, conversations: Conversations, name: str):
        """A megabyte, on one line of the vendor's stream."""
        vendor = conversations.vendors[name]
        long = {"city": "x" * 1_000_000, "days": 1}
        vendor.calls(("get_weather", long))

        answer = _completed(conversations.openai, name, HELLO, stream=True)

        (call,) = answer.choices[0].message.tool_calls
        assert long == json.loads(call.function.arguments)

    @pytest.mark.behaviour(113)
    @each("chat")
    def test_the_first_words_do_not_wait(self, conversations: Conversations, name: str):
        """Not for the next ones, and not for a packer: an event stream is never packed."""
        vendor = conversations.vendors[name]
        with vendor.pausing(b"two", PAUSE_S):
            vendor.says("one two")
            started_s = time.monotonic()
            with conversations.openai.chat.completions.with_streaming_response.create(
                model=name,
                messages=HELLO,
                stream=True,
                extra_headers={"accept-encoding": "gzip"},
            ) as raw:
                read = b""
                for piece in raw.iter_bytes():
                    read += piece
                    if b"one" in read:
                        break
                first_s = time.monotonic() - started_s
                headers = raw.headers

        assert b"two" not in read
        assert first_s < PAUSE_S
        assert not {"content-encoding", "content-length"} & set(headers)

    @pytest.mark.behaviour(120, 132)
    @each("chat")
    def test_failures(self, conversations: Conversations, name: str):
        """Also of a stream, before it has begun."""
        vendor = conversations.vendors[name]
        for stream in (False, True):
            client = conversations.openai
            vendor.fails(429, "rate_limit_error")
            with pytest.raises(openai.RateLimitError) as limited:
                client.chat.completions.create(model=name, messages=HELLO, stream=stream)
            vendor.fails(400, "invalid_request_error")
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model=name, messages=HELLO, stream=stream)
            vendor.fails(500, "api_error")
            with pytest.raises(openai.InternalServerError) as broken:
                client.chat.completions.create(model=name, messages=HELLO, stream=stream)

            assert "rate_limit_exceeded" == limited.value.code
            assert (502, "upstream_unavailable") == (broken.value.status_code, broken.value.code)

    @pytest.mark.behaviour(183, 185)
    @each("embeddings")
    def test_vectors(self, conversations: Conversations, name: str):
        """Of full width by the SDK's default, which asks for base64, and as numbers."""
        vendor = conversations.vendors[name]
        texts = ["a", "bb", "ccc"]
        client = conversations.openai
        for _ in texts:  # some vendors take one text a call
            vendor.embeds(8)
        default = client.embeddings.create(model=f"{name}-embed", input=texts)
        vendor.forget()
        for _ in texts:
            vendor.embeds(8)
        floats = client.embeddings.create(
            model=f"{name}-embed", input=texts, encoding_format="float"
        )

        for answer in (default, floats):
            assert [0, 1, 2] == [row.index for row in answer.data]
            assert [8, 8, 8] == [len(row.embedding) for row in answer.data]
        firsts = [row.embedding[0] for row in floats.data]
        assert sorted(firsts) == firsts


class TestMessages:
    """`client.messages`, whole and by its helper."""

    @pytest.mark.behaviour(163)
    @each("chat")
    def test_a_text(self, conversations: Conversations, name: str):
        vendor = conversations.vendors[name]
        for stream in (False, True):
            vendor.says(SAID)
            client = conversations.anthropic
            message = _message(client, name, HELLO, stream=stream)

            assert ["text"] == [block.type for block in message.content]
            assert (SAID, "end_turn") == (message.content[0].text, message.stop_reason)
            assert message.usage.input_tokens > 0
            assert message.usage.output_tokens > 0

    @pytest.mark.behaviour(163, 165)
    @each("chat")
    def test_tools(self, conversations: Conversations, name: str):
        vendor = conversations.vendors[name]
        for stream in (False, True):
            messages: list = [{"role": "user", "content": "Paris and Rome?"}]
            client = conversations.anthropic
            vendor.calls(("get_weather", PARIS), ("get_weather", ROME))
            first = _message(client, name, messages, stream=stream, tools=[ITS_TOOL])
            uses = [block for block in first.content if block.type == "tool_use"]
            messages.append({"role": "assistant", "content": first.content})
            results = [
                {"type": "tool_result", "tool_use_id": use.id, "content": f"sunny {at}"}
                for at, use in enumerate(uses)
            ]
            messages.append({"role": "user", "content": results})
            vendor.says(SAID)
            second = _message(client, name, messages, stream=stream, tools=[ITS_TOOL])

            assert ("tool_use", "end_turn") == (first.stop_reason, second.stop_reason)
            assert [PARIS, ROME] == [use.input for use in uses]
            assert 2 == len({use.id for use in uses})
            assert SAID == second.content[0].text
            assert "sunny 1" in last_asked(conversations, name)

    @pytest.mark.behaviour(164, 166)
    @each("thoughts")
    def test_thoughts(self, conversations: Conversations, name: str):
        """In a block of their own, before the text."""
        vendor = conversations.vendors[name]
        for stream in (False, True):
            vendor.thinks("Two and two.", "Four.")
            budget = {"type": "enabled", "budget_tokens": 1024}
            client = conversations.anthropic
            message = _message(client, name, HELLO, stream=stream, thinking=budget)

            # What some want back besides is kept from sight.
            shown = [block for block in message.content if block.type != "redacted_thinking"]
            assert ["thinking", "text"] == [block.type for block in shown]
            thought, text = shown
            assert ("Two and two.", "Four.") == (thought.thinking, text.text)

    @pytest.mark.behaviour(169)
    @each("chat")
    def test_failures(self, conversations: Conversations, name: str):
        vendor = conversations.vendors[name]
        client = conversations.anthropic
        vendor.fails(429, "rate_limit_error")
        with pytest.raises(anthropic.RateLimitError):
            _message(client, name, HELLO, stream=False)
        vendor.fails(400, "invalid_request_error")
        with pytest.raises(anthropic.BadRequestError) as refused:
            _message(client, name, HELLO, stream=False)

        assert isinstance(refused.value.body, dict)
        assert "error" == refused.value.body["type"]

    @pytest.mark.behaviour(168)
    @each("chat")
    def test_tokens_are_counted(self, conversations: Conversations, name: str):
        vendor = conversations.vendors[name]
        if isinstance(vendor, AnthropicVendor):
            vendor.says("")  # it counts whatever it is to say; the others cannot count

        counted = conversations.anthropic.messages.count_tokens(model=name, messages=HELLO)

        assert counted.input_tokens > 0


class TestResponses:
    """`client.responses`, whole and by its helper."""

    @pytest.mark.behaviour(173)
    @each("chat")
    def test_a_text(self, conversations: Conversations, name: str):
        vendor = conversations.vendors[name]
        for stream in (False, True):
            vendor.says(SAID)
            client = conversations.openai
            answer = _response(client, name, "Say hello.", stream=stream)

            assert ("completed", SAID) == (answer.status, answer.output_text)
            assert answer.usage is not None
            assert answer.usage.total_tokens > 0

    @pytest.mark.behaviour(173, 175)
    @each("chat")
    def test_tools(self, conversations: Conversations, name: str):
        vendor = conversations.vendors[name]
        for stream in (False, True):
            items: list = [{"role": "user", "content": "Paris?"}]
            client = conversations.openai
            vendor.calls(("get_weather", PARIS))
            first = _response(client, name, items, stream=stream, tools=[FLAT_TOOL])
            (call,) = [item for item in first.output if item.type == "function_call"]
            items += [item.model_dump(exclude_none=True) for item in first.output]
            items.append(
                {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
            )
            vendor.says(SAID)
            second = _response(client, name, items, stream=stream, tools=[FLAT_TOOL])

            assert ("get_weather", PARIS) == (call.name, json.loads(call.arguments))
            assert SAID == second.output_text
            assert "sunny" in last_asked(conversations, name)

    @each("chat")
    def test_a_parsed_answer(self, conversations: Conversations, name: str):
        client = conversations.openai
        with conversations.thinking():
            answer = client.responses.parse(
                model=name, input="The city 'Paris' (7)", text_format=City
            )

        assert City(name="Paris", inhabitants=7) == answer.output_parsed

    @pytest.mark.behaviour(173)
    @each("thoughts")
    def test_thoughts(self, conversations: Conversations, name: str):
        vendor = conversations.vendors[name]
        for stream in (False, True):
            vendor.thinks("Two and two.", "Four.")
            client = conversations.openai
            answer = _response(client, name, "Sum?", stream=stream, reasoning={"effort": "low"})

            assert "Four." == answer.output_text
            thoughts = [item for item in answer.output if item.type == "reasoning"]
            assert "Two and two." in json.dumps([item.model_dump() for item in thoughts])


def _ended(answer: ChatCompletion) -> tuple[str, str | None]:
    choice = answer.choices[0]
    return choice.finish_reason, choice.message.content


def _completed(client, name, messages, *, stream, **more):
    tools = {} if more else {"tools": [CHAT_TOOL]}
    asked = {"model": name, "messages": messages, **tools, **more}
    if not stream:
        return client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked) as opened:
        return opened.get_final_completion()


def _message(client, name, messages, *, stream, **more):
    asked = {"model": name, "max_tokens": 4096, "messages": messages, **more}
    if not stream:
        return client.messages.create(**asked)
    with client.messages.stream(**asked) as opened:
        return opened.get_final_message()


def _response(client, name, given, *, stream, **more):
    asked = {"model": name, "input": given, "store": False, **more}
    if not stream:
        return client.responses.create(**asked)
    with client.responses.stream(**asked) as opened:
        return opened.get_final_response()
