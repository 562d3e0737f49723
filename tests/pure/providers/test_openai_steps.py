"""What goes out to each vendor of OpenAI's dialect; answers stand in the golden cases."""

import contextlib
import json
import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.message import ImagePart, Message, TextPart, ToolCall
from shared.chat.request import ChatRequest
from shared.config.model import ProviderConfig
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.adapters.azure_openai import deployment_url
from shared.providers.adapters.mistral import nine_characters
from shared.providers.dialects.openai_draft import Draft, applied
from shared.providers.dialects.openai_models import family_of, nearest_effort
from shared.providers.dialects.openai_request import build_request
from shared.providers.dialects.openai_tools import NAME, shortened
from shared.providers.registry import adapter_for
from shared.providers.request import InferenceRequest, RequestHead
from shared.providers.target import Target

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def exchange(kind, fields, *, model="m", api_version=None, **target):
    raw = json.dumps({"model": "chat", "messages": HI, **fields}).encode()
    request = InferenceRequest(
        endpoint="/v1/chat/completions",
        dialect="openai",
        raw=raw,
        head=msgspec.json.decode(raw, type=RequestHead),
    )
    config = {"kind": kind, "base_url": "https://a.example/v1", "api_version": api_version}
    provider = msgspec.convert(config, ProviderConfig)
    named = Target(provider="p", model=model, **target)
    return adapter_for(kind).exchange(provider, "sk-1", request, named)


def sent(kind, fields, **how):
    """The body without what every question here has."""
    body = json.loads(exchange(kind, fields, **how).request.body)
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


def messages(kind, given, **how):
    return json.loads(exchange(kind, {"messages": given}, **how).request.body)["messages"]


