"""Questions in Bedrock's words: whatever callers say, the service would take it."""

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.message import (
    AudioPart,
    CacheMark,
    FilePart,
    ImagePart,
    Message,
    Reasoning,
    TextPart,
    ToolCall,
)
from shared.chat.request import (
    ChatRequest,
    ResponseFormat,
    Sampling,
    Thinking,
    Tool,
    ToolChoice,
)
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.bedrock_request import build_request
from shared.providers.dialects.openai_served import parse_request
from shared.providers.request import FetchedFile
from tests.fakes.vendors.bedrock import REDACTED, SIGNATURE, refusal

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
CLAUDE_NEW = "global.anthropic.claude-opus-5-5-v1:0"
CLAUDE_OLD = "anthropic.claude-3-7-sonnet-20250219-v1:0"
NOVA = "us.amazon.nova-pro-v1:0"
LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
GPT_OSS = "openai.gpt-oss-120b-1:0"
TITAN = "amazon.titan-text-express-v1"
MISTRAL = "mistral.mistral-large-2407-v1:0"

PNG = b"\x89PNG\r\n\x1a\n0"
PNG_URL = "data:image/jpg;base64," + base64.b64encode(PNG).decode()
PDF_URL = "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.4").decode()
WEATHER = Tool(name="get_weather", description="Weather now", parameters={"type": "object"})
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}


def text(role, words, **fields):
    parts = (TextPart(text=words),) if words is not None else ()
    return Message(role=role, parts=parts, **fields)


def call(id_="call_1", name="get_weather", arguments='{"city":"Paris"}', **fields):
    return ToolCall(id=id_, name=name, arguments=arguments, **fields)


def ask(*messages, model=CLAUDE, **fields):
    """Build the question; it must be one that Bedrock takes."""
    built = build_request(ChatRequest(model=model, messages=messages, **fields))
    assert None is refusal(model, json.loads(json.dumps(built.body)))
    return built


def turns(built):
    return [(turn["role"], turn["content"]) for turn in built.body["messages"]]


@pytest.mark.behaviour(2)
def test_leading_instructions_are_one_system_field():
    built = ask(text("system", "One."), text("developer", "Two."), text("user", "Hi"))

    assert [{"text": "One."}, {"text": "Two."}] == built.body["system"]
    assert [("user", [{"text": "Hi"}])] == turns(built)


@pytest.mark.behaviour(3)
def test_instructions_in_mid_conversation_keep_their_place():
    built = ask(text("user", "Hi"), text("assistant", "Yes?"), text("system", "Be brief."))

    assert ("user", [{"text": "<system>\nBe brief.\n</system>"}]) == turns(built)[-1]


def test_a_model_without_system_texts_reads_them_first():
    built = ask(text("system", "Be brief."), text("user", "Hi"), model=TITAN)

    assert "system" not in built.body
    assert [("user", [{"text": "Be brief."}, {"text": "Hi"}])] == turns(built)


@pytest.mark.behaviour(6)
def test_messages_of_one_role_are_one_turn():
    built = ask(text("user", "One"), text("user", "Two"), text("assistant", "a"),
                text("assistant", "b"), text("user", "Three"))  # fmt: skip

    assert [
        ("user", [{"text": "One"}, {"text": "Two"}]),
        ("assistant", [{"text": "a"}, {"text": "b"}]),
        ("user", [{"text": "Three"}]),
    ] == turns(built)


@pytest.mark.behaviour(12, 13)
def test_blank_texts_are_left_out_or_said_as_a_point():
    called = text("assistant", "", tool_calls=(call(),))
    built = ask(text("user", " \n"), called, text("tool", "", tool_call_id="call_1"),
                tools=(WEATHER,))  # fmt: skip

    assert [{"text": "."}] == turns(built)[0][1]
    assert ["toolUse"] == [*turns(built)[1][1][0]]
    assert [{"text": "."}] == turns(built)[2][1][0]["toolResult"]["content"]


