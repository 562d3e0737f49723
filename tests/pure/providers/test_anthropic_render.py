"""Canonical answers as Anthropic's Messages, whole and as events."""

import json
from collections.abc import Iterable
from itertools import count

import pytest
from anthropic.types import Message as WireMessage
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.message import Reasoning, ToolCall
from shared.chat.response import (
    ChatChoice,
    ChatDelta,
    ChatResponse,
    FinishReason,
    ReasoningDelta,
    ToolDelta,
    fold,
)
from shared.chat.usage import Usage
from shared.providers.dialects.anthropic_render import MessagesRenderer, render_response
from shared.providers.dialects.foreign_thoughts import packed

HEAD = ChatDelta(id="chatcmpl-1", model="m-1", created_s=1)
USAGE = Usage(
    input_tokens=100,
    output_tokens=20,
    cache_read_tokens=30,
    cache_write_tokens=50,
    cache_write_1h_tokens=10,
    reasoning_tokens=5,
    service_tier="default",
)
CITED = {"type": "url_citation", "url_citation": {"url": "https://x", "title": "T"}}


def ids():
    numbers = count(1)
    return lambda prefix: f"{prefix}_{next(numbers)}"


def whole(**fields: object) -> dict:
    choice = ChatChoice(finish=FinishReason.STOP, **fields)
    answer = ChatResponse(id="chatcmpl-1", model="m-1", choices=(choice,), usage=USAGE)
    return json.loads(render_response(answer, ids()))


def events(*deltas: ChatDelta, usage: Usage | None = USAGE) -> list[dict]:
    """Return the data of a stream's events, whose names are checked, one delta at a time."""
    renderer = MessagesRenderer(ids())
    out = b"".join(renderer.render([delta]) for delta in deltas) + renderer.closing(usage, "0.1")
    found = []
    for text in out.decode().removesuffix("\n\n").split("\n\n"):
        name, data = text.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert f"event: {found[-1]['type']}" == name
    return found


def blocks(told: Iterable[dict]) -> list[dict]:
    """Return the content that the events make up, as strictly as a client could read them."""
    content: list[dict] = []
    for event in told:
        match event["type"]:
            case "content_block_start":
                assert len(content) == event["index"]
                assert all("open" not in one for one in content)
                content.append({**event["content_block"], "open": True})
            case "content_block_delta":
                assert len(content) - 1 == event["index"]
                assert content[-1]["open"]
                _add(content[-1], event["delta"])
            case "content_block_stop":
                assert len(content) - 1 == event["index"]
                del content[-1]["open"]
    assert all("open" not in one for one in content)
    for one in content:
        if "json" in one:
            one["input"] = json.loads(one.pop("json"))
    return content


def _add(block: dict, delta: dict) -> None:
    match delta:
        case {"type": "text_delta", "text": text}:
            block["text"] += text
        case {"type": "thinking_delta", "thinking": text}:
            block["thinking"] += text
        case {"type": "signature_delta", "signature": signature}:
            block["signature"] = signature
        case {"type": "input_json_delta", "partial_json": text}:
            block["json"] = block.get("json", "") + text
        case {"type": "citations_delta", "citation": citation}:
            block.setdefault("citations", []).append(citation)
        case _:
            raise AssertionError(delta)


def said(text: str) -> ChatDelta:
    return ChatDelta(text=text)


def thought(text: str = "", *, index: int = 0, **fields: object) -> ChatDelta:
    return ChatDelta(reasoning=ReasoningDelta(index=index, text=text, **fields))


def called(index: int, arguments: str = "", **fields: object) -> ChatDelta:
    return ChatDelta(tool=ToolDelta(index=index, arguments=arguments, **fields))


STOP = ChatDelta(finish=FinishReason.STOP)
CALLS = ChatDelta(finish=FinishReason.TOOL_CALLS)
TEXT = {"type": "text", "text": "hello"}
USE = {"type": "tool_use", "id": "c0", "name": "f", "input": {"a": 1}}
OTHER = {"type": "tool_use", "id": "c1", "name": "g", "input": {"b": [2]}}


def test_a_whole_message_has_all_its_parts():
    found = whole(
        text="hello",
        reasoning=(Reasoning(text="hm", signature="s", dialect="anthropic"),),
        tool_calls=(ToolCall(id="c0", name="f", arguments='{"a": 1}'),),
    )

    assert {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            TEXT,
            USE,
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 20,
            "cache_creation_input_tokens": 50,
            "cache_read_input_tokens": 30,
            "output_tokens": 20,
            "output_tokens_details": {"thinking_tokens": 5},
            "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 10},
            "service_tier": "standard",
        },
    } == found
    WireMessage.model_validate(found)


