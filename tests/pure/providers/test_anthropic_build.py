"""Any question of OpenAI's dialect becomes one that Claude takes, and says what it lost."""

import hashlib
import json

import msgspec
import pytest

from shared.chat.message import Message, Reasoning, TextPart, ToolCall
from shared.chat.request import ChatRequest, Thinking, Tool, ToolChoice
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.anthropic_build import build_request
from shared.providers.dialects.openai_served import parse_request
from shared.providers.request import FetchedFile

SONNET = "claude-sonnet-4-5"
HELLO = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def built(*messages, model=SONNET, **fields):
    body = {"model": model, "messages": messages or (HELLO,), **fields}
    return build_request(parse_request(json.dumps(body).encode()))


def body(*messages, **fields):
    return built(*messages, **fields).body


def turns(*messages, **fields):
    return body(*messages, **fields)["messages"]


def text(words, **fields):
    return {"type": "text", "text": words, **fields}


def user(*content):
    return {"role": "user", "content": list(content)}


def assistant(*content):
    return {"role": "assistant", "content": list(content)}


def asks(*ids, content=None, arguments="{}"):
    """An assistant's message that calls `f` once for each id."""
    function = {"name": "f", "arguments": arguments}
    calls = [{"id": id_, "type": "function", "function": function} for id_ in ids]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def result(id_, content="1"):
    return {"role": "tool", "tool_call_id": id_, "content": content}


def use(id_, **given):
    return {"type": "tool_use", "id": id_, "name": "f", "input": given}


def answer(id_, content="1"):
    return {"type": "tool_result", "tool_use_id": id_, "content": content}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param(
            [HELLO, {"role": "user", "content": "again"}],
            [user(text("Hello"), text("again"))],
            id="two of the user",
            marks=pytest.mark.behaviour(6),
        ),
        pytest.param(
            [
                HELLO,
                {"role": "assistant", "content": "Hi"},
                {"role": "system", "content": "Now in verse."},
                HELLO,
            ],
            [
                user(text("Hello")),
                assistant(text("Hi")),
                user(text("<system>\nNow in verse.\n</system>"), text("Hello")),
            ],
            id="system in mid-conversation",
            marks=pytest.mark.behaviour(3),
        ),
        pytest.param(
            [HELLO, asks("a"), {"role": "system", "content": "Careful."}, result("a", "sun")],
            [
                user(text("Hello")),
                assistant(use("a")),
                user(answer("a", [text("<system>\nCareful.\n</system>"), text("sun")])),
            ],
            id="system before a result",
            marks=pytest.mark.behaviour(3),
        ),
        pytest.param(
            [HELLO, asks("a", "b", content=""), HELLO, result("b"), result("a")],
            [
                user(text("Hello")),
                assistant(use("a"), use("b")),
                user(answer("b"), answer("a"), text("Hello")),
            ],
            id="results come first",
            marks=pytest.mark.behaviour(8, 9, 10, 12),
        ),
        pytest.param(
            [{"role": "assistant", "content": "Hi"}, HELLO],
            [user(text("(empty)")), assistant(text("Hi")), user(text("Hello"))],
            id="begins with the assistant",
        ),
        pytest.param(
            [{"role": "system", "content": "Speak."}],
            [user(text("(empty)"))],
            id="only a system message",
        ),
        pytest.param(
            [HELLO, {"role": "assistant", "content": " \n"}, HELLO],
            [user(text("Hello"), text("Hello"))],
            id="a blank answer",
            marks=pytest.mark.behaviour(12, 13),
        ),
        pytest.param(
            [HELLO, {"role": "assistant", "content": "So:  \n"}],
            [user(text("Hello")), assistant(text("So:"))],
            id="white space after a prefilled answer",
            marks=pytest.mark.behaviour(15),
        ),
        pytest.param(
            [{**HELLO, "name": "Ann"}],
            [user(text("Hello"))],
            id="a name",
            marks=pytest.mark.behaviour(32),
        ),
        pytest.param(
            [HELLO, {"role": "assistant", "refusal": "No."}, HELLO],
            [user(text("Hello")), assistant(text("No.")), user(text("Hello"))],
            id="a refusal",
            marks=pytest.mark.behaviour(33),
        ),
        pytest.param(
            [HELLO, asks("a"), result("a", ""), asks("a"), result("a", [])],
            [
                user(text("Hello")),
                assistant(use("a")),
                user({"type": "tool_result", "tool_use_id": "a"}),
                assistant(use("a_2")),
                user({"type": "tool_result", "tool_use_id": "a_2"}),
            ],
            id="an id used again, results without content",
        ),
        pytest.param(
            [HELLO, asks("a.b", "a/b"), result("a/b", "2"), result("a.b")],
            [
                user(text("Hello")),
                assistant(use("a_b"), use("a_b_2")),
                user(answer("a_b_2", "2"), answer("a_b")),
            ],
            id="foreign ids",
        ),
    ],
)
def test_conversations(messages, expected):
    """Turns alternate, results come first, nothing is lost or moved behind what it preceded."""
    assert expected == turns(*messages)


