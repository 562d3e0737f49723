"""OpenAI's questions in Ollama's native words."""

import json

import pytest

from shared.chat.usage import Usage
from shared.config.model import ProviderConfig
from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.embeddings import EmbeddingRequest
from shared.providers.dialects.ndjson import LineParser, LineTooLarge
from shared.providers.dialects.ollama import build_request
from shared.providers.dialects.ollama_answer import OLLAMA
from shared.providers.dialects.ollama_embed import OLLAMA_EMBED
from shared.providers.dialects.openai_served import parse_request
from shared.providers.exchange import HttpResponse
from shared.providers.registry import adapter_for
from shared.providers.request import FetchedFile, InferenceRequest, RequestHead
from shared.providers.target import Target
from shared.providers.translation import Asked

USER = {"role": "user", "content": "Go"}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
URL = "https://example.com/cat.png"


def built(model="llama3", params=None, files=None, **fields):
    body = {"model": model, "messages": [USER], **fields}
    chat = parse_request(json.dumps(body).encode())
    return build_request(chat, params=params, files=files)


def called(arguments):
    function = {"name": "f", "arguments": arguments}
    call = {"id": "c1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def answered(text="ok", call_id="c1"):
    return {"role": "tool", "tool_call_id": call_id, "content": text}


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        pytest.param("", {}, marks=pytest.mark.behaviour(16)),
        ('{"a":1}', {"a": 1}),
        pytest.param("{broken", {"arguments": "{broken"}, marks=pytest.mark.behaviour(17)),
        pytest.param("[1]", {"arguments": [1]}, marks=pytest.mark.behaviour(17)),
    ],
)
def test_arguments_are_an_object(arguments, sent):
    messages = built(messages=[USER, called(arguments), answered()]).body["messages"]

    assert sent == messages[1]["tool_calls"][0]["function"]["arguments"]


@pytest.mark.behaviour(11)
def test_a_result_without_a_call_is_refused_by_name():
    with pytest.raises(InvalidRequest) as caught:
        built(messages=[USER, called("{}"), answered(call_id="c9")])

    assert "messages[2].tool_call_id" == caught.value.param
    assert "c9" in caught.value.message


@pytest.mark.parametrize(
    ("model", "effort", "think"),
    [
        ("qwen3", "none", False),
        ("qwen3", "low", True),
        ("gpt-oss:20b", "minimal", "low"),
        ("gpt-oss:20b", "medium", "medium"),
        ("gpt-oss:20b", "xhigh", "high"),
        ("gpt-oss:20b", "none", "low"),
    ],
)
def test_effort_is_a_switch_or_a_level(model, effort, think):
    assert think == built(model=model, reasoning_effort=effort).body["think"]


@pytest.mark.parametrize(
    ("asked", "offered", "dropped"),
    [
        ({}, ["f", "g"], ()),
        ({"tool_choice": "auto"}, ["f", "g"], ()),
        ({"tool_choice": "none"}, None, ()),
        ({"tool_choice": "required"}, ["f", "g"], ("tool_choice",)),
        (
            {"tool_choice": {"type": "function", "function": {"name": "g"}}},
            ["g"],
            ("tool_choice",),
        ),
        ({"parallel_tool_calls": False}, ["f", "g"], ("parallel_tool_calls",)),
    ],
)
def test_a_choice_of_tools_is_an_offer(asked, offered, dropped):
    question = built(tools=TOOLS, **asked)

    names = [tool["function"]["name"] for tool in question.body.get("tools", [])]
    assert (offered or []) == names
    assert dropped == question.dropped


@pytest.mark.parametrize(
    ("asked", "dropped"),
    [
        pytest.param({"n": 2}, ("n",), marks=pytest.mark.behaviour(62)),
        pytest.param({"logit_bias": {"1": 5}}, ("logit_bias",), marks=pytest.mark.behaviour(62)),
        pytest.param({"seed": 1, "n": 1}, (), marks=pytest.mark.behaviour(62)),
        pytest.param({"foo": 1}, ("foo",), marks=pytest.mark.behaviour(63)),
        pytest.param({"tools": []}, (), marks=pytest.mark.behaviour(49)),
        pytest.param(
            {"tool_choice": "required", "parallel_tool_calls": False},
            (),
            marks=pytest.mark.behaviour(48),
        ),
        pytest.param({"metadata": {"a": "b"}, "user": "u"}, (), marks=pytest.mark.behaviour(67)),
    ],
)
def test_what_it_cannot_be_asked_is_told(asked, dropped):
    question = built(**asked)

    assert dropped == question.dropped
    known = {"model", "messages", "stream", "options"}
    assert known >= question.body.keys()


@pytest.mark.behaviour(64)
def test_an_option_does_not_loosen_the_bound_that_money_is_held_by():
    question = built(params={"num_predict": 70}, options={"num_predict": -1}, max_tokens=20)

    assert {"num_predict": 20} == question.body["options"]
    assert {"num_predict": 50} == built(options={"num_predict": 50}).body["options"]


def test_the_callers_options_go_before_the_operators():
    params = {"num_ctx": 2048, "min_p": 0.1, "temperature": 0.1, "keep_alive": "1h"}
    question = built(params=params, options={"num_ctx": 8192}, temperature=0.7)

    assert {"num_ctx": 8192, "min_p": 0.1, "temperature": 0.7} == question.body["options"]
    assert "1h" == question.body["keep_alive"]
    assert () == question.dropped


