"""Anthropic's Messages as callers speak it, read into the canonical language."""

import json

import pytest

from shared.chat.message import (
    CacheMark,
    FilePart,
    ImagePart,
    Message,
    Reasoning,
    TextPart,
    ToolCall,
)
from shared.chat.request import ChatRequest, ResponseFormat, Thinking, Tool, ToolChoice
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.anthropic_served import parse_request
from shared.providers.dialects.foreign_thoughts import packed, unpacked, without_foreign

PIXEL = {"type": "base64", "media_type": "image/png", "data": "aGk="}
HELLO = [{"role": "user", "content": "hi"}]


def parsed(**fields: object) -> ChatRequest:
    asked = {"model": "m", "max_tokens": 100, "messages": HELLO, **fields}
    return parse_request(json.dumps(asked).encode())


def turns(*messages: dict[str, object]) -> tuple[Message, ...]:
    return parsed(messages=list(messages)).messages


def test_the_settings_have_their_words():
    chat = parsed(
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        stop_sequences=["a", "b"],
        stream=True,
        metadata={"user_id": "u-1"},
        service_tier="standard_only",
        container="c-1",
    )

    sampling = chat.sampling
    assert (0.5, 0.9, 3, 100) == (
        sampling.temperature,
        sampling.top_p,
        sampling.top_k,
        sampling.max_output_tokens,
    )
    assert ("a", "b") == sampling.stop
    assert (True, "u-1", "default") == (chat.stream, chat.user, chat.service_tier)
    assert {"container": "c-1"} == chat.extra
    assert ("anthropic", None) == (chat.dialect, chat.metadata)


@pytest.mark.parametrize(
    ("system", "parts"),
    [
        ("be brief", (TextPart(text="be brief"),)),
        (
            [
                {"type": "text", "text": "one"},
                {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}},
                {
                    "type": "text",
                    "text": "three",
                    "cache_control": {"type": "ephemeral", "ttl": "1h"},
                },
            ],
            (
                TextPart(text="one"),
                TextPart(text="two", cache=CacheMark()),
                TextPart(text="three", cache=CacheMark(ttl="1h")),
            ),
        ),
    ],
)
def test_the_system_comes_first_with_its_marks(system: object, parts: tuple[TextPart, ...]):
    assert Message(role="system", parts=parts) == parsed(system=system).messages[0]


def test_no_system_is_no_message():
    assert ["user"] == [message.role for message in parsed(system="").messages]


def test_a_system_message_in_the_middle_keeps_its_place():
    found = turns(
        *HELLO,
        {"role": "assistant", "content": "yes?"},
        {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
        *HELLO,
    )

    assert ["user", "assistant", "system", "user"] == [message.role for message in found]
    assert "be brief" == found[2].text


def test_tool_results_come_before_what_the_user_says():
    """One message each, in their order, whatever stood first."""
    found = turns(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "well?"},
                {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "t2", "content": "two"},
            ],
        }
    )

    assert [("tool", "t1", "one"), ("tool", "t2", "two"), ("user", None, "well?")] == [
        (message.role, message.tool_call_id, message.text) for message in found
    ]


@pytest.mark.behaviour(171)
@pytest.mark.parametrize(
    ("fields", "parts", "is_error"),
    [
        ({}, (TextPart(text=""),), False),
        ({"content": ""}, (TextPart(text=""),), False),
        ({"content": []}, (TextPart(text=""),), False),
        ({"content": None}, (TextPart(text=""),), False),
        ({"content": "no such city", "is_error": True}, (TextPart(text="no such city"),), True),
        (
            {
                "content": [
                    {"type": "text", "text": "here"},
                    {"type": "image", "source": PIXEL},
                ]
            },
            (TextPart(text="here"), ImagePart(url="data:image/png;base64,aGk=")),
            False,
        ),
        (
            {"content": "x", "cache_control": {"type": "ephemeral"}},
            (TextPart(text="x", cache=CacheMark()),),
            False,
        ),
    ],
)
def test_a_tool_result_may_hold_anything_or_nothing(
    fields: dict[str, object], parts: tuple[object, ...], is_error: object
):
    (found,) = turns(
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", **fields}]}
    )

    assert Message(role="tool", tool_call_id="t1", parts=parts, is_error=is_error) == found