@pytest.mark.behaviour(42)
def test_a_picture_in_a_result_stays_there():
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    *_, last = turns(HELLO, asks("a"), result("a", [{"type": "text", "text": "see"}, picture]))

    (block,) = last["content"]
    assert ["text", "image"] == [part["type"] for part in block["content"]]


@pytest.mark.behaviour(34)
def test_any_text_comes_through():
    words = 'NUL \0 emoji 👩‍👩‍👧 rtl שלום quote " backslash \\ line\u2028'
    given = json.dumps({"x": words})

    sent = turns(HELLO, asks("a", arguments=given), result("a", words))

    assert use("a", x=words) == sent[1]["content"][0]
    assert answer("a", words) == sent[2]["content"][0]


@pytest.mark.behaviour(16, 17)
@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("", {}),
        (" ", {}),
        ('{"a": 1}', {"a": 1}),
        ("[1, 2]", {"arguments": [1, 2]}),
        ('{"a": ', {"arguments": '{"a": '}),
        ("nonsense", {"arguments": "nonsense"}),
        ("null", {"arguments": None}),
        ("[" * 5000, {"arguments": "[" * 5000}),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_call_has_an_object(arguments, given):
    """What is no JSON object stands in one as `arguments`."""
    sent = turns(HELLO, asks("a", arguments=arguments), result("a"))

    assert given == sent[1]["content"][0]["input"]


@pytest.mark.behaviour(11)
@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([HELLO, asks("call_7")], "call_7"),
        ([HELLO, asks("call_7", "call_8"), result("call_7"), HELLO], "call_8"),
        ([HELLO, asks("call_7"), {"role": "assistant", "content": "x"}, HELLO], "call_7"),
        ([HELLO, result("call_9")], "call_9"),
        ([HELLO, asks("call_7"), result("call_7"), result("call_7")], "call_7"),
        ([HELLO, asks("call_7", "call_7"), result("call_7")], "call_7"),
    ],
)
def test_calls_and_results_must_pair(messages, named):
    with pytest.raises(InvalidRequest, match=named) as caught:
        body(*messages)

    assert "messages" == caught.value.param


@pytest.mark.behaviour(14)
def test_a_prefilled_answer_needs_a_model_that_continues_it():
    asked = [HELLO, {"role": "assistant", "content": "So"}]

    assert assistant(text("So")) == turns(*asked)[-1]
    with pytest.raises(UnsupportedParameter, match="claude-opus-4-8"):
        body(*asked, model="claude-opus-4-8")