@pytest.mark.behaviour(42)
def test_pictures_of_a_result_follow_it():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    result = {**answered(), "content": [{"type": "text", "text": "see"}, picture]}

    *_, sent, after, last = built(messages=[USER, called("{}"), result, USER]).body["messages"]

    assert {"role": "tool", "content": "see", "tool_name": "f"} == sent
    assert {"role": "user", "content": "", "images": ["AAAA"]} == after
    assert USER == last


@pytest.mark.behaviour(36)
def test_pictures_elsewhere_are_fetched_by_the_gateway():
    picture = {"type": "image_url", "image_url": {"url": URL}}
    messages = [{"role": "user", "content": [picture]}]
    raw = json.dumps({"model": "chat", "messages": messages}).encode()
    files = {URL: FetchedFile(media_type="image/png", content=b"\0\0\0")}
    request = InferenceRequest(
        endpoint="/v1/chat/completions", dialect="openai", raw=raw, head=RequestHead(model="chat")
    )
    adapter, target = adapter_for("ollama"), Target(provider="local", model="llava")

    assert [URL] == list(adapter.fetches(request, target))
    fetched = InferenceRequest(
        endpoint=request.endpoint, dialect="openai", raw=raw, head=request.head, files=files
    )
    exchange = adapter.exchange(ProviderConfig(kind="ollama"), None, fetched, target)
    assert ["AAAA"] == json.loads(exchange.request.body)["messages"][0]["images"]


@pytest.mark.behaviour(43)
@pytest.mark.parametrize(
    "url", ["data:image/png;base64,@@", "data:image/png", "data:application/pdf;base64,AAAA", "cat"]
)
def test_broken_pictures_are_refused(url):
    picture = {"type": "image_url", "image_url": {"url": url}}

    with pytest.raises(InvalidRequest):
        built(messages=[{"role": "user", "content": [picture]}])


@pytest.mark.behaviour(41)
@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
    ],
)
def test_what_it_cannot_read_is_refused(part):
    with pytest.raises(UnsupportedParameter):
        built(messages=[{"role": "user", "content": [part]}])


@pytest.mark.behaviour(81)
def test_stop_with_calls_means_calls():
    call = {"function": {"name": "f", "arguments": {"a": [1]}}}
    said = {"role": "assistant", "content": "", "tool_calls": [call]}
    body = {"model": "m", "created_at": "", "message": said, "done": True, "done_reason": "stop"}

    answer = OLLAMA.parse_response(json.dumps(body).encode(), Asked())

    (choice,) = answer.choices
    assert ("tool_calls", '{"a":[1]}') == (choice.finish.value, choice.tool_calls[0].arguments)
    assert choice.tool_calls[0].id
    assert answer.usage is None


@pytest.mark.parametrize(
    ("read", "written", "counted"),
    [
        (7.0, 3, Usage(input_tokens=7, output_tokens=3)),
        ("7", 3, Usage(output_tokens=3)),
        (7, -1, Usage(input_tokens=7)),
        (-1, [], None),
    ],
)
def test_a_count_that_is_none_costs_no_other(read, written, counted):
    said = {"role": "assistant", "content": "x"}
    counts = {"prompt_eval_count": read, "eval_count": written}
    body = json.dumps({"model": "m", "message": said, "done": True, **counts}).encode()
    vectors = json.dumps({"embeddings": [[1.0]], "prompt_eval_count": written}).encode()
    embedded = OLLAMA_EMBED.parse(
        HttpResponse(status=200, headers={}, body=vectors), EmbeddingRequest(model="m", inputs=())
    )

    answer = OLLAMA.parse_response(body, Asked())

    assert ("x", counted) == (answer.choices[0].text, answer.usage)
    assert (3 if written == 3 else None) == (embedded.usage and embedded.usage.input_tokens)


def test_the_secret_stays_out_of_errors():
    body = json.dumps({"error": "bad key oll-1234567890"}).encode()

    error = OLLAMA.error_of(HttpResponse(status=401, headers={}, body=body), "oll-1234567890")

    assert ("credential", "bad key [hidden]") == (error.kind.value, error.message)


def test_a_line_has_a_limit():
    parser = LineParser(limit_bytes=8)

    assert [b"{}"] == parser.feed(b"{}\n123")
    with pytest.raises(LineTooLarge):
        parser.feed(b"456789")


@pytest.mark.parametrize(
    "asked",
    [
        {"n": 2},
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"parallel_tool_calls": False},
        {"keep_alive": 0},
    ],
)
def test_what_the_compatible_surface_passes_over_goes_to_the_native_one(asked):
    raw = json.dumps({"model": "chat", "messages": [USER], "tools": TOOLS, **asked}).encode()
    head = RequestHead(model="chat", **{k: v for k, v in asked.items() if k != "keep_alive"})
    request = InferenceRequest(
        endpoint="/v1/chat/completions", dialect="openai", raw=raw, head=head
    )

    exchange = adapter_for("ollama").exchange(
        ProviderConfig(kind="ollama"), None, request, Target(provider="local", model="m")
    )

    assert "http://localhost:11434/api/chat" == exchange.request.url