@pytest.mark.parametrize(
    ("kind", "model", "fields", "expected"),
    [
        ("openai", "gpt-4o", {"max_tokens": 5, "temperature": 0.2}, None),
        ("openai", "gpt-5.1", {"temperature": 0.2}, None),
        ("openai", "gpt-5.1", {"temperature": 0.2, "reasoning_effort": "none"}, None),
        (
            "openai",
            "gpt-5.1",
            {"temperature": 0.2, "reasoning_effort": "low"},
            {"reasoning_effort": "low"},
        ),
        ("openai", "gpt-5-mini", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        (
            "openai",
            "o3",
            {"max_tokens": 5, "max_completion_tokens": 9, "stop": ["x"]},
            {"max_completion_tokens": 9},
        ),
        ("openai", "o1", {"stop": ["x"]}, None),
        ("openai", "ft:gpt-4o-mini:acme::1", {"reasoning_effort": "low"}, {}),
        ("openai", "gpt-5.2", {"reasoning_effort": "max"}, {"reasoning_effort": "xhigh"}),
        ("openai", "gpt-5", {"reasoning_effort": "none"}, None),
        ("openai", "gpt-4o", {"stop": list("abcde")}, {"stop": list("abcd")}),
        ("openai", "gpt-4o", {"top_k": 4, "thinking": {"type": "enabled"}, "foo": 1}, {"foo": 1}),
        ("vllm", "x", {"top_k": 4, "guided_json": {}, "seed": 1}, None),
        ("groq", "qwen/qwen3-32b", {"reasoning_effort": "high"}, {"reasoning_effort": "default"}),
        ("groq", "llama-3.3-70b", {"reasoning_effort": "high", "n": 1}, {}),
        ("xai", "grok-4", {"reasoning_effort": "low"}, {}),
        ("xai", "grok-4.5", {"reasoning_effort": "none"}, {"reasoning_effort": "low"}),
        ("xai", "grok-4.7", {"reasoning_effort": "max"}, {"reasoning_effort": "xhigh"}),
        ("xai", "grok-3-mini", {"reasoning_effort": "medium"}, {"reasoning_effort": "high"}),
        ("xai", "grok-4-fast-non-reasoning", {"stop": "x"}, None),
        ("mistral", "m", {"tool_choice": "required", "tools": [TOOL]}, {"tool_choice": "any", "tools": [TOOL]}),  # noqa: E501
        ("mistral", "magistral-medium", {"reasoning_effort": "low"}, {}),
        ("mistral", "m", {"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
        ("deepseek", "m", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            "deepseek",
            "m",
            {"tools": [TOOL], "tool_choice": "required"},
            {"tools": [TOOL], "tool_choice": "required", "thinking": {"type": "disabled"}},
        ),
        (
            "deepseek",
            "m",
            {"tools": [TOOL], "tool_choice": "required", "reasoning_effort": "high"},
            {"tools": [TOOL], "tool_choice": "auto", "thinking": {"type": "enabled"}},
        ),
        ("zai", "m", {"reasoning_effort": "low"}, {"thinking": {"type": "enabled"}}),
        ("together", "m", {"max_tokens": 4, "max_completion_tokens": 3}, {"max_tokens": 3}),
        ("openrouter", "m", {"provider": {"order": ["a"]}, "n": 2}, {"provider": {"order": ["a"]}}),
        ("azure_openai", "d", {"parallel_tool_calls": False}, {}),
    ],
)  # fmt: skip
def test_fields(kind, model, fields, expected):
    assert (fields if expected is None else expected) == sent(kind, fields, model=model)


@pytest.mark.behaviour(54, 62)
def test_the_operators_word_goes_before_what_is_known():
    """By `base_model`, `capabilities` and `params` of the target."""
    asked = {"max_tokens": 5, "temperature": 0.2, "seed": 3}

    assert {"max_completion_tokens": 5, "seed": 3} == sent(
        "azure_openai", asked, model="prod", base_model="gpt-5"
    )
    assert asked == sent(
        "openai",
        asked,
        model="gpt-5",
        capabilities={"max_tokens": True, "temperature": True},
    )
    assert {"max_tokens": 5, "temperature": 0.2} == sent(
        "vllm", asked, capabilities={"seed": False}
    )
    assert {"logit_bias": {"1": 1}} == sent("groq", {}, params={"logit_bias": {"1": 1}})


@pytest.mark.behaviour(62)
def test_what_was_dropped_is_known_by_the_callers_names():
    asked = {"n": 2, "logit_bias": {}, "logprobs": True, "metadata": {"a": "b"}}

    assert ("n", "logprobs", "metadata") == exchange("groq", asked).dropped
    with pytest.raises(UnsupportedParameter) as refused:
        exchange("groq", asked, unsupported="error")
    assert "n" == refused.value.param
    assert () == exchange("groq", {"n": 1, "logprobs": False}, unsupported="error").dropped


@pytest.mark.behaviour(62)
def test_old_azure_versions_are_not_asked_for_the_usage_of_streams():
    old = sent("azure_openai", {"stream": True}, api_version="2024-06-01")
    new = sent("azure_openai", {"stream": True}, api_version="2024-10-21")

    assert {"stream": True} == old
    assert {"include_usage": True} == new["stream_options"]


ROOT = "https://x.openai.azure.com"


@pytest.mark.parametrize(
    ("base_url", "version", "url"),
    [
        (ROOT, "2024-10-21", "/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21"),
        (f"{ROOT}/openai", "2024-10-21", "/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21"),  # noqa: E501
        (f"{ROOT}/openai/deployments/x", "2024-10-21", "/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21"),  # noqa: E501
        (ROOT, "", "/openai/v1/chat/completions"),
        (f"{ROOT}/", "v1", "/openai/v1/chat/completions"),
        (f"{ROOT}/openai/v1/", "", "/openai/v1/chat/completions"),
        (f"{ROOT}/openai/v1", "preview", "/openai/v1/chat/completions?api-version=preview"),
        (f"{ROOT}/models", "", "/models/chat/completions?api-version=2024-05-01-preview"),
    ],
)  # fmt: skip
def test_azures_addresses(base_url, version, url):
    assert ROOT + url == deployment_url(base_url, version, "/v1/chat/completions", "a/b")


def test_azure_takes_a_key_or_a_token():
    headers = exchange("azure_openai", {}).request.headers

    assert "sk-1" == headers["api-key"]
    assert "authorization" not in headers


SYSTEM = {"role": "system", "content": "A"}
LATE = [SYSTEM, *HI, {"role": "system", "content": "B"}, *HI]


@pytest.mark.behaviour(3)
@pytest.mark.parametrize("kind", ["vllm", "sglang", "llamacpp", "openai_compatible", "mistral"])
def test_a_late_system_message_is_tagged_where_templates_refuse_it(kind):
    tagged = {"role": "user", "content": "<system>\nB\n</system>"}

    assert [SYSTEM, *HI, tagged, *HI] == messages(kind, LATE)
    assert LATE == messages(kind, LATE, capabilities={"system_anywhere": True})


@pytest.mark.behaviour(3)
@pytest.mark.parametrize("kind", ["openai", "deepseek", "xai", "groq"])
def test_a_late_system_message_stays_where_it_is_taken(kind):
    assert LATE == messages(kind, LATE)


@pytest.mark.behaviour(4)
@pytest.mark.parametrize(
    "kind", ["vllm", "groq", "xai", "mistral", "deepseek", "openai_compatible"]
)
def test_developer_is_openais_own_word(kind):
    assert "system" == messages(kind, [{"role": "developer", "content": "A"}, *HI])[0]["role"]
    assert "developer" == messages("openai", [{"role": "developer", "content": "A"}])[0]["role"]


def called(*ids):
    return {
        "role": "assistant",
        "tool_calls": [
            {"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}}
            for one in ids
        ],
    }


def results(*ids):
    return [{"role": "tool", "tool_call_id": one, "content": "1"} for one in ids]


@pytest.mark.behaviour(30)
def test_mistrals_ids_are_the_same_on_both_sides():
    foreign = ["call_" + "a" * 30, "toolu_1", "abcdefgh9"]
    out = messages("mistral", [*HI, called(*foreign), *results(*foreign)])
    ids = [call["id"] for call in out[1]["tool_calls"]]

    assert ids == [message["tool_call_id"] for message in out[2:]]
    assert "abcdefgh9" == ids[2]
    assert all(
        len(one) == 9 and set(one) <= set(string.ascii_letters + string.digits) for one in ids
    )
    assert out == messages("mistral", [*HI, called(*foreign), *results(*foreign)])


@pytest.mark.behaviour(30)
def test_a_made_id_that_is_taken_is_made_again():
    taken = nine_characters("x" * 20, 0)
    out = messages("mistral", [*HI, called(taken, "x" * 20), *results(taken, "x" * 20)])

    assert [taken, nine_characters("x" * 20, 1)] == [call["id"] for call in out[1]["tool_calls"]]


def test_mistrals_turns():
    """An assistant after a tool, none that says nothing, thoughts in parts, a prefix at the end."""
    given = [
        *HI,
        called("abcdefgh1"),
        *results("abcdefgh1"),
        *HI,
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "b", "reasoning_content": "t"},
    ]
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}

    assert [
        *HI,
        called("abcdefgh1"),
        *results("abcdefgh1"),
        {"role": "assistant", "content": "OK."},
        *HI,
        {"role": "assistant", "content": [thinking, {"type": "text", "text": "b"}], "prefix": True},
    ] == messages("mistral", given)


@pytest.mark.behaviour(31)
def test_deepseek_gets_thoughts_back_only_while_it_thinks():
    given = [*HI, called("a"), *results("a")]
    off = {"messages": given, "thinking": {"type": "disabled"}}

    assert "" == messages("deepseek", given)[1]["reasoning_content"]
    assert given == json.loads(exchange("deepseek", off).request.body)["messages"]


def test_a_schema_becomes_words_for_deepseek():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = json.loads(exchange("deepseek", {"response_format": wanted}).request.body)

    assert {"type": "json_object"} == body["response_format"]
    assert json.dumps(schema, separators=(",", ":")) in body["messages"][0]["content"]


def test_the_word_json_stands_in_deepseeks_prompt():
    asked = {"response_format": {"type": "json_object"}}

    assert 2 == len(json.loads(exchange("deepseek", asked).request.body)["messages"])
    spoken = {**asked, "messages": [{"role": "user", "content": "as JSON"}]}
    assert 1 == len(json.loads(exchange("deepseek", spoken).request.body)["messages"])


def test_pictures_are_not_lost_in_silence():
    image = {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}

    with pytest.raises(UnsupportedParameter) as refused:
        messages("deepseek", [{"role": "user", "content": [image]}])
    assert "messages[0].content[0].type" == refused.value.param


def test_a_document_by_address_is_not_lost_in_silence():
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://a.example/a.pdf"}}

    with pytest.raises(UnsupportedParameter) as refused:
        messages("openai", [{"role": "user", "content": [file]}])
    assert "messages[0].content[0].file.file_data" == refused.value.param


@pytest.mark.behaviour(32)
@pytest.mark.parametrize("kind", ["xai", "groq", "mistral", "deepseek"])
def test_names_of_participants_are_taken_out(kind):
    assert HI == messages(kind, [{**HI[0], "name": "ann"}])


@pytest.mark.behaviour(65)
@pytest.mark.parametrize("kind", ["openai", "azure_openai"])
def test_cache_marks_and_other_vendors_fields_are_stripped(kind):
    mark = {"cache_control": {"type": "ephemeral"}}
    part = {"type": "text", "text": 'say "cache_control"'}
    assistant = called("a")
    assistant["tool_calls"][0]["extra_content"] = {"google": {"thought_signature": "s"}}
    given = [
        {"role": "user", "content": [{**part, **mark}]},
        {**assistant, "reasoning_content": "t", "reasoning_details": []},
        *results("a"),
    ]
    body = {"messages": given, "tools": [{**TOOL, **mark}]}
    out = json.loads(exchange(kind, body, model="gpt-4o").request.body)

    assert [{"role": "user", "content": [part]}, called("a"), *results("a")] == out["messages"]
    assert [TOOL] == out["tools"]


def test_ids_too_long_for_openai_are_shortened_on_both_sides():
    long = "chatcmpl-tool-" + "a" * 32
    out = messages("openai", [*HI, called(long), *results(long)], model="gpt-4o")

    assert out[1]["tool_calls"][0]["id"] == out[2]["tool_call_id"]
    assert len(out[2]["tool_call_id"]) <= 40


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("gpt-4o", False), ("gpt-4.1-mini", False), ("chatgpt-4o-latest", False),
        ("gpt-5-chat-latest", False), ("gpt-5", True), ("gpt-6-astra", True), ("o1-preview", True),
        ("o3-mini-2025-01-31", True), ("openai/o4-mini", True), ("prod-gpt-5-eu", True),
        ("foo3", False), ("my-model", False), ("gpt-oss-120b", False),
    ],
)  # fmt: skip
def test_families(model, reasons):
    assert reasons == family_of(model).reasons