@pytest.mark.parametrize(
    ("part", "error"),
    [
        pytest.param(
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,!!!"}},
            InvalidRequest,
            marks=pytest.mark.behaviour(43),
            id="broken base64",
        ),
        pytest.param(
            {"type": "image_url", "image_url": {"url": "data:image/png"}},
            InvalidRequest,
            marks=pytest.mark.behaviour(43),
            id="broken URL",
        ),
        pytest.param(
            {"type": "image_url", "image_url": {"url": "data:image/bmp;base64,AAAA"}},
            UnsupportedParameter,
            marks=pytest.mark.behaviour(43),
            id="unknown picture",
        ),
        pytest.param(
            {"type": "image_url", "image_url": {"url": "ftp://example.com/a.png"}},
            UnsupportedParameter,
            id="unknown scheme",
        ),
        pytest.param(
            {"type": "file", "file": {"file_data": "data:application/zip;base64,AAAA"}},
            UnsupportedParameter,
            marks=pytest.mark.behaviour(43),
            id="unknown file",
        ),
        pytest.param(
            {"type": "file", "file": {"file_id": "file-123"}},
            UnsupportedParameter,
            id="another vendor's file",
        ),
        pytest.param({"type": "file", "file": {}}, InvalidRequest, id="no file"),
        pytest.param(
            {"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}},
            InvalidRequest,
            id="a text that is none",
        ),
        pytest.param(
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
            UnsupportedParameter,
            marks=pytest.mark.behaviour(41),
            id="sound",
        ),
    ],
)
def test_what_claude_cannot_read_is_refused(part, error):
    with pytest.raises(error) as caught:
        body({"role": "user", "content": [part]})

    assert "messages" == caught.value.param


def test_stored_files_need_a_beta():
    asked = built({"role": "user", "content": [{"type": "file", "file": {"file_id": "file_011C"}}]})

    assert {"anthropic-beta": "files-api-2025-04-14"} == asked.headers
    (block,) = asked.body["messages"][0]["content"]
    assert {"type": "file", "file_id": "file_011C"} == block["source"]


def test_what_was_fetched_goes_inline():
    url = "http://example.com/a.jpg"
    part = {"type": "image_url", "image_url": {"url": url}}
    raw = json.dumps({"model": SONNET, "messages": [{"role": "user", "content": [part]}]}).encode()
    fetched = FetchedFile(media_type="image/jpg; charset=x", content=b"\xff\xd8")

    sent = build_request(parse_request(raw), {url: fetched}).body["messages"]

    source = {"type": "base64", "media_type": "image/jpeg", "data": "/9g="}
    assert [user({"type": "image", "source": source})] == sent


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"tool_choice": "auto"}, {"type": "auto"}, id="auto"),
        pytest.param(
            {"tool_choice": "required"},
            {"type": "any"},
            id="required",
            marks=pytest.mark.behaviour(47),
        ),
        pytest.param(
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"type": "tool", "name": "f"},
            id="one",
            marks=pytest.mark.behaviour(47),
        ),
        pytest.param(
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
            id="required, one at a time",
        ),
        pytest.param(
            {"parallel_tool_calls": False},
            {"type": "auto", "disable_parallel_tool_use": True},
            id="one at a time",
            marks=pytest.mark.behaviour(45),
        ),
        pytest.param({"parallel_tool_calls": True}, None, id="parallel"),
        pytest.param(
            {"tool_choice": "none", "parallel_tool_calls": False},
            {"type": "none"},
            id="none",
            marks=pytest.mark.behaviour(46),
        ),
    ],
)
def test_tool_choice(fields, expected):
    assert expected == body(tools=[TOOL], **fields).get("tool_choice")


@pytest.mark.behaviour(48, 49)
@pytest.mark.parametrize("tools", [{}, {"tools": []}, {"tools": None}], ids=str)
def test_tool_settings_without_tools_are_not_sent(tools):
    sent = body(tool_choice="auto", parallel_tool_calls=False, **tools)

    assert set() == {"tools", "tool_choice"} & set(sent)


@pytest.mark.behaviour(47)
def test_a_model_that_takes_no_force_is_offered_the_tool():
    asked = built(tools=[TOOL], tool_choice="required", model="claude-opus-5-5")

    assert {"type": "auto"} == asked.body["tool_choice"]
    assert ("tool_choice",) == asked.dropped


def test_allowed_tools_are_those_sent():
    other = {"type": "function", "function": {"name": "g"}}
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"function": {"name": "g"}}]},
    }
    sent = body(tools=[TOOL, other], tool_choice=choice)

    assert ["g"] == [tool["name"] for tool in sent["tools"]]
    assert {"type": "any"} == sent["tool_choice"]


