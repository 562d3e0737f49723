"""What is asked of Gemini: tools, thinking, sampling, formats, and what is left out."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.message import Message, ToolCall
from shared.chat.request import ResponseFormat, Sampling, Thinking, Tool, ToolChoice
from tests.pure.providers.gemini_questions import answered, built, calling, config, said


def declared(parameters, **how):
    tool = Tool(name="f", parameters=parameters)
    return built(tools=(tool,), **how).body["tools"][0]["functionDeclarations"][0]


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        pytest.param(None, None, marks=pytest.mark.behaviour(52)),
        pytest.param({}, None, marks=pytest.mark.behaviour(52)),
        pytest.param({"type": "object"}, None, marks=pytest.mark.behaviour(52)),
        ({"type": "object", "properties": {}}, {"type": "object", "properties": {}}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        pytest.param(
            {
                "$schema": "s",
                "type": "object",
                "properties": {"a": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}},
                "$defs": {"A": {"const": 1}},
                "additionalProperties": False,
            },
            {
                "$schema": "s",
                "type": "object",
                "properties": {"a": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}},
                "$defs": {"A": {"const": 1}},
                "additionalProperties": False,
            },
            marks=pytest.mark.behaviour(51),
        ),
    ],
)
def test_schemas_of_tools(parameters, sent):
    assert sent == declared(parameters).get("parametersJsonSchema")


@pytest.mark.parametrize("name", ["9lives", "a b", "$READ", "ä", "x" * 200, "", "mcp__tool/x"])
def test_odd_tool_names_are_made_fit_and_known_again(name):
    found = built(
        said("user"), calling(("a", name)), answered("a"), tools=(Tool(name=name), Tool(name="f"))
    )
    sent, plain = (one["name"] for one in found.body["tools"][0]["functionDeclarations"])

    assert "f" == plain
    assert len(sent) <= 64
    assert {sent: name} == found.asked.tool_names
    assert sent == found.body["contents"][1]["parts"][0]["functionCall"]["name"]


@given(names=st.lists(st.text(max_size=80), unique=True, max_size=6))
def test_no_two_tool_names_become_one(names):
    found = built(tools=tuple(Tool(name=name) for name in names))
    tools = found.body.get("tools", [{"functionDeclarations": []}])
    sent = [one["name"] for one in tools[0]["functionDeclarations"]]

    assert len(names) == len(set(sent))


F, G = Tool(name="f"), Tool(name="g")
CHOICES = [
    (ToolChoice(mode="auto"), {"mode": "AUTO"}),
    (ToolChoice(mode="none"), {"mode": "NONE"}),
    (ToolChoice(mode="required"), {"mode": "ANY"}),
    (ToolChoice(mode="named", name="g"), {"mode": "ANY", "allowedFunctionNames": ["g"]}),
    (
        ToolChoice(mode="required", allowed=("f",)),
        {"mode": "ANY", "allowedFunctionNames": ["f"]},
    ),
]


@pytest.mark.behaviour(50)
@pytest.mark.parametrize(("choice", "calling_config"), CHOICES)
def test_tool_choice(choice, calling_config):
    body = built(tools=(F, G), tool_choice=choice).body

    assert {"functionCallingConfig": calling_config} == body["toolConfig"]


@pytest.mark.behaviour(48, 50)
@pytest.mark.parametrize("choice", [choice for choice, _ in CHOICES])
def test_no_tool_choice_without_tools(choice):
    found = built(tool_choice=choice, parallel_tool_calls=False)

    assert {"contents"} == found.body.keys()
    assert () == found.dropped


def test_allowed_under_auto_are_all_there_are():
    """Only the mode ANY takes names."""
    body = built(tools=(F, G), tool_choice=ToolChoice(mode="auto", allowed=("g",))).body

    assert [{"functionDeclarations": [{"name": "g"}]}] == body["tools"]
    assert {"mode": "AUTO"} == body["toolConfig"]["functionCallingConfig"]


def test_a_custom_tool_takes_its_text_in_an_object():
    tool = Tool(name="shell", kind="custom", format={"type": "text"})
    call = ToolCall(id="a", name="shell", arguments="ls", kind="custom")
    found = built(
        said("user"), Message(role="assistant", tool_calls=(call,)), answered("a"), tools=(tool,)
    )

    assert {"shell"} == found.asked.custom_tools
    assert {"input": "ls"} == found.body["contents"][1]["parts"][0]["functionCall"]["args"]


HOSTED = Tool(name="web_search_20250305", kind="hosted")


@pytest.mark.parametrize(
    ("model", "tools", "sent", "dropped"),
    [
        ("gemini-2.5-flash", (HOSTED,), [{"googleSearch": {}}], ()),
        ("gemini-2.5-flash", (F, HOSTED), [{"functionDeclarations": [{"name": "f"}]}], ("tools",)),
        (
            "gemini-3-flash",
            (F, HOSTED),
            [{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}],
            (),
        ),
        ("gemini-3-flash", (Tool(name="computer_1", kind="hosted"),), None, ("tools",)),
    ],
)
def test_hosted_tools(model, tools, sent, dropped):
    found = built(model=model, tools=tools)

    assert sent == found.body.get("tools")
    assert dropped == found.dropped


THINKING = [
    ("gemini-3-flash", Thinking(effort="low"), {"thinkingLevel": "LOW"}),
    ("gemini-3-flash", Thinking(effort="none"), {"thinkingLevel": "MINIMAL"}),
    ("gemini-3-pro-preview", Thinking(effort="minimal"), {"thinkingLevel": "LOW"}),
    ("gemini-3-pro-preview", Thinking(effort="medium"), {"thinkingLevel": "HIGH"}),
    ("gemini-3.1-pro", Thinking(effort="medium"), {"thinkingLevel": "MEDIUM"}),
    ("gemini-3-flash", Thinking(effort="xhigh"), {"thinkingLevel": "HIGH"}),
    ("gemini-3-flash", Thinking(budget_tokens=8_000, enabled=True), {"thinkingLevel": "MEDIUM"}),
    ("gemini-pro-latest", Thinking(effort="high"), {"thinkingLevel": "HIGH"}),
    ("models/gemini-2.5-flash", Thinking(effort="medium"), {"thinkingBudget": 8_192}),
    ("gemini-2.5-flash", Thinking(effort="none"), {"thinkingBudget": 0}),
    ("gemini-2.5-pro", Thinking(enabled=False), {"thinkingBudget": 128}),
    ("gemini-2.5-pro", Thinking(effort="max"), {"thinkingBudget": 32_768}),
    ("gemini-2.5-flash", Thinking(budget_tokens=0), {"thinkingBudget": 0}),
    ("gemini-2.5-flash-lite", Thinking(budget_tokens=5), {"thinkingBudget": 512}),
    ("gemini-2.5-flash", Thinking(budget_tokens=99_999), {"thinkingBudget": 24_576}),
]


@pytest.mark.behaviour(58)
@pytest.mark.parametrize(("model", "thinking", "sent"), THINKING)
def test_how_much_to_think(model, thinking, sent):
    """By level since generation 3, by budget before, never both; thoughts are shown."""
    found = config(model=model, thinking=thinking)["thinkingConfig"]

    off = "none" == thinking.effort or thinking.enabled is False or thinking.budget_tokens == 0
    assert off is not found.pop("includeThoughts", False)
    assert sent == found


@pytest.mark.parametrize(
    ("model", "sent"), [("gemini-2.5-pro", {"thinkingBudget": -1}), ("gemini-3-pro", {})]
)
def test_a_model_may_decide_for_itself(model, sent):
    thinking = Thinking(budget_tokens=-1, summary="omitted")

    assert sent == config(model=model, thinking=thinking).get("thinkingConfig", {})


def test_thoughts_are_shown_as_asked():
    assert {"includeThoughts": True} == config(thinking=Thinking(summary="auto"))["thinkingConfig"]
    hidden = config(thinking=Thinking(effort="low", summary="omitted"))
    assert {"thinkingLevel": "LOW"} == hidden["thinkingConfig"]


def test_a_model_that_does_not_think_is_not_told_to():
    found = built(model="gemini-2.0-flash", thinking=Thinking(effort="high"))

    assert "generationConfig" not in found.body
    assert ("reasoning_effort",) == found.dropped


@pytest.mark.behaviour(59, 62, 63, 67)
def test_what_cannot_be_asked_is_named():
    found = built(
        stream=True,
        sampling=Sampling(stop=tuple("abcdefg"), n=2, logit_bias={"1": 1.0}, presence_penalty=1.0),
        tools=(F,),
        parallel_tool_calls=False,
        user="u",
        metadata={"a": "b"},
        extra={"foo": 1, "prompt_cache_key": "k", "safety_identifier": "u", "store": False},
    )

    assert list("abcde") == found.body["generationConfig"]["stopSequences"]
    assert {
        "stop", "n", "logit_bias", "presence_penalty", "parallel_tool_calls", "metadata", "foo",
    } == set(found.dropped)  # fmt: skip


def test_sampling_in_googles_words():
    sampling = Sampling(
        temperature=1.7, top_p=0.5, top_k=3, max_output_tokens=9, seed=1, n=2, logprobs=True,
        top_logprobs=4, presence_penalty=0.1, frequency_penalty=0.2,
    )  # fmt: skip

    assert {
        "temperature": 1.7, "topP": 0.5, "topK": 3, "maxOutputTokens": 9, "seed": 1,
        "candidateCount": 2, "responseLogprobs": True, "logprobs": 4, "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
    } == config(model="gemini-2.5-flash", sampling=sampling)  # fmt: skip


SCHEMA = ResponseFormat(kind="json_schema", name="a", schema={"type": "object", "properties": {}})


def test_a_format_beside_functions_waits_for_generation_3():
    fields = {"tools": (F,), "response_format": ResponseFormat(kind="json_object")}

    assert ("response_format",) == built(model="gemini-2.5-flash", **fields).dropped
    assert {"responseMimeType": "application/json"} == config(model="gemini-3-flash", **fields)


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (ToolChoice(mode="none"), {"mode": "ANY", "allowedFunctionNames": ["json_answer"]}),
        (ToolChoice(mode="auto"), {"mode": "ANY"}),
        (ToolChoice(mode="named", name="f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_a_schema_by_tool_and_the_callers_choice(choice, sent):
    """A call that the caller forces comes first; the schema has its turn later."""
    found = built(model="gemini-2.5-flash", tools=(F,), tool_choice=choice, response_format=SCHEMA)

    assert {"functionCallingConfig": sent} == found.body["toolConfig"]
    assert (None if choice.mode == "named" else "json_answer") == found.asked.json_tool


@pytest.mark.behaviour(64)
@pytest.mark.parametrize(
    "extra",
    [
        {"safety_settings": ["s"], "thinking_config": {"thinking_budget": 5}},
        {"google": {"safetySettings": ["s"], "thinkingConfig": {"thinkingBudget": 5}}},
        {
            "extra_body": {
                "google": {"safety_settings": ["s"], "thinking_config": {"thinking_budget": 5}}
            }
        },
        {"safetySettings": ["s"], "generation_config": {"thinking_config": {"thinkingBudget": 5}}},
    ],
)
def test_googles_own_words_reach_it(extra):
    found = built(extra=extra)

    assert ["s"] == found.body["safetySettings"]
    assert {"thinkingBudget": 5} == found.body["generationConfig"]["thinkingConfig"]
    assert () == found.dropped


def test_googles_own_words_do_not_loosen_what_the_caller_bounds():
    """Money is held by the bound and the number of answers in the dialect's words."""
    own = {"maxOutputTokens": 60_000, "candidate_count": 8, "topK": 3}
    found = built(sampling=Sampling(max_output_tokens=9), extra={"generation_config": own})

    assert {"maxOutputTokens": 9, "topK": 3} == found.body["generationConfig"]
    assert ("generation_config",) == found.dropped
    assert {"maxOutputTokens": 50} == config(extra={"google": {
        "generation_config": {"max_output_tokens": 50}
    }})  # fmt: skip