@pytest.mark.parametrize(
    ("effort", "allowed", "nearest"),
    [
        ("minimal", ("none", "low", "high"), "low"),
        ("none", ("low", "high"), "low"),
        ("xhigh", ("low", "high"), "high"),
        ("medium", ("low", "high"), "high"),
        ("odd", ("low",), "odd"),
    ],
)
def test_the_nearest_effort(effort, allowed, nearest):
    assert nearest == nearest_effort(effort, allowed)


@given(names=st.sets(st.text(min_size=1, max_size=90), min_size=2, max_size=6))
def test_shortened_names_are_taken_by_all_and_stay_apart(names):
    made = {shortened(name) for name in names}

    assert len(names) == len(made)
    assert all(NAME.fullmatch(name) for name in made)


@pytest.mark.behaviour(42)
def test_pictures_from_tools_follow_as_a_users_message():
    chat = ChatRequest(
        model="m",
        dialect="anthropic",
        messages=(
            Message(role="assistant", tool_calls=(ToolCall(id="a", name="f", arguments="{}"),)),
            Message(
                role="tool",
                tool_call_id="a",
                parts=(TextPart(text="see"), ImagePart(url="data:image/png;base64,AA")),
            ),
            Message(role="user", parts=(TextPart(text="and?"),)),
        ),
        extra={"context_management": {}},
    )
    built = build_request(chat)
    roles = [message["role"] for message in built.body["messages"]]

    assert ["assistant", "tool", "user", "user"] == roles
    assert "see" == built.body["messages"][1]["content"]
    assert "image_url" == built.body["messages"][2]["content"][1]["type"]
    assert ("context_management",) == built.dropped