def test_foreign_names_are_changed_and_found_again():
    dotted = {"type": "function", "function": {"name": "a.b"}}
    plain = {"type": "function", "function": {"name": "a_b", "description": ""}}
    asked = built(tools=[dotted, plain])

    none = {"type": "object", "properties": {}}
    assert [
        {"name": "a_b_2", "input_schema": none},
        {"name": "a_b", "input_schema": none},
    ] == asked.body["tools"]
    assert {"a_b_2": "a.b"} == asked.asked.tool_names


def test_custom_tools_take_their_text_wrapped():
    tool = {"type": "custom", "custom": {"name": "sql", "description": "Run"}}
    call = {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    asked = built(
        HELLO, {"role": "assistant", "tool_calls": [call]}, result("c"), HELLO, tools=[tool]
    )

    (sent,) = asked.body["tools"]
    assert ["input"] == sent["input_schema"]["required"]
    assert frozenset({"sql"}) == asked.asked.custom_tools
    assert {"input": "select 1"} == asked.body["messages"][1]["content"][0]["input"]


@pytest.mark.behaviour(61)
def test_strict_tools_lose_what_is_refused():
    parameters = {
        "type": "object",
        "properties": {"n": {"type": "string", "minLength": 2, "format": "uri"}},
    }
    strict = {
        "type": "function",
        "function": {"name": "f", "strict": True, "parameters": parameters},
    }
    (sent,) = body(tools=[strict])["tools"]
    (old,) = body(tools=[strict], model="claude-3-5-haiku")["tools"]

    cleaned = {"type": "string", "format": "uri", "description": "{minLength: 2}"}
    assert cleaned == sent["input_schema"]["properties"]["n"]
    assert (True, False) == (sent["strict"], sent["input_schema"]["additionalProperties"])
    assert parameters == old["input_schema"]
    assert "strict" not in old


@pytest.mark.parametrize(
    ("model", "fields", "sent", "dropped"),
    [
        pytest.param(
            SONNET,
            {"temperature": 1.7},
            {"temperature": 1.0},
            ("temperature",),
            id="too hot",
            marks=pytest.mark.behaviour(55),
        ),
        pytest.param(
            "claude-opus-5",
            {"temperature": 0.2, "top_p": 0.5, "top_k": 3},
            {},
            ("temperature", "top_p", "top_k"),
            id="no sampling",
            marks=pytest.mark.behaviour(55),
        ),
        pytest.param(
            SONNET,
            {"temperature": 0.2, "top_p": 0.5},
            {"temperature": 0.2},
            ("top_p",),
            id="one sampler",
        ),
        pytest.param(
            "claude-3-5-haiku-latest",
            {"temperature": 0.2, "top_p": 0.5, "top_k": 3},
            {"temperature": 0.2, "top_p": 0.5, "top_k": 3},
            (),
            id="all samplers",
        ),
        pytest.param(
            SONNET,
            {"stop": ["END", " \n"]},
            {"stop_sequences": ["END"]},
            ("stop",),
            id="a blank stop",
            marks=pytest.mark.behaviour(59),
        ),
        pytest.param(
            SONNET,
            {
                "n": 2,
                "seed": 1,
                "logit_bias": {"1": 5},
                "logprobs": True,
                "presence_penalty": 1,
                "frequency_penalty": 1,
                "verbosity": "low",
                "foo": 1,
            },
            {},
            (
                "n",
                "seed",
                "presence_penalty",
                "frequency_penalty",
                "logit_bias",
                "logprobs",
                "verbosity",
                "foo",
            ),
            id="no like here",
            marks=pytest.mark.behaviour(62, 63),
        ),
        pytest.param(
            SONNET,
            {"n": 1, "logprobs": False, "presence_penalty": 0, "logit_bias": {}, "store": False},
            {},
            (),
            id="said, and without effect",
        ),
        pytest.param(
            SONNET,
            {"max_tokens": 5, "max_completion_tokens": 7},
            {"max_tokens": 7},
            (),
            id="two bounds",
            marks=pytest.mark.behaviour(53),
        ),
        pytest.param(
            "a-server's-own",
            {},
            {"max_tokens": 4096},
            (),
            id="no bound",
            marks=pytest.mark.behaviour(53),
        ),
        pytest.param(SONNET, {"service_tier": "default"}, {"service_tier": "standard_only"}, ()),
        pytest.param(SONNET, {"service_tier": "flex"}, {}, ("service_tier",)),
        pytest.param(
            SONNET,
            {"user": "u", "safety_identifier": "s", "metadata": {"k": "v"}},
            {"metadata": {"user_id": "s"}},
            ("metadata",),
            marks=pytest.mark.behaviour(67),
        ),
        pytest.param(
            SONNET,
            {"user": "ann@example.com"},
            {"metadata": {"user_id": hashlib.sha256(b"ann@example.com").hexdigest()}},
            (),
            id="mail",
            marks=[pytest.mark.behaviour(67)],
        ),
        pytest.param(
            SONNET,
            {"thinking": {"type": "enabled", "budget_tokens": 2000}, "temperature": 0.5},
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            ("temperature",),
            id="own words",
            marks=pytest.mark.behaviour(64),
        ),
    ],
)
def test_settings(model, fields, sent, dropped):
    """What cannot be asked is left out and named; what has no effect is not worth a word."""
    asked = built(model=model, **fields)
    plain = {"model": model, "max_tokens": body(model=model)["max_tokens"]}

    assert {**plain, **sent} == {k: v for k, v in asked.body.items() if k != "messages"}
    assert dropped == asked.dropped


ADAPTIVE = {"thinking": {"type": "adaptive"}}


def budget(tokens):
    return {"thinking": {"type": "enabled", "budget_tokens": tokens}}


@pytest.mark.behaviour(56)
@pytest.mark.parametrize(
    ("model", "effort", "bound", "expected"),
    [
        (SONNET, "medium", None, {"max_tokens": 64_000, **budget(10_000)}),
        (SONNET, "max", None, {"max_tokens": 64_000, **budget(32_768)}),
        (SONNET, "high", 4_000, {"max_tokens": 4_000, **budget(3_000)}),
        (SONNET, "high", 500, {"max_tokens": 1_524, **budget(1_024)}),
        (SONNET, "high", 1_100, {"max_tokens": 1_100, **budget(1_024)}),
        (SONNET, "none", 500, {"max_tokens": 500}),
        (
            "claude-opus-4-5",
            "xhigh",
            9_000,
            {"max_tokens": 9_000, **budget(6_750), "output_config": {"effort": "high"}},
        ),
        (
            "claude-opus-4-6",
            "xhigh",
            500,
            {"max_tokens": 500, **ADAPTIVE, "output_config": {"effort": "high"}},
        ),
        (
            "claude-opus-4-8",
            "minimal",
            500,
            {"max_tokens": 500, **ADAPTIVE, "output_config": {"effort": "low"}},
        ),
        ("claude-opus-5", "none", 500, {"max_tokens": 500, "thinking": {"type": "disabled"}}),
        (
            "claude-sonnet-5-5",
            "none",
            500,
            {"max_tokens": 500, "thinking": {"type": "between_tools"}},
        ),
    ],
)
def test_effort(model, effort, bound, expected):
    """By a budget below the bound on output, or by a word; the caller's bound stays if it can."""
    asked = built(model=model, reasoning_effort=effort, max_completion_tokens=bound)

    assert expected == {k: v for k, v in asked.body.items() if k not in {"model", "messages"}}
    assert () == asked.dropped


@pytest.mark.parametrize(
    ("model", "sent"),
    [("claude-3-5-haiku-latest", {}), ("claude-fable-5", {"output_config": {"effort": "low"}})],
)
def test_effort_that_cannot_be_had_is_named(model, sent):
    wished = "none" if sent else "high"
    asked = built(model=model, reasoning_effort=wished, max_tokens=9)

    assert ("reasoning_effort",) == asked.dropped
    assert sent == {
        name: asked.body[name] for name in ("thinking", "output_config") if name in asked.body
    }


@pytest.mark.behaviour(57)
@pytest.mark.parametrize(
    ("model", "thinking"), [(SONNET, None), ("claude-sonnet-5", {"type": "disabled"})]
)
def test_a_forced_tool_goes_before_thinking(model, thinking):
    asked = built(model=model, reasoning_effort="high", tools=[TOOL], tool_choice="required")

    assert {"type": "any"} == asked.body["tool_choice"]
    assert thinking == asked.body.get("thinking")
    assert ("reasoning_effort",) == asked.dropped


def test_by_a_budget_it_thinks_on_only_with_its_thoughts():
    """Anthropic refuses a budget when the last calls stand without the thoughts before them."""
    bare = [HELLO, asks("a"), result("a")]

    assert ("reasoning_effort",) == built(*bare, tools=[TOOL], reasoning_effort="low").dropped
    assert () == built(*bare, HELLO, tools=[TOOL], model="claude-opus-4-6").dropped
    assert "thinking" in body(*bare, tools=[TOOL], reasoning_effort="low", model="claude-opus-4-6")


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_json_objects_are_asked_for_in_words(kind):
    sent = body({"role": "system", "content": "S"}, HELLO, response_format={"type": kind})

    assert sent["system"].startswith("S\n\nAnswer with one JSON object")
    assert "output_config" not in sent


SCHEMA = {"type": "json_schema", "json_schema": {"name": "f", "schema": {"type": "object"}}}


@pytest.mark.behaviour(60)
@pytest.mark.parametrize(
    ("choice", "names", "sent"),
    [
        (None, ["f", "f_2"], {"type": "any"}),
        ("none", ["f", "f_2"], {"type": "tool", "name": "f_2"}),
        ({"type": "function", "function": {"name": "f"}}, ["f"], {"type": "tool", "name": "f"}),
    ],
    ids=str,
)
def test_a_schema_beside_tools_on_an_older_model(choice, names, sent):
    asked = built(
        model="claude-3-5-haiku-latest", tools=[TOOL], response_format=SCHEMA, tool_choice=choice
    )

    assert names == [tool["name"] for tool in asked.body["tools"]]
    assert sent == asked.body["tool_choice"]
    assert asked.asked.json_tool == (names[1] if len(names) > 1 else None)


def marked(count, ttl="5m"):
    mark = {"type": "ephemeral", "ttl": ttl}
    return [
        {"type": "text", "text": f"t{number}", "cache_control": mark} for number in range(count)
    ]


@pytest.mark.behaviour(5)
def test_marked_instructions_stay_blocks():
    system = {"role": "system", "content": [*marked(1), {"type": "text", "text": "plain"}]}

    assert [
        text("t0", cache_control={"type": "ephemeral"}),
        text("plain"),
    ] == body(system, HELLO)["system"]


@pytest.mark.behaviour(66)
def test_at_most_four_marks_are_sent():
    """The first is kept, and the last three; blank text has none."""
    content = [*marked(6), {**marked(1)[0], "text": " "}]
    (turn,) = turns({"role": "user", "content": content})

    assert ["t0", "t3", "t4", "t5"] == [
        block["text"] for block in turn["content"] if "cache_control" in block
    ]


@pytest.mark.behaviour(66)
def test_a_mark_inside_a_result_stands_on_the_result():
    """Also on a part before the last."""
    content = [*marked(1), {"type": "text", "text": "and"}]
    *_, turn = turns(HELLO, asks("a"), result("a", content))
    (block,) = turn["content"]

    assert ({"type": "ephemeral"}, [text("t0"), text("and")]) == (
        block["cache_control"],
        block["content"],
    )


@pytest.mark.behaviour(66)
def test_marks_that_last_longer_come_first():
    system = {"role": "system", "content": marked(1)}
    sent = body(system, {"role": "user", "content": marked(1, "1h")})
    kept = body({**system, "content": marked(1, "1h")}, {"role": "user", "content": marked(1)})

    assert {"type": "ephemeral"} == sent["messages"][0]["content"][0]["cache_control"]
    assert {"type": "ephemeral", "ttl": "1h"} == kept["system"][0]["cache_control"]


def chat(*messages, model=SONNET, **fields):
    return ChatRequest(model=model, messages=messages, **fields)


WORDS = Message(role="user", parts=(TextPart(text="Hello"),))


def test_only_claudes_own_thoughts_go_back():
    """A signature of another's, or none, would be refused as forged."""
    thoughts = (
        Reasoning(text="mine", signature="s", dialect="anthropic"),
        Reasoning(signature="opaque", redacted=True, dialect="anthropic"),
        Reasoning(text="unsigned", dialect="anthropic"),
        Reasoning(text="another's", signature="s", dialect="gemini"),
    )
    said = Message(role="assistant", reasoning=thoughts, parts=(TextPart(text="Hi"),))

    sent = build_request(chat(WORDS, said, WORDS)).body["messages"]

    assert [
        {"type": "thinking", "thinking": "mine", "signature": "s"},
        {"type": "redacted_thinking", "data": "opaque"},
        text("Hi"),
    ] == sent[1]["content"]


def test_a_failed_tool_is_told_as_failed():
    call = ToolCall(id="a", name="f", arguments="{}")
    failed = Message(role="tool", tool_call_id="a", parts=(TextPart(text="no"),), is_error=True)
    *_, last = build_request(
        chat(WORDS, Message(role="assistant", tool_calls=(call,)), failed)
    ).body["messages"]

    assert [{**answer("a", "no"), "is_error": True}] == last["content"]


@pytest.mark.parametrize(
    ("wish", "sent"),
    [
        (Thinking(budget_tokens=3000), budget(3000)),
        (Thinking(enabled=True), budget(10_000)),
        (Thinking(enabled=False), {}),
    ],
)
def test_thinking_in_other_words(wish, sent):
    made = build_request(chat(WORDS, thinking=wish)).body

    assert sent == {name: made[name] for name in ("thinking",) if name in made}


@pytest.mark.parametrize(("wish", "shown"), [("auto", "summarized"), ("omitted", "omitted")])
def test_thoughts_are_shown_as_wished(wish, shown):
    made = build_request(chat(WORDS, thinking=Thinking(effort="high", summary=wish)))

    assert shown == made.body["thinking"]["display"]


def test_a_budget_is_a_word_where_there_are_no_budgets():
    made = build_request(chat(WORDS, thinking=Thinking(budget_tokens=9_000), model="claude-opus-5"))

    assert {"effort": "low"} == made.body["output_config"]


@pytest.mark.parametrize(
    ("tool", "dialect", "sent"),
    [
        (
            Tool(
                name="bash_20250124",
                kind="hosted",
                format={"type": "bash_20250124", "name": "bash"},
            ),
            "anthropic",
            {"type": "bash_20250124", "name": "bash"},
        ),
        (
            Tool(
                name="web_search",
                kind="hosted",
                format={"type": "web_search", "filters": {"allowed_domains": ["a.org"]}},
            ),
            "openai_responses",
            {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a.org"]},
        ),
    ],
    ids=["its own", "a search"],
)
def test_hosted_tools(tool, dialect, sent):
    assert [sent] == build_request(chat(WORDS, tools=(tool,), dialect=dialect)).body["tools"]


def test_a_tool_hosted_elsewhere_is_refused():
    tool = Tool(name="file_search", kind="hosted", format={"type": "file_search"})

    with pytest.raises(UnsupportedParameter, match="file_search"):
        build_request(chat(WORDS, tools=(tool,), dialect="openai_responses"))


def test_every_body_is_json():
    """Choices without a name and schemas without a type make no odd request."""
    made = build_request(
        chat(WORDS, tools=(Tool(name="f"),), tool_choice=ToolChoice(mode="named", name="f"))
    )

    assert {"type": "tool", "name": "f"} == json.loads(msgspec.json.encode(made.body))[
        "tool_choice"
    ]
