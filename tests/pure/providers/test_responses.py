"""OpenAI's Responses as callers speak them: items in, items and events out."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.message import (
    FilePart,
    ImagePart,
    Message,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
)
from shared.chat.request import ResponseFormat, Sampling, Thinking, Tool, ToolChoice
from shared.chat.response import ChatDelta, FinishReason, ReasoningDelta, ToolDelta, fold
from shared.chat.usage import Usage
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.responses_history import input_items, items_of, written_out
from shared.providers.dialects.responses_render import Names, render_response
from shared.providers.dialects.responses_served import parse_request
from shared.providers.dialects.responses_stream import ResponsesRenderer

NAMES = Names("resp_7", 1_700_000_000)
STOP = ChatDelta(finish=FinishReason.STOP)


def parsed(items="hi", **fields):
    return parse_request(msgspec.json.encode({"model": "m", "input": items, **fields}))


def said(role, text, **more):
    return Message(role=role, parts=(TextPart(text=text),), **more)


def rendered(*deltas, usage=None, **asked):
    """Return the events of a stream."""
    renderer = ResponsesRenderer(parsed(**asked), NAMES)
    out = b"".join(renderer.render([delta]) for delta in deltas) + renderer.closing(usage, "0.5")
    blocks = [block.split(b"\n") for block in out.split(b"\n\n")[:-1]]
    events = [json.loads(data.removeprefix(b"data: ")) for _, data in blocks]
    assert [name.decode() for name, _ in blocks] == [f"event: {event['type']}" for event in events]
    return events


CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "id": "fc_1"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "42"}
CALLED = ToolCall(id="c1", name="f", arguments="{}")
RESULTED = said("tool", "42", tool_call_id="c1")


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param("hi", [said("user", "hi")], id="a text"),
        pytest.param(
            [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}],
            [said("developer", "be brief"), said("user", "hi")],
            id="messages without a type",
        ),
        pytest.param(
            [{"role": "assistant", "content": "ok"}, CALL, RESULT],
            [said("assistant", "ok", tool_calls=(CALLED,)), RESULTED],
            id="words, a call and its result are two messages",
        ),
        pytest.param(
            [CALL, {**CALL, "call_id": "c2"}, RESULT],
            [
                Message(
                    role="assistant",
                    tool_calls=(CALLED, msgspec.structs.replace(CALLED, id="c2")),
                ),
                RESULTED,
            ],
            id="parallel calls are one message",
        ),
        pytest.param(
            [
                {"type": "reasoning", "id": "rs_1", "summary": [{"text": "hm"}]},
                CALL,
                {"type": "reasoning", "id": "rs_2", "summary": []},
                {**CALL, "call_id": "c2"},
            ],
            [
                Message(
                    role="assistant",
                    reasoning=(Reasoning(text="hm", id="rs_1"), Reasoning(id="rs_2")),
                    tool_calls=(CALLED, msgspec.structs.replace(CALLED, id="c2")),
                )
            ],
            id="a thought between calls does not part them from their results",
        ),
        pytest.param(
            [{"role": "assistant", "content": "one"}, {"role": "assistant", "content": "two"}],
            [said("assistant", "one"), said("assistant", "two")],
            id="two messages stay two",
        ),
        pytest.param(
            [{"type": "custom_tool_call", "call_id": "c", "name": "g", "input": "x y"}],
            [
                Message(
                    role="assistant",
                    tool_calls=(ToolCall(id="c", name="g", arguments="x y", kind="custom"),),
                )
            ],
            id="a custom call",
        ),
        pytest.param(
            [{"role": "user", "content": "hi"}, {"type": "web_search_call", "id": "ws_1"}],
            [said("user", "hi")],
            id="a hosted tool's traces",
        ),
    ],
)
def test_items_become_messages(items, expected):
    assert expected == list(parsed(items).messages)


@pytest.mark.behaviour(182)
def test_a_result_may_hold_pictures_and_files():
    """They stand in the tool's message; a target puts them where its provider takes them."""
    output = [
        {"type": "input_text", "text": "see"},
        {"type": "input_image", "image_url": "data:image/png;base64,QQ==", "detail": "low"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,QQ==", "filename": "a"},
        {"type": "input_file", "file_url": "https://x.test/b.pdf"},
    ]

    (_, tool) = parsed([CALL, {**RESULT, "output": output}]).messages

    assert (
        TextPart(text="see"),
        ImagePart(url="data:image/png;base64,QQ==", detail="low"),
        FilePart(data_url="data:application/pdf;base64,QQ==", filename="a"),
        FilePart(url="https://x.test/b.pdf"),
    ) == tool.parts


def test_history_may_hold_refusals():
    content = [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}]
    (message,) = parsed([{"role": "assistant", "content": content}]).messages

    assert (TextPart(text="a"), RefusalPart(text="no")) == message.parts


GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "s: A"}


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        (
            {"tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}]},
            "tools",
            (Tool(name="f", parameters={}, strict=True),),
        ),
        (
            {"tools": [{"type": "custom", "name": "g", "format": GRAMMAR}]},
            "tools",
            (
                Tool(
                    name="g",
                    kind="custom",
                    format={
                        "type": "grammar",
                        "grammar": {"syntax": "lark", "definition": "s: A"},
                    },
                ),
            ),
        ),
        (
            {"tools": [{"type": "web_search", "x": 1}]},
            "tools",
            (Tool(name="web_search", kind="hosted", format={"type": "web_search", "x": 1}),),
        ),
        ({"tool_choice": "required"}, "tool_choice", ToolChoice(mode="required")),
        (
            {"tool_choice": {"type": "function", "name": "f"}},
            "tool_choice",
            ToolChoice(mode="named", name="f"),
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "f"}],
                }
            },
            "tool_choice",
            ToolChoice(mode="auto", allowed=("f",)),
        ),
        ({"text": {"format": {"type": "text"}}}, "response_format", None),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}},
            "response_format",
            ResponseFormat(kind="json_schema", name="n", schema={}),
        ),
        (
            {"reasoning": {"effort": "low", "summary": "auto"}},
            "thinking",
            Thinking(effort="low", summary="auto"),
        ),
        (
            {"max_output_tokens": 5, "temperature": 0.5, "top_logprobs": 2},
            "sampling",
            Sampling(max_output_tokens=5, temperature=0.5, logprobs=True, top_logprobs=2),
        ),
        (
            {"include": ["message.output_text.logprobs"]},
            "sampling",
            Sampling(logprobs=True),
        ),
        (
            {"text": {"verbosity": "low"}, "prompt_cache_key": "k", "foo": 1},
            "extra",
            {"verbosity": "low", "prompt_cache_key": "k", "foo": 1},
        ),
        ({"truncation": "auto", "max_tool_calls": 3}, "lost", ("max_tool_calls", "truncation")),
        ({"truncation": "disabled", "store": True, "include": []}, "lost", ()),
    ],
)
def test_fields_have_their_words(fields, name, expected):
    assert expected == getattr(parsed(**fields), name)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"items": [{"type": "computer_call_output"}]}, "input[0]"),
        ({"items": [5]}, "input[0]"),
        ({"items": [{**CALL, "call_id": ""}]}, "input[0].call_id"),
        ({"items": [{**CALL, "arguments": {}}]}, "input[0].arguments"),
        ({"items": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content"),
        ({"tools": [{"name": "f"}]}, "tools[0]"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"conversation": "conv_1"}, "conversation"),
    ],
)
def test_what_cannot_be_read_is_named(fields, param):
    with pytest.raises((InvalidRequest, UnsupportedParameter)) as refused:
        parsed(**fields)

    assert param == refused.value.param


THOUGHTS = [
    Reasoning(text="hm", signature="sig", dialect="anthropic"),
    Reasoning(signature="secret", redacted=True, dialect="anthropic"),
    Reasoning(text="hm", signature="gAAAA", dialect="openai_responses"),
    Reasoning(text="only words"),
]


@pytest.mark.behaviour(87, 88)
@pytest.mark.parametrize("thought", THOUGHTS)
def test_a_thought_comes_back_with_its_proof(thought):
    """Whole and streamed: what a client echoes is what its provider gave."""
    delta = ReasoningDelta(**{**msgspec.structs.asdict(thought), "index": 0})
    whole = json.loads(render_response(fold([delta_of(delta), STOP]), parsed(), NAMES))
    streamed = rendered(delta_of(delta), STOP)[-1]["response"]

    for response in (whole, streamed):
        (item,) = response["output"]
        (message,) = parsed([item, {"role": "user", "content": "go on"}]).messages[:1]
        (back,) = message.reasoning
        assert thought == msgspec.structs.replace(back, id=None)


def delta_of(reasoning):
    return ChatDelta(reasoning=reasoning)


def test_a_damaged_proof_is_none():
    item = {"type": "reasoning", "summary": [], "encrypted_content": "sluiceway.1.@@"}
    (message,) = parsed([item]).messages

    assert (Reasoning(),) == message.reasoning


def test_a_calls_signature_survives():
    """Gemini's proof stands beside the call, as in chat."""
    call = ToolDelta(index=0, id="c", name="f", arguments="{}", signature="sig")
    (item,) = rendered(ChatDelta(tool=call), STOP)[-1]["response"]["output"]

    (message,) = parsed([item]).messages
    assert "sig" == message.tool_calls[0].signature


USED = Usage(input_tokens=9, output_tokens=4, cache_read_tokens=2, service_tier="flex")