@pytest.mark.behaviour(48, 49)
@pytest.mark.parametrize("tools", [[], None])
def test_settings_of_tools_without_tools_are_not_sent(tools):
    asked = {"tools": tools, "tool_choice": "auto", "parallel_tool_calls": False}

    assert {} == sent("openai", asked)
    assert {} == applied(Draft(dict(asked), model="m"), adapter_for("groq").vendor.steps).body


WORDS = st.sampled_from(
    ("role", "content", "name", "type", "text", "tool_calls", "tool_call_id", "function", "id",
     "refusal", "reasoning_content", "reasoning", "cache_control", "index", "json_schema", "custom")
)  # fmt: skip
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(WORDS, x, max_size=4),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.dictionaries(WORDS, JUNK, max_size=4).flatmap(
        lambda junk: st.sampled_from(("system", "user", "assistant", "tool", "developer")).map(
            lambda role: {**junk, "role": role}
        )
    ),
    min_size=1,
    max_size=4,
)
FIELDS = st.fixed_dictionaries(
    {"messages": MESSAGES},
    optional={
        "tools": st.none() | st.lists(JUNK, max_size=2),
        "reasoning_effort": JUNK,
        "thinking": JUNK,
        "response_format": st.none() | st.dictionaries(WORDS, JUNK, max_size=2),
        "n": st.none() | st.integers(),
    },
)