def test_a_blank_turn_between_answers_keeps_them_apart():
    built = ask(text("user", "Hi"), text("assistant", "a"), text("user", " "),
                text("assistant", "b"), text("user", "c"))  # fmt: skip

    assert ["user", "assistant", "user", "assistant", "user"] == [role for role, _ in turns(built)]


@pytest.mark.parametrize(("model", "last"), [(CLAUDE, "assistant"), (NOVA, "user")])
def test_an_answer_to_continue_ends_without_blanks_or_in_a_silent_turn(model, last):
    built = ask(text("user", "Hi"), text("assistant", "It is "), model=model)

    assert last == turns(built)[-1][0]
    assert {"text": "It is"} == turns(built)[1][1][0]


def test_a_history_that_begins_with_an_answer_gets_a_question():
    assert ("user", [{"text": "."}]) == turns(ask(text("assistant", "Hi"), text("user", "x")))[0]


RESULTS = (
    text("assistant", "Looking", tool_calls=(call("a"), call("b", name="find"))),
    text("tool", "two", tool_call_id="b"),
    text("tool", '{"one": 1}', tool_call_id="a", is_error=True),
    text("user", "And?"),
)


def test_results_stand_first_and_in_the_order_of_their_calls():
    _, called, answered = turns(ask(text("user", "Hi"), *RESULTS, tools=(WEATHER,)))

    assert ["text", "toolUse", "toolUse"] == [next(iter(block)) for block in called[1]]
    assert [
        {"toolResult": {"toolUseId": "a", "content": [{"text": '{"one": 1}'}], "status": "error"}},
        {"toolResult": {"toolUseId": "b", "content": [{"text": "two"}], "status": "success"}},
        {"text": "And?"},
    ] == answered[1]


def test_some_families_want_results_alone_and_as_json():
    built = ask(text("user", "Hi"), *RESULTS, tools=(WEATHER,), model=MISTRAL)

    assert [
        ["text"], ["text", "toolUse", "toolUse"], ["toolResult", "toolResult"], ["text"], ["text"],
    ] == [[next(iter(block)) for block in content] for _, content in turns(built)]  # fmt: skip
    assert [{"json": {"one": 1}}] == turns(built)[2][1][0]["toolResult"]["content"]


@pytest.mark.behaviour(11)
@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ((text("assistant", None, tool_calls=(call("call_9"),)), text("user", "x")), "call_9"),
        ((text("assistant", None, tool_calls=(call("call_9"),)),), "call_9"),
        ((text("user", "x"), text("tool", "y", tool_call_id="call_7")), "call_7"),
    ],
)
def test_calls_and_results_belong_together(messages, named):
    with pytest.raises(InvalidRequest, match=named):
        ask(*messages, tools=(WEATHER,))


@pytest.mark.behaviour(16, 17)
@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ("", {}),
        ('{"a":1}', {"a": 1}),
        ('["x"]', {"input": ["x"]}),
        ('{"a":', {"input": '{"a":'}),
    ],
)
def test_arguments_are_an_object_whatever_they_were(arguments, sent):
    spoken = text("assistant", None, tool_calls=(call("a", arguments=arguments),))
    result = text("tool", "x", tool_call_id="a")
    built = ask(text("user", "Hi"), spoken, result, tools=(WEATHER,))

    assert sent == turns(built)[1][1][0]["toolUse"]["input"]


@pytest.mark.behaviour(23, 24)
@pytest.mark.parametrize("model", [CLAUDE, NOVA])
@pytest.mark.parametrize(
    "fields", [{}, {"tools": (WEATHER,), "tool_choice": ToolChoice(mode="none")}], ids=str
)
def test_a_history_with_calls_declares_its_tools_and_forbids_them(model, fields):
    built = ask(text("user", "Hi"), *RESULTS, model=model, **fields)

    names = [tool["toolSpec"]["name"] for tool in built.body["toolConfig"]["tools"]]
    assert ["get_weather", "find"] == names
    forbidden = (
        built.body["additionalModelRequestFields"]["tool_choice"]["type"]
        if model == CLAUDE
        else built.body["system"][0]["text"]
    )
    assert forbidden in {"none", "Do not call any tool; answer in words."}


