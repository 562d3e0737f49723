"""OpenAI's questions in Cohere's native words, and its answers."""

import json

import pytest

from shared.chat.usage import Usage
from shared.errors import InvalidRequest, UnsupportedParameter, UpstreamError
from shared.providers.dialects.cohere import build_request
from shared.providers.dialects.cohere_answer import COHERE
from shared.providers.dialects.cohere_embed import build_reranking, with_documents
from shared.providers.dialects.openai_served import parse_request
from shared.providers.translation import Asked

USER = {"role": "user", "content": "Go"}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}}


def built(**fields):
    body = {"model": "command-a", "messages": [USER], **fields}
    return build_request(parse_request(json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("choice", "word", "offered"),
    [
        (None, None, ["f", "g"]),
        ("auto", None, ["f", "g"]),
        ("none", "NONE", ["f", "g"]),
        ("required", "REQUIRED", ["f", "g"]),
        ({"type": "function", "function": {"name": "g"}}, "REQUIRED", ["g"]),
    ],
)
def test_a_choice_of_tools(choice, word, offered):
    body = built(tools=TOOLS, tool_choice=choice).body

    assert word == body.get("tool_choice")
    assert offered == [tool["function"]["name"] for tool in body["tools"]]


@pytest.mark.parametrize(
    ("asked", "body", "dropped"),
    [
        ({"temperature": 1.7}, {"temperature": 1.0}, ("temperature",)),
        pytest.param({"n": 2}, {}, ("n",), marks=pytest.mark.behaviour(62)),
        pytest.param({"foo": 1}, {}, ("foo",), marks=pytest.mark.behaviour(63)),
        pytest.param(
            {"safety_mode": "OFF"}, {"safety_mode": "OFF"}, (), marks=pytest.mark.behaviour(64)
        ),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True}, ("top_logprobs",)),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, ()),
        ({"reasoning_effort": "low"}, {"thinking": {"type": "enabled"}}, ()),
        (
            {"response_format": {"type": "json_object"}},
            {"response_format": {"type": "json_object"}},
            (),
        ),
        pytest.param({"tool_choice": "required"}, {}, (), marks=pytest.mark.behaviour(48)),
        pytest.param({"tools": []}, {}, (), marks=pytest.mark.behaviour(49)),
    ],
)
def test_what_it_can_be_asked(asked, body, dropped):
    question = built(**asked)
    own = {"model": "command-a", "messages": [USER], "stream": False}

    assert ({**own, **body}, dropped) == (question.body, question.dropped)


@pytest.mark.behaviour(42)
def test_pictures_of_a_result_follow_it():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "c1", "content": [IMAGE]}
    asked = [USER, {"role": "assistant", "content": "", "tool_calls": [call]}, result]

    *_, sent, after = built(messages=asked).body["messages"]

    assert {"role": "tool", "tool_call_id": "c1", "content": ""} == sent
    url = "data:image/jpeg;base64,AAAA"
    assert [{"type": "image_url", "image_url": {"url": url}}] == after["content"]


@pytest.mark.behaviour(11)
def test_a_result_without_a_call_is_refused():
    with pytest.raises(InvalidRequest, match="c9"):
        built(messages=[USER, {"role": "tool", "tool_call_id": "c9", "content": "x"}])


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
    ],
)
def test_what_it_cannot_read_is_refused(part):
    with pytest.raises(UnsupportedParameter):
        built(messages=[{"role": "user", "content": [part]}])


def test_citations_are_kept():
    cited = {"start": 0, "end": 2, "text": "Hi", "sources": []}
    message = {"content": [{"type": "text", "text": "Hi"}], "citations": [cited]}
    body = {"id": "c", "finish_reason": "STOP_SEQUENCE", "message": message}

    answer = COHERE.parse_response(json.dumps(body).encode(), Asked(model="m"))

    assert {"citations": [cited]} == answer.extra
    assert ("m", "stop", None) == (answer.model, answer.choices[0].finish.value, answer.usage)


@pytest.mark.parametrize(
    ("counts", "counted"),
    [
        ({"tokens": {"input_tokens": 7.0, "output_tokens": "3"}}, Usage(input_tokens=7)),
        (
            {"tokens": {"input_tokens": 7, "output_tokens": 3}, "cached_tokens": "all"},
            Usage(input_tokens=7, output_tokens=3),
        ),
        ({"tokens": {"input_tokens": -7, "output_tokens": 3}}, Usage(output_tokens=3)),
    ],
)
def test_a_count_that_is_none_costs_no_other(counts, counted):
    message = {"content": [{"type": "text", "text": "Hi"}]}
    body = {"id": "c", "finish_reason": "COMPLETE", "message": message, "usage": counts}

    answer = COHERE.parse_response(json.dumps(body).encode(), Asked(model="m"))

    assert ("Hi", counted) == (answer.choices[0].text, answer.usage)


def test_citations_of_a_stream_are_kept():
    cited = {"start": 0, "end": 2, "text": "Hi", "sources": []}
    said = [
        {"type": "message-start", "id": "c"},
        {"type": "citation-start", "index": 0, "delta": {"message": {"citations": cited}}},
        {"type": "message-end", "delta": {"finish_reason": "MAX_TOKENS"}},
    ]
    raw = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in said)

    decoded = COHERE.decoder(Asked(model="m")).feed(raw)

    assert decoded.ended
    assert ({"citations": [cited]}, "length") == (
        decoded.deltas[-1].extra,
        decoded.deltas[-1].finish.value,
    )


@pytest.mark.parametrize("body", [b"oops", b"{}", b'{"message": {}}', b"[]"])
def test_what_is_no_answer_is_malformed(body):
    with pytest.raises(UpstreamError) as caught:
        COHERE.parse_response(body, Asked())

    assert "malformed" == caught.value.kind.value


@pytest.mark.parametrize("data", [b"oops", b"[DONE]", b'{"message": "too busy"}'])
def test_what_is_no_event_ends_a_stream(data):
    assert COHERE.decoder(Asked()).feed(b"data: %b\n\n" % data).error is not None


@pytest.mark.parametrize("documents", [None, "a", [], [1], [{"title": "a"}]])
def test_documents_are_texts(documents):
    with pytest.raises(InvalidRequest):
        build_reranking(
            json.dumps({"query": "q", "documents": documents}).encode(), model="m", params={}
        )


@pytest.mark.parametrize("body", [b"oops", b"{}", b'{"results": [{"index": 9}]}'])
def test_a_ranking_that_is_none_is_malformed(body):
    with pytest.raises(UpstreamError):
        with_documents(body, ("a",))