@given(fields=FIELDS)
@pytest.mark.parametrize(
    "kind", ["openai", "azure_openai", "openai_compatible", "groq", "xai", "mistral", "deepseek"]
)
def test_no_nonsense_breaks_a_step(kind, fields):
    """It goes on, for the vendor to refuse, unless it is known that it would: by name, then."""
    with contextlib.suppress(InvalidRequest, UnsupportedParameter):
        exchange(kind, fields, model="gpt-5")


CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ],
}


def result(one):
    return {"role": "tool", "tool_call_id": one, "content": "x"}


@pytest.mark.behaviour(11)
@pytest.mark.parametrize("kind", ["openai", "openai_compatible", "groq", "mistral"])
@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ([*HI, CALLED], "c1"),
        ([*HI, CALLED, result("c1")], "c2"),
        ([*HI, CALLED, result("c1"), *HI, result("c2")], "c2"),
        ([*HI, result("c9")], "c9"),
        ([*HI, CALLED, result("c2"), result("c1"), result("c9")], "c9"),
    ],
)
def test_calls_and_results_belong_together(kind, given_, named):
    with pytest.raises(InvalidRequest, match=named):
        messages(kind, given_)


@pytest.mark.behaviour(11)
def test_results_come_in_any_order():
    given_ = [*HI, CALLED, result("c2"), result("c1"), CALLED, result("c1"), result("c2"), *HI]
    assert given_ == messages("openai", given_)


def picture(url):
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


@pytest.mark.behaviour(43)
@pytest.mark.parametrize("kind", ["openai", "openai_compatible", "azure_openai", "xai"])
@pytest.mark.parametrize(
    "url",
    [
        "data:image/png",
        "data:image/png;base64,@@@",
        "data:foo/bar;base64,AAAA",
        "data:image/png;base64," + "A" * 9000 + "!",
    ],
)
def test_pictures_that_are_none_are_refused(kind, url):
    with pytest.raises(InvalidRequest) as refused:
        messages(kind, picture(url))
    assert "messages[0].content[0].image_url" == refused.value.param


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/data:x",
        "data:image/png;base64,AA/+AA==",
        "data:image/jpg;base64," + "A" * 9000,
        "data:image/svg+xml,%3Csvg/%3E",
        "data:image/png;base64,AA\nAA",
    ],
)
def test_pictures_go_on_as_they_came(url):
    assert picture(url) == messages("openai", picture(url))