@pytest.mark.behaviour(48, 49)
def test_without_tools_nothing_is_said_of_them():
    choice = ToolChoice(mode="required")
    built = ask(text("user", "Hi"), tool_choice=choice, parallel_tool_calls=False)

    assert {"messages"} == set(built.body)


@pytest.mark.behaviour(25, 26, 27)
def test_ids_and_names_are_fitted_alike_and_given_back():
    long = "a" * 70
    odd = call("über/1" + "x" * 70, name="$READ")
    built = ask(text("user", "Hi"), text("assistant", None, tool_calls=(odd,)),
                text("tool", "x", tool_call_id=odd.id),
                tools=(Tool(name=long + "1"), Tool(name=long + "2")))  # fmt: skip

    sent = turns(built)[1][1][0]["toolUse"]
    assert sent["toolUseId"] == turns(built)[2][1][0]["toolResult"]["toolUseId"]
    names = [tool["toolSpec"]["name"] for tool in built.body["toolConfig"]["tools"]]
    assert [long + "1", long + "2"] == [built.asked.tool_names[name] for name in names]
    assert "$READ" == built.asked.tool_names[sent["name"]]


@pytest.mark.behaviour(28)
@pytest.mark.parametrize("description", [None, "", " "])
def test_a_tool_without_description_has_none(description):
    built = ask(text("user", "Hi"), tools=(Tool(name="f", description=description),))

    schema = {"json": {"type": "object", "properties": {}}}
    spec = {"name": "f", "inputSchema": schema}
    assert {"tools": [{"toolSpec": spec}]} == built.body["toolConfig"]


@pytest.mark.parametrize(
    ("model", "choice", "sent", "dropped"),
    [
        (CLAUDE, ToolChoice(mode="auto"), None, ()),
        (CLAUDE, ToolChoice(mode="required"), {"any": {}}, ()),
        (NOVA, ToolChoice(mode="named", name="get_weather"), {"tool": {"name": "get_weather"}}, ()),
        (LLAMA, ToolChoice(mode="required"), None, ("tool_choice",)),
        (CLAUDE_NEW, ToolChoice(mode="required"), None, ("tool_choice",)),
    ],
)
def test_a_choice_is_made_where_the_model_takes_one(model, choice, sent, dropped):
    built = ask(text("user", "Hi"), tools=(WEATHER,), tool_choice=choice, model=model)

    assert sent == built.body["toolConfig"].get("toolChoice")
    assert dropped == built.dropped


def test_one_call_at_a_time_is_anthropics_own_word():
    built = ask(text("user", "Hi"), tools=(WEATHER,), parallel_tool_calls=False)
    other = ask(text("user", "Hi"), tools=(WEATHER,), parallel_tool_calls=False, model=NOVA)

    native = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    assert native == built.body["additionalModelRequestFields"]
    assert ("parallel_tool_calls",) == other.dropped


@pytest.mark.behaviour(60)
@pytest.mark.parametrize(
    ("model", "way"), [(CLAUDE, "native"), (NOVA, "tool"), (LLAMA, "words"), (GPT_OSS, "native")]
)
def test_a_schema_binds_the_answer(model, way):
    wanted = ResponseFormat(kind="json_schema", name="n", schema=SCHEMA)
    built = ask(text("user", "Hi"), response_format=wanted, model=model)

    if way == "native":
        form = built.body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
        assert "object" == json.loads(form["schema"])["type"]
        assert '"minimum"' not in form["schema"] or model == GPT_OSS
    elif way == "tool":
        name = built.asked.json_tool
        assert {"tool": {"name": name}} == built.body["toolConfig"]["toolChoice"]
    else:
        assert "JSON Schema" in built.body["system"][0]["text"]
    assert (("response_format",) if way == "words" else ()) == built.dropped


@pytest.mark.behaviour(38)
def test_pictures_are_bytes_and_of_a_format_that_there_is():
    message = Message(role="user", parts=(ImagePart(url=PNG_URL),))

    source = {"bytes": base64.b64encode(PNG).decode()}
    block = {"image": {"format": "jpeg", "source": source}}
    assert [("user", [block])] == turns(ask(message))