def test_an_assistants_turn_keeps_its_thoughts_words_and_calls():
    (found,) = turns(
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s1"},
                {"type": "redacted_thinking", "data": "d1"},
                {"type": "text", "text": "let me see"},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": [1, "ü"]}},
                {"type": "tool_use", "id": "t2", "name": "wait", "input": {}},
            ],
        }
    )

    assert (
        Message(
            role="assistant",
            parts=(TextPart(text="let me see"),),
            tool_calls=(
                ToolCall(id="t1", name="look", arguments='{"at":[1,"\\u00fc"]}'),
                ToolCall(id="t2", name="wait", arguments="{}"),
            ),
            reasoning=(
                Reasoning(text="hm", signature="s1", dialect="anthropic"),
                Reasoning(signature="d1", redacted=True, dialect="anthropic"),
            ),
        )
        == found
    )


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
            ImagePart(url="https://x/y.png"),
        ),
        (
            {
                "type": "document",
                "title": "t.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
                "cache_control": {"type": "ephemeral"},
            },
            FilePart(
                filename="t.pdf", data_url="data:application/pdf;base64,aGk=", cache=CacheMark()
            ),
        ),
        (
            {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}},
            FilePart(url="https://x/y.pdf"),
        ),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, FilePart(file_id="f")),
        (
            {
                "type": "document",
                "title": "Notes",
                "source": {"type": "text", "media_type": "text/plain", "data": "a b"},
            },
            TextPart(text="Notes\n\na b"),
        ),
        (
            {
                "type": "document",
                "source": {"type": "content", "content": [{"type": "text", "text": "a"}]},
            },
            TextPart(text="a"),
        ),
        (
            {
                "type": "search_result",
                "title": "T",
                "source": "https://x",
                "content": [{"type": "text", "text": "found"}],
            },
            TextPart(text="T\n\nhttps://x\n\nfound"),
        ),
    ],
)
def test_what_a_user_shows_becomes_a_part(block: dict[str, object], part: object):
    (found,) = turns({"role": "user", "content": [block]})

    assert (part,) == found.parts


def test_tools_are_declared_and_hosted_ones_kept_whole():
    hosted = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    chat = parsed(
        tools=[
            {
                "name": "look",
                "description": "Looks.",
                "input_schema": {"type": "object"},
                "cache_control": {"type": "ephemeral"},
            },
            {"type": "custom", "name": "wait", "input_schema": {}},
            hosted,
        ]
    )

    assert (
        Tool(
            name="look",
            description="Looks.",
            parameters={"type": "object"},
            cache=CacheMark(),
        ),
        Tool(name="wait", parameters={}),
        Tool(name="web_search_20250305", kind="hosted", format=hosted),
    ) == chat.tools


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        (None, None, None),
        ({"type": "auto"}, ToolChoice(mode="auto"), None),
        ({"type": "none"}, ToolChoice(mode="none"), None),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            ToolChoice(mode="required"),
            False,
        ),
        ({"type": "tool", "name": "look"}, ToolChoice(mode="named", name="look"), None),
    ],
)
def test_the_choice_of_tools(choice: object, expected: object, parallel: object):
    chat = parsed(tools=[{"name": "look", "input_schema": {}}], tool_choice=choice)

    assert (expected, parallel) == (chat.tool_choice, chat.parallel_tool_calls)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            Thinking(enabled=True, budget_tokens=2048),
        ),
        ({"thinking": {"type": "disabled"}}, Thinking(enabled=False)),
        (
            {
                "thinking": {"type": "adaptive", "display": "omitted"},
                "output_config": {"effort": "high"},
            },
            Thinking(enabled=True, effort="high", summary="omitted"),
        ),
        ({"output_config": {"effort": "low"}}, Thinking(effort="low")),
    ],
)
def test_how_much_to_think(fields: dict[str, object], expected: object):
    assert expected == parsed(**fields).thinking


CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
OPTIONAL = {**CLOSED, "required": []}


@pytest.mark.parametrize("place", ["output_config", "output_format"])
@pytest.mark.parametrize(("schema", "strict"), [(CLOSED, True), (OPTIONAL, None)])
def test_the_form_of_the_answer(place: str, schema: dict[str, object], strict: object):
    """It is strict where all providers could be strict about it."""
    wanted = {"type": "json_schema", "schema": schema}
    chat = parsed(**{place: {"format": wanted} if place == "output_config" else wanted})

    assert (
        ResponseFormat(kind="json_schema", name="output", schema=schema, strict=strict)
        == chat.response_format
    )


def block(**fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": [fields]}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        (block(type="text"), "messages[0].content[0].text"),
        (block(type="image"), "messages[0].content[0].source"),
        (
            block(type="image", source={"type": "base64", "data": "x"}),
            "messages[0].content[0].source",
        ),
        (block(type="tool_result"), "messages[0].content[0].tool_use_id"),
        (
            block(type="tool_result", tool_use_id="t", content=7),
            "messages[0].content[0].content",
        ),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"system": 7}, "system"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], param: object):
    with pytest.raises(InvalidRequest) as raised:
        parsed(**fields)

    assert param == raised.value.param


@pytest.mark.parametrize(
    "fields",
    [
        block(type="container_upload", file_id="f"),
        block(type="image", source={"type": "file", "file_id": "f"}),
    ],
)
def test_what_only_anthropic_can_take_is_no_fault_of_the_callers(fields: dict[str, object]):
    """Another target of the route may be Anthropic."""
    with pytest.raises(UnsupportedParameter):
        parsed(**fields)


@pytest.mark.parametrize(
    "thought",
    [
        Reasoning(text="hm"),
        Reasoning(text="hm", signature="a:b+/=", dialect="anthropic"),
        Reasoning(signature="d", redacted=True, dialect="anthropic"),
        Reasoning(text="hm", signature="a:b", dialect="gemini"),
        Reasoning(signature="enc", redacted=True, dialect="openai_responses", id="rs:1"),
        Reasoning(text="hm", dialect="openai_responses", id="rs_1"),
    ],
)
def test_every_providers_proof_comes_back(thought: Reasoning):
    """A client that echoes its thinking blocks brings each provider its own signature."""
    shown = packed(thought.dialect, thought.signature, thought.id)

    assert thought == unpacked(shown, text=thought.text, redacted=thought.redacted)


def test_anthropic_itself_is_not_shown_the_proofs_of_others():
    messages = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "a", "signature": ""},
                {"type": "thinking", "thinking": "b", "signature": packed("gemini", "s", None)},
                {"type": "redacted_thinking", "data": packed("openai_responses", "e", "rs_1")},
                {"type": "thinking", "thinking": "c", "signature": "own"},
                {
                    "type": "tool_use",
                    "id": "t",
                    "name": "f",
                    "input": {},
                    "extra_content": {"google": {"thought_signature": "g"}},
                },
            ],
        },
    ]

    found = json.loads(without_foreign(json.dumps({"model": "m", "messages": messages}).encode()))

    assert [
        {"type": "thinking", "thinking": "c", "signature": "own"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ] == found["messages"][1]["content"]
    assert messages[0] == found["messages"][0]


def test_what_has_nothing_foreign_goes_byte_for_byte():
    raw = b'{ "messages": [{"role": "user", "content": "a signature"}], "model": "m"}'

    assert raw is without_foreign(raw)