@pytest.mark.parametrize(
    ("own_id", "expected"),
    [("msg_7", "msg_7"), ("chatcmpl-7", "msg_7"), ("7", "msg_7"), ("", "msg_1")],
)
def test_ids_are_in_anthropics_form(own_id: str, expected: str):
    answer = ChatResponse(id=own_id, choices=(ChatChoice(text="x"),))

    assert expected == json.loads(render_response(answer, ids()))["id"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("{}", {}),
        ('{"a":1', {"INVALID_JSON": '{"a":1'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
    ],
)
def test_input_is_always_an_object(arguments: str, expected: dict[str, object]):
    found = whole(tool_calls=(ToolCall(id="c", name="f", arguments=arguments),))

    assert expected == found["content"][0]["input"]


def test_nothing_said_is_no_content():
    assert [] == whole(text="")["content"]


@pytest.mark.parametrize(
    ("finish", "fields", "expected"),
    [
        (FinishReason.STOP, {}, "end_turn"),
        (FinishReason.STOP, {"stop_sequence": "END"}, "stop_sequence"),
        (FinishReason.LENGTH, {}, "max_tokens"),
        (FinishReason.TOOL_CALLS, {}, "tool_use"),
        (FinishReason.CONTENT_FILTER, {}, "refusal"),
        (FinishReason.STOP, {"refusal": "I will not."}, "refusal"),
        (None, {}, "end_turn"),
    ],
)
def test_why_it_stopped(finish: FinishReason | None, fields: dict, expected: str):
    choice = ChatChoice(finish=finish, **fields)
    found = json.loads(render_response(ChatResponse(choices=(choice,)), ids()))
    last = ChatDelta(finish=finish, **fields)

    streamed = events(HEAD, last)[-2]["delta"]

    assert (expected, fields.get("stop_sequence")) == (found["stop_reason"], found["stop_sequence"])
    assert {name: found[name] for name in streamed} == streamed


@pytest.mark.behaviour(163)
def test_a_stream_is_told_in_order():
    found = events(HEAD, said("hel"), said("lo"), STOP)

    assert [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ] == [event["type"] for event in found]
    assert ("msg_1", "m-1", None) == (
        found[0]["message"]["id"],
        found[0]["message"]["model"],
        found[0]["message"]["stop_reason"],
    )
    assert 0 == found[0]["message"]["usage"]["input_tokens"]
    assert (20, 20) == (
        found[-2]["usage"]["input_tokens"],
        found[-2]["usage"]["output_tokens"],
    )


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        pytest.param((said("hel"), said("lo"), STOP), [TEXT], id="text"),
        pytest.param((STOP,), [], id="nothing"),
        pytest.param(
            (said("hello"), called(0, '{"a": 1}', id="c0", name="f"), CALLS),
            [TEXT, USE],
            id="text_then_a_whole_call",
            marks=pytest.mark.behaviour(164, 165),
        ),
        pytest.param(
            (called(0, id="c0", name="f"), CALLS),
            [{**USE, "input": {}}],
            id="call_without_arguments",
            marks=pytest.mark.behaviour(165),
        ),
        pytest.param(
            (thought("h"), thought("m"), said("hel"), said("lo"), STOP),
            [{"type": "thinking", "thinking": "hm", "signature": ""}, TEXT],
            id="thought_then_text",
            marks=pytest.mark.behaviour(164, 166),
        ),
        pytest.param(
            (
                thought("hm", dialect="gemini"),
                thought(signature="s"),
                thought("so", index=1, dialect="openai_responses", id="rs_1"),
                thought(index=2, redacted=True, signature="d", dialect="anthropic"),
                STOP,
            ),
            [
                {"type": "thinking", "thinking": "hm", "signature": packed("gemini", "s", None)},
                {
                    "type": "thinking",
                    "thinking": "so",
                    "signature": packed("openai_responses", None, "rs_1"),
                },
                {"type": "redacted_thinking", "data": "d"},
            ],
            id="proofs_of_thoughts",
        ),
        pytest.param(
            (
                called(0, id="c0", name="f"),
                called(1, id="c1", name="g"),
                called(1, '{"b"'),
                called(0, '{"a"'),
                called(0, ": 1}"),
                called(1, ": [2]}"),
                CALLS,
            ),
            [USE, OTHER],
            id="calls_at_once",
            marks=pytest.mark.behaviour(167),
        ),
        pytest.param(
            (
                called(0, '{"a": 1', id="c0", name="f"),
                said("hel"),
                called(0, "}"),
                said("lo"),
                CALLS,
            ),
            [USE, TEXT],
            id="words_in_the_middle_of_a_call",
        ),
        pytest.param(
            (called(0, "ls -l", id="c0", name="sh", kind="custom"), CALLS),
            [{"type": "tool_use", "id": "c0", "name": "sh", "input": {"input": "ls -l"}}],
            id="free_text_for_a_tool",
        ),
        pytest.param(
            (called(0, '{"a": 1}', id="c0", name="f"), called(0, "\n"), CALLS),
            [USE],
            id="blanks_after_a_call",
        ),
        pytest.param(
            (called(0, "{}", id="c0", name="f", signature="g"), CALLS),
            [
                {
                    "type": "tool_use",
                    "id": "c0",
                    "name": "f",
                    "input": {},
                    "extra_content": {"google": {"thought_signature": "g"}},
                }
            ],
            id="signature_of_a_call",
        ),
        pytest.param(
            (said("hello"), ChatDelta(annotations=(CITED,)), STOP),
            [
                {
                    **TEXT,
                    "citations": [
                        {
                            "type": "web_search_result_location",
                            "url": "https://x",
                            "title": "T",
                            "cited_text": "",
                            "encrypted_index": "",
                        }
                    ],
                }
            ],
            id="sources",
        ),
        pytest.param(
            (ChatDelta(refusal="hel"), ChatDelta(refusal="lo"), STOP), [TEXT], id="refusal"
        ),
        pytest.param(
            (said("hello"), ChatDelta(choice=1, text="other"), STOP), [TEXT], id="other_choices"
        ),
    ],
)
def test_blocks_are_closed_one_by_one_and_lose_nothing(
    deltas: tuple[ChatDelta, ...], expected: list[dict]
):
    """As one reads them in a stream, and as the whole answer shows them."""
    assert expected == blocks(events(HEAD, *deltas))

    folded = json.loads(render_response(fold([HEAD, *deltas]), ids()))["content"]
    assert sorted(map(json.dumps, expected)) == sorted(map(json.dumps, folded))