@pytest.mark.behaviour(36)
def test_fetched_pictures_are_sent_as_bytes():
    url = "https://x.example/a.png"
    chat = ChatRequest(model=NOVA, messages=(Message(role="user", parts=(ImagePart(url=url),)),))
    built = build_request(chat, {url: FetchedFile(media_type="image/png", content=PNG)})

    source = {"bytes": base64.b64encode(PNG).decode()}
    assert [{"image": {"format": "png", "source": source}}] == turns(built)[0][1]


@pytest.mark.behaviour(29, 40)
def test_documents_have_clean_names_of_their_own_and_a_text_beside_them():
    named = ("a.b/c.pdf", "a.b/c.pdf", None)
    parts = tuple(FilePart(filename=name, data_url=PDF_URL) for name in named)
    content = turns(ask(Message(role="user", parts=parts)))[0][1]

    names = [block["document"]["name"] for block in content if "document" in block]
    assert ["c pdf", "c pdf (2)", "document"] == names
    assert {"text": "."} == content[-1]


@pytest.mark.behaviour(41, 43)
@pytest.mark.parametrize(
    ("part", "error"),
    [
        (ImagePart(url="data:image/png;base64,@@"), InvalidRequest),
        (ImagePart(url="data:image/tiff;base64,AAAA"), UnsupportedParameter),
        (ImagePart(url="ftp://x/y"), UnsupportedParameter),
        (ImagePart(url="s3://bucket/secret.png"), UnsupportedParameter),
        (AudioPart(data="AAAA", format="wav"), UnsupportedParameter),
        (FilePart(file_id="file-1"), UnsupportedParameter),
        (FilePart(data_url="data:application/zip;base64,AAAA"), UnsupportedParameter),
    ],
    ids=str,
)
def test_what_cannot_be_sent_is_refused_with_its_place(part, error):
    with pytest.raises(error) as caught:
        ask(Message(role="user", parts=(TextPart(text="x"), part)))

    assert "messages[0]" == caught.value.param


@pytest.mark.behaviour(42)
@pytest.mark.parametrize(("model", "inside"), [(CLAUDE, True), (LLAMA, False)])
def test_pictures_in_results_are_shown_in_or_behind_them(model, inside):
    result = Message(
        role="tool", tool_call_id="a", parts=(TextPart(text="x"), ImagePart(url=PNG_URL))
    )
    built = ask(text("user", "Hi"), text("assistant", None, tool_calls=(call("a"),)), result,
                tools=(WEATHER,), model=model)  # fmt: skip

    content = next(one["toolResult"] for one in turns(built)[2][1] if "toolResult" in one)[
        "content"
    ]
    assert inside is any("image" in block for block in content)
    assert inside is not any("image" in block for _, turn in turns(built) for block in turn)


@pytest.mark.behaviour(66)
def test_at_most_four_cache_marks_and_the_longer_ones_first():
    hour, short = CacheMark(ttl="1h"), CacheMark()
    marked = tuple(TextPart(text=f"{n}", cache=hour if n == 3 else short) for n in range(4))
    blank = TextPart(text=" ", cache=short)
    built = ask(
        Message(role="system", parts=(TextPart(text="s", cache=short),)),
        Message(role="user", parts=(*marked, blank)),
        tools=(msgspec.structs.replace(WEATHER, cache=hour),),
    )

    told = json.dumps(built.body)
    assert 4 == told.count("cachePoint")
    assert 1 == told.count('"1h"')
    assert "1h" == built.body["toolConfig"]["tools"][1]["cachePoint"]["ttl"]
    assert [{"text": "s"}] == built.body["system"]


def test_marks_are_left_out_where_nothing_is_cached():
    message = Message(role="user", parts=(TextPart(text="x", cache=CacheMark()),))

    assert [("user", [{"text": "x"}])] == turns(ask(message, model=LLAMA))


