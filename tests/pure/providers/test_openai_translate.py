"""The canonical language loses nothing that OpenAI's dialect can say."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.message import Message, TextPart, ToolCall
from shared.chat.request import ChatRequest
from shared.chat.response import (
    ChatChoice,
    ChatDelta,
    ChatResponse,
    FinishReason,
    ToolDelta,
    fold,
)
from shared.chat.usage import Usage
from shared.errors import InvalidRequest
from shared.providers.dialects.openai_chat import OpenAIDecoder, build_request, parse_response
from shared.providers.dialects.openai_render import OpenAIRenderer, render_response
from shared.providers.dialects.openai_served import parse_request

EVERYTHING = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "name": "Ann",
            "content": [
                {"type": "text", "text": "look"},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AA", "detail": "low"},
                },
                {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
                },
            ],
        },
        {
            "role": "assistant",
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "free text"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "no"}, {"type": "refusal", "refusal": "r"}],
        },
        {"role": "user", "content": "go on"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "d",
                "parameters": {"type": "object"},
                "strict": True,
            },
        },
        {"type": "custom", "custom": {"name": "g", "format": {"type": "text"}}},
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "required",
            "tools": [
                {"type": "function", "function": {"name": "f"}},
                {"type": "custom", "custom": {"name": "g"}},
            ],
        },
    },
    "parallel_tool_calls": False,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True},
    },
    "temperature": 0.5,
    "top_p": 0.9,
    "max_completion_tokens": 5,
    "stop": ["a", "b"],
    "seed": 7,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "logit_bias": {"50256": -100.0},
    "logprobs": True,
    "top_logprobs": 2,
    "n": 2,
    "reasoning_effort": "low",
    "user": "u",
    "stream": True,
    "stream_options": {"include_usage": True},
    "verbosity": "low",
    "web_search_options": {},
}


def sent(fields):
    body = build_request(parse_request(json.dumps(fields).encode())).body
    return json.loads(msgspec.json.encode(body))


def test_a_request_with_everything_comes_out_as_it_went_in():
    assert EVERYTHING == sent(EVERYTHING)


@pytest.mark.behaviour(48)
def test_tool_settings_without_tools_are_not_sent():
    """Servers refuse them."""
    fields = {
        "model": "m",
        "messages": [],
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }
    built = sent(fields)

    assert {"model": "m", "messages": []} == built


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages[0].content"),
        ({"messages": [], "tools": [{"type": "function"}]}, "tools"),
        ({"messages": [], "tool_choice": "maybe"}, "tool_choice"),
        ({"messages": [], "response_format": {"type": "xml"}}, "response_format"),
        ({"messages": 7}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ],
)
def test_what_cannot_be_translated_names_the_field(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        parse_request(json.dumps({"model": "m", **fields}).encode())

    assert param == caught.value.param


TEXT = st.text(max_size=8)
NAME = st.text(min_size=1, max_size=8)
CALLS = st.lists(st.builds(ToolCall, id=NAME, name=TEXT, arguments=TEXT), max_size=2).map(tuple)
CHOICES = st.lists(
    st.tuples(st.none() | TEXT, st.none() | TEXT, CALLS, st.sampled_from(FinishReason)),
    min_size=1,
    max_size=3,
).map(
    lambda found: tuple(
        ChatChoice(index=index, text=text, refusal=refusal, tool_calls=calls, finish=finish)
        for index, (text, refusal, calls, finish) in enumerate(found)
    )
)


@given(choices=CHOICES, used=st.integers(0, 99))
def test_a_rendered_answer_is_read_back_the_same(choices, used):
    answer = ChatResponse(
        id="i", model="m", created_s=5, choices=choices, usage=Usage(input_tokens=used)
    )

    assert answer == parse_response(render_response(answer))


@given(pieces=st.lists(st.tuples(st.integers(0, 2), TEXT), min_size=1, max_size=8))
def test_rendered_deltas_fold_into_what_was_said(pieces):
    """However choices interleave: each opens once, in order, and its text is complete."""
    spoken = sorted({choice for choice, _ in pieces})
    deltas = [ChatDelta(id="i", model="m", created_s=5)]
    deltas += [ChatDelta(choice=choice, text=text) for choice, text in pieces]
    deltas += [ChatDelta(choice=choice, finish=FinishReason.STOP) for choice in spoken]
    renderer = OpenAIRenderer(include_usage=False)
    out = renderer.render(deltas) + renderer.closing(None, None)

    decoded = OpenAIDecoder().feed(out)
    told = {c.index: c.text for c in fold(decoded.deltas).choices}

    for choice in spoken:
        assert "".join(text for at, text in pieces if at == choice) == told[choice]


@pytest.mark.behaviour(110)
def test_arguments_in_pieces_fold_into_one_call():
    deltas = [
        ChatDelta(tool=ToolDelta(index=1, id="b", name="g", arguments="{}")),
        ChatDelta(tool=ToolDelta(index=0, id="a", name="f")),
        ChatDelta(tool=ToolDelta(index=0, arguments='{"x":')),
        ChatDelta(tool=ToolDelta(index=0, arguments="1}"), finish=FinishReason.TOOL_CALLS),
    ]

    (choice,) = fold(deltas).choices
    assert (
        ToolCall(id="a", name="f", arguments='{"x":1}'),
        ToolCall(id="b", name="g", arguments="{}"),
    ) == choice.tool_calls


@pytest.mark.behaviour(171)
@pytest.mark.parametrize(
    ("text", "failed", "told"),
    [("", True, "The tool failed."), ("", False, ""), ("no file", True, "no file")],
)
def test_a_result_without_words_says_whether_it_failed(text, failed, told):
    result = Message(role="tool", parts=(TextPart(text=text),), tool_call_id="c", is_error=failed)
    (message,) = build_request(ChatRequest(model="m", messages=(result,))).body["messages"]
    assert told == message["content"]