def test_a_text_has_its_events_in_order():
    events = rendered(
        ChatDelta(id="x", model="m-1", created_s=5), ChatDelta(text="a"), STOP, usage=USED
    )

    assert [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ] == [event["type"] for event in events]
    last = events[-1]["response"]
    assert ("resp_7", 5, "m-1", "completed", "flex") == (
        last["id"],
        last["created_at"],
        last["model"],
        last["status"],
        last["service_tier"],
    )
    assert {"cost_usd": 0.5} == last["sluiceway"]
    assert {"cached_tokens": 2, "cache_write_tokens": 0} == last["usage"]["input_tokens_details"]


def test_mixed_calls_come_out_whole():
    """Pieces of two calls in turn: both stay open, each has its own arguments."""
    pieces = [
        ToolDelta(index=0, id="a", name="f", arguments='{"x"'),
        ToolDelta(index=1, id="b", name="g", arguments='{"y"'),
        ToolDelta(index=0, arguments=":1}"),
        ToolDelta(index=1, arguments=":2}"),
    ]

    events = rendered(*(ChatDelta(tool=piece) for piece in pieces), STOP)

    assert [("a", '{"x":1}'), ("b", '{"y":2}')] == [
        (item["call_id"], item["arguments"]) for item in events[-1]["response"]["output"]
    ]


def test_a_call_without_an_id_gets_one():
    (item,) = rendered(ChatDelta(tool=ToolDelta(index=0, name="f")), STOP)[-1]["response"]["output"]

    assert item["call_id"].startswith("call_")


def test_citations_are_flat():
    """Chat's inner object is Responses' own."""
    cited = {"start_index": 0, "end_index": 1, "url": "https://x.test", "title": "X"}
    events = rendered(
        ChatDelta(text="a"),
        ChatDelta(annotations=({"type": "url_citation", "url_citation": cited},)),
        STOP,
    )

    (part,) = events[-1]["response"]["output"][0]["content"]
    assert [{"type": "url_citation", **cited}] == part["annotations"]


def test_a_refusal_is_a_part_of_its_own():
    events = rendered(ChatDelta(text="a"), ChatDelta(refusal="no"), STOP)

    assert [
        {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "no"},
    ] == events[-1]["response"]["output"][0]["content"]


TEXTS = st.sampled_from(["", "a", "bc"])
DELTAS = st.one_of(
    st.builds(ChatDelta, text=TEXTS),
    st.builds(ChatDelta, refusal=TEXTS),
    st.builds(
        ChatDelta,
        reasoning=st.builds(
            ReasoningDelta,
            index=st.integers(0, 1),
            text=TEXTS,
            signature=st.sampled_from([None, "s"]),
        ),
    ),
    st.builds(
        ChatDelta,
        tool=st.builds(
            ToolDelta,
            index=st.integers(0, 2),
            id=st.just("c"),
            name=st.just("f"),
            arguments=TEXTS,
        ),
    ),
)


@pytest.mark.behaviour(174, 175)
@given(st.lists(DELTAS, max_size=12), st.sampled_from(FinishReason))
def test_every_stream_keeps_the_helpers_rules(deltas, finish):
    """Numbers without gaps; items opened before, closed once, and in the end all there."""
    events = rendered(*deltas, ChatDelta(finish=finish))
    output = events[-1]["response"]["output"]

    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    opened: dict[int, str] = {}
    done: dict[int, dict] = {}
    texts: dict[int, str] = {}
    for event in events[2:-1]:
        at = event["output_index"]
        match event["type"]:
            case "response.output_item.added":
                assert len(opened) == at
                opened[at] = event["item"]["id"]
            case "response.output_item.done":
                assert at not in done
                done[at] = event["item"]
            case _:
                assert event["item_id"] == opened[at]
                assert at not in done
        if event["type"].endswith(".delta"):
            texts[at] = texts.get(at, "") + event["delta"]
    assert [done[at] for at in sorted(opened)] == output
    assert [opened[at] for at in sorted(opened)] == [item["id"] for item in output]
    assert [texts.get(at, "") for at in sorted(opened)] == [words_of(item) for item in output]


def words_of(item):
    if item["type"] == "function_call":
        return item["arguments"]
    parts = item["summary"] if item["type"] == "reasoning" else item["content"]
    return "".join(part.get("text", part.get("refusal", "")) for part in parts)


def test_a_conversation_is_written_out():
    """Ids of others go, and thoughts without a proof; the rest stays as it was."""
    answered = {
        "output": [
            {"id": "rs_1", "type": "reasoning", "summary": []},
            {"id": "rs_2", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA"},
            {"id": "fc_1", "status": "completed", **CALL},
        ]
    }
    asked = msgspec.json.encode(input_items(b'"hi"', "resp_1"))
    raw = b'{"model": "m", "input": "go on", "temperature": 0.10}'

    fields = json.loads(written_out(raw, items_of([(asked, msgspec.json.encode(answered))])))

    assert "0.10" in written_out(raw, []).decode()
    assert [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"id": "rs_2", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA"},
        {name: value for name, value in CALL.items() if name != "id"},
        {"role": "user", "content": "go on"},
    ] == fields["input"]