@pytest.mark.behaviour(55, 59, 62)
def test_settings_are_fitted_and_what_there_is_not_is_named():
    sampling = Sampling(
        temperature=1.7, top_p=0.5, top_k=5, max_output_tokens=9, stop=("x", " "), seed=1,
        presence_penalty=0.5, frequency_penalty=0.0, logit_bias={"1": 2}, logprobs=True, n=2,
    )  # fmt: skip
    built = ask(text("user", "Hi"), sampling=sampling, model=NOVA)

    assert {
        "temperature": 1.0, "topP": 0.5, "maxTokens": 9, "stopSequences": ["x"],
    } == built.body["inferenceConfig"]  # fmt: skip
    assert {"inferenceConfig": {"topK": 5}} == built.body["additionalModelRequestFields"]
    assert (
        "temperature", "stop", "n", "seed", "presence_penalty", "logit_bias", "logprobs",
    ) == built.dropped  # fmt: skip


def test_settings_that_a_model_refuses_are_not_sent():
    sampling = Sampling(temperature=0.5, top_p=0.5, top_k=5)

    assert ("temperature", "top_p", "top_k") == ask(
        text("user", "Hi"), sampling=sampling, model=CLAUDE_NEW
    ).dropped
    assert ("top_p",) == ask(text("user", "Hi"), sampling=sampling).dropped