def test_the_first_call_is_told_as_it_comes():
    """What comes is not kept back while no other block is open."""
    renderer = MessagesRenderer(ids())
    renderer.render([HEAD, called(0, id="c0", name="f")])

    assert b'"partial_json":"{\\"a\\":' in renderer.render([called(0, '{"a":')])


def test_the_second_call_is_told_as_it_comes_once_the_first_is_whole():
    renderer = MessagesRenderer(ids())
    renderer.render([HEAD, called(0, '{"a": 1}', id="c0", name="f")])

    assert b'"name":"g"' in renderer.render([called(1, id="c1", name="g")])


def test_each_call_has_a_piece_of_its_arguments():
    """Clients that join the pieces must get JSON."""
    found = events(HEAD, called(0, id="c0", name="f"), CALLS)

    assert [{"type": "input_json_delta", "partial_json": "{}"}] == [
        event["delta"] for event in found if event["type"] == "content_block_delta"
    ]


def test_usage_that_nobody_told_is_zero():
    assert 0 == events(HEAD, said("x"), STOP, usage=None)[-2]["usage"]["output_tokens"]


@st.composite
def muddles(draw: st.DrawFn) -> list[ChatDelta]:
    """Calls in pieces, words and thoughts, each in its own order and all of them in any."""
    lanes: list[list[ChatDelta]] = []
    for index in range(draw(st.integers(1, 4))):
        text = json.dumps(draw(st.dictionaries(st.text(max_size=3), st.text(max_size=5))))
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]
        head = called(index, id=f"c{index}", name="f")
        lanes.append([head, *(called(index, piece) for piece in pieces)])
    lanes.append([said(word) for word in draw(st.lists(st.text(min_size=1), max_size=4))])
    lanes.append([thought(word) for word in draw(st.lists(st.text(min_size=1), max_size=4))])
    muddle = []
    while lanes := [lane for lane in lanes if lane]:
        muddle.append(draw(st.sampled_from(lanes)).pop(0))
    return muddle


@pytest.mark.behaviour(110, 167)
@given(muddles())
def test_whatever_the_order_the_same_is_said(muddle: list[ChatDelta]):
    """Words, thoughts and calls are those of the whole answer; calls are told once each."""
    found = blocks(events(HEAD, *muddle, CALLS))
    whole = fold([HEAD, *muddle, CALLS]).choices[0]

    assert (whole.text or "") == "".join(one.get("text", "") for one in found)
    assert "".join(piece.text for piece in whole.reasoning) == "".join(
        one.get("thinking", "") for one in found
    )
    assert {call.id: json.loads(call.arguments) for call in whole.tool_calls} == {
        one["id"]: one["input"] for one in found if one["type"] == "tool_use"
    }
    assert len(whole.tool_calls) == sum(one["type"] == "tool_use" for one in found)