def test_pictures_may_be_asked_for():
    assert ["TEXT", "IMAGE"] == config(extra={"modalities": ["text", "image"]})[
        "responseModalities"
    ]


def test_what_is_cached_is_not_sent_beside_it():
    body = built(
        said("system"), said("user"), tools=(F,), extra={"cached_content": "cachedContents/1"}
    ).body

    assert {"contents", "cachedContent"} == body.keys()


@pytest.mark.parametrize(
    ("tier", "vertex", "field", "headers", "dropped"),
    [
        ("flex", False, "flex", {}, ()),
        ("default", False, "standard", {}, ()),
        ("auto", False, None, {}, ()),
        ("scale", False, None, {}, ("service_tier",)),
        ("priority", True, None, {"x-vertex-ai-llm-shared-request-type": "priority"}, ()),
        ("default", True, None, {}, ()),
    ],
)
def test_service_tiers(tier, vertex, field, headers, dropped):
    found = built(service_tier=tier, vertex=vertex)

    assert field == found.body.get("serviceTier")
    assert (headers, dropped) == (found.headers, found.dropped)


@pytest.mark.parametrize(
    ("metadata", "sent"), [({"team": "a-1"}, {"team": "a-1"}), ({"Team": "A b"}, None)]
)
def test_metadata_are_labels_on_vertex_where_they_can_be(metadata, sent):
    found = built(vertex=True, metadata=metadata)

    assert sent == found.body.get("labels")
    assert (() if sent else ("metadata",)) == found.dropped


def test_a_request_is_json():
    """Whatever a schema or a result holds."""
    found = built(
        said("user"), calling(("a", "f")), answered("a", '{"a": [1.5, null]}'), tools=(F,)
    )

    assert json.loads(msgspec.json.encode(found.body)) == found.body