@pytest.mark.behaviour(56, 57)
@pytest.mark.parametrize(
    ("model", "fields", "inference"),
    [
        (CLAUDE_OLD, {"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"maxTokens": 8000}),
        (
            CLAUDE_NEW,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            {"maxTokens": 8000},
        ),
        (
            "us.amazon.nova-2-lite-v1:0",
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
            {"maxTokens": 8000},
        ),
        (GPT_OSS, {"reasoning_effort": "low"}, {"maxTokens": 8000}),
        (LLAMA, None, {"maxTokens": 8000}),
    ],
)
def test_thinking_is_asked_for_in_each_familys_way(model, fields, inference):
    built = ask(
        text("user", "Hi"),
        thinking=Thinking(effort="low"),
        sampling=Sampling(max_output_tokens=8000),
        model=model,
    )

    assert fields == built.body.get("additionalModelRequestFields")
    assert inference == built.body["inferenceConfig"]
    assert (() if fields else ("reasoning_effort",)) == built.dropped


def test_a_forced_tool_goes_before_thinking():
    built = ask(text("user", "Hi"), thinking=Thinking(effort="high"), tools=(WEATHER,),
                tool_choice=ToolChoice(mode="required"))  # fmt: skip

    assert ("reasoning_effort",) == built.dropped
    assert "additionalModelRequestFields" not in built.body


@pytest.mark.behaviour(87, 88)
def test_claudes_own_proofs_go_back_and_nobody_elses():
    thoughts = (
        Reasoning(text="hm", signature=SIGNATURE, dialect="anthropic"),
        Reasoning(signature=REDACTED, redacted=True, dialect="anthropic"),
        Reasoning(text="forged"),
        Reasoning(text="other", signature="s", dialect="gemini"),
    )
    spoken = text("assistant", "So", reasoning=thoughts)

    content = turns(ask(text("user", "Hi"), spoken, text("user", "x")))[1][1]
    assert [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": SIGNATURE}}},
        {"reasoningContent": {"redactedContent": base64.b64encode(REDACTED.encode()).decode()}},
        {"text": "So"},
    ] == content
    other = turns(ask(text("user", "Hi"), spoken, text("user", "x"), model=GPT_OSS))[1][1]
    assert [{"text": "So"}] == other


@pytest.mark.behaviour(64, 67)
def test_fields_of_the_account_and_of_the_service_are_passed_on():
    extra = {
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
        "thinking": {"type": "disabled"},
        "store": False,
        "foo": 1,
    }
    built = ask(text("user", "Hi"), extra=extra, metadata={"team": "a"}, service_tier="flex",
                user="u")  # fmt: skip

    assert {"team": "a"} == built.body["requestMetadata"]
    assert {"type": "flex"} == built.body["serviceTier"]
    assert extra["guardrailConfig"] == built.body["guardrailConfig"]
    assert {"thinking": {"type": "disabled"}} == built.body["additionalModelRequestFields"]
    assert ("foo",) == built.dropped


def test_tools_of_free_text_take_it_as_their_one_argument():
    custom = Tool(name="sh", kind="custom")
    spoken = text("assistant", None, tool_calls=(call("a", "sh", "ls", kind="custom"),))
    built = ask(text("user", "Hi"), spoken, text("tool", "x", tool_call_id="a"), tools=(custom,))

    assert {"input": "ls"} == turns(built)[1][1][0]["toolUse"]["input"]
    assert {"sh"} == built.asked.custom_tools


WORDS = st.one_of(st.none(), st.text(max_size=3))
USERS = st.builds(lambda words: text("user", words), WORDS)
SYSTEMS = st.builds(lambda words: text("system", words), WORDS)
SAYINGS = st.builds(lambda words: [text("assistant", words)], WORDS)
CALLINGS = st.builds(
    lambda words, ids: [
        text("assistant", words, tool_calls=tuple(call(one, name=one) for one in ids)),
        *(text("tool", words, tool_call_id=one) for one in reversed(ids)),
    ],
    WORDS,
    st.lists(st.text(max_size=70), min_size=1, max_size=3, unique=True),
)
TALKS = st.lists(
    st.one_of(USERS.map(lambda one: [one]), SYSTEMS.map(lambda one: [one]), SAYINGS, CALLINGS),
    max_size=6,
)


@given(
    talk=TALKS,
    model=st.sampled_from([CLAUDE, NOVA, LLAMA, MISTRAL, TITAN]),
    fields=st.sampled_from(
        [{}, {"tools": (WEATHER,)}, {"response_format": ResponseFormat(kind="json_object")}]
    ),
)
def test_bedrock_takes_any_talk_whose_calls_are_answered(talk, model, fields):
    ask(*(message for part in talk for message in part), model=model, **fields)


@pytest.mark.behaviour(34)
def test_a_callers_body_becomes_a_question():
    """From OpenAI's words; signs of all kinds stay as they are."""
    sign = "\U0001f600\u202e\u0000 \u00e9"
    raw = json.dumps({"model": CLAUDE, "messages": [{"role": "user", "content": sign}]}).encode()

    assert [("user", [{"text": sign}])] == turns(build_request(parse_request(raw)))


@pytest.mark.behaviour(172)
@pytest.mark.parametrize(("beta", "dropped"), [({}, True), ({"anthropic_beta": ["b"]}, False)])
def test_what_is_in_beta_goes_on_beside_the_betas_name(beta, dropped):
    """Claude Code asks for it in a header that ends here; the service would refuse it alone."""
    edits = {"context_management": {"edits": []}}
    built = ask(text("user", "Hi"), dialect="anthropic", extra={**edits, **beta})

    assert (("context_management",) if dropped else ()) == built.dropped
    fields = built.body.get("additionalModelRequestFields", {})
    assert ({} if dropped else {**edits, **beta}) == fields


@pytest.mark.behaviour(25)
def test_ids_that_come_again_in_another_turn_are_told_apart():
    turn = text("assistant", None, tool_calls=(call("a"), call("b")))
    results = text("tool", "2", tool_call_id="b"), text("tool", "1", tool_call_id="a")
    built = ask(text("user", "Hi"), turn, *results, turn, *results, tools=(WEATHER,))
    blocks = [block for _, content in turns(built) for block in content]
    called = [block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block]
    answered = [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block]

    assert (4, called) == (len(set(called)), answered)
    assert ["a", "b"] == called[:2]


@pytest.mark.behaviour(11)
def test_two_calls_of_one_turn_cannot_share_an_id():
    with pytest.raises(InvalidRequest) as caught:
        ask(text("user", "Hi"), text("assistant", None, tool_calls=(call(), call())))

    assert "messages[1].tool_calls[1]" == caught.value.param
