"""A stream folded: what was told, as the whole answer."""

import json

import pytest

from shared.chat.usage import Usage
from shared.jobs.stream.events import told, written
from shared.jobs.stream.fold import FOLDS
from shared.providers.dialects.sse import SseEvent
from shared.store.job_events import EventRows

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def folded(endpoint, *bodies, usage=None):
    fold = FOLDS[endpoint]()
    for body in bodies:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        name = body.get("type", "") if isinstance(body, dict) else ""
        fold.add(SseEvent(data, name.encode()))
    found = fold.body(usage)
    return None if found is None else json.loads(found)


def chunk(delta, index=0, finish=None, **fields):
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **fields}


def test_words_of_each_choice_are_joined():
    found = folded(
        CHAT,
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "Yo"}, index=1),
        chunk({"content": "lo"}),
        chunk({}, finish="stop"),
        chunk({}, index=1, finish="length"),
        {"id": "c", "choices": [], "usage": {"total_tokens": 3}, "service_tier": None},
        b"[DONE]",
    )

    assert {"id": "c", "object": "chat.completion", "usage": {"total_tokens": 3}} == {
        name: value for name, value in found.items() if name != "choices"
    }
    assert [("assistant", "Hello", "stop"), ("assistant", "Yo", "length")] == [
        (one["message"]["role"], one["message"]["content"], one["finish_reason"])
        for one in found["choices"]
    ]


def test_calls_are_joined_by_their_number():
    """Vendors that repeat a call's id and name with each piece do not double them."""
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    found = folded(
        CHAT,
        chunk({"role": "assistant", "content": None, "tool_calls": [first]}),
        chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": '{"x"'}}]}),
        chunk({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g"}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ":1}"}}]}),
        chunk({}, finish="tool_calls"),
    )

    [choice] = found["choices"]
    assert choice["message"]["content"] is None
    assert [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "function": {"name": "g"}},
    ] == choice["message"]["tool_calls"]


def test_the_books_usage_stands_in_where_none_was_told():
    found = folded(CHAT, chunk({"content": "x"}), usage=Usage(input_tokens=4, output_tokens=1))

    assert (4, 1, 5) == tuple(
        found["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )


def test_logprobs_of_all_pieces_are_kept():
    pieces = [
        {**chunk({"content": word})["choices"][0], "logprobs": {"content": [{"token": word}]}}
        for word in ("a", "b")
    ]

    found = folded(CHAT, *({"id": "c", "choices": [piece]} for piece in pieces))

    assert [{"token": "a"}, {"token": "b"}] == found["choices"][0]["logprobs"]["content"]


def test_completions_are_joined():
    pieces = [{"index": 0, "text": "Once", "logprobs": None, "finish_reason": None}]
    more = [{"index": 0, "text": " upon", "logprobs": None, "finish_reason": "stop"}]

    found = folded("/v1/completions", {"id": "c", "choices": pieces}, {"id": "c", "choices": more})

    assert ("text_completion", "Once upon", "stop") == (
        found["object"],
        found["choices"][0]["text"],
        found["choices"][0]["finish_reason"],
    )


def test_blocks_keep_their_order_and_kind():
    message = {"id": "m", "type": "message", "content": [], "usage": {"input_tokens": 3}}
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    found = folded(
        MESSAGES,
        {"type": "message_start", "message": message},
        {"type": "ping"},
        block_start(0, {"type": "thinking", "thinking": "", "signature": ""}),
        block_delta(0, {"type": "thinking_delta", "thinking": "Hm"}),
        block_delta(0, {"type": "signature_delta", "signature": "s"}),
        block_start(1, call),
        block_delta(1, {"type": "input_json_delta", "partial_json": '{"x"'}),
        block_delta(1, {"type": "input_json_delta", "partial_json": ": 1}"}),
        block_start(2, {"type": "text", "text": ""}),
        block_delta(2, {"type": "text_delta", "text": "Hi"}),
        block_delta(2, {"type": "text_delta", "text": "!"}),
        block_delta(2, {"type": "citations_delta", "citation": {"title": "x"}}),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"x": 9}},
        {"type": "message_stop"},
    )

    assert [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {**call, "input": {"x": 1}},
        {"type": "text", "text": "Hi!", "citations": [{"title": "x"}]},
    ] == found["content"]
    assert ("end_turn", {"input_tokens": 3, "x": 9}) == (found["stop_reason"], found["usage"])


def block_start(index, block):
    return {"type": "content_block_start", "index": index, "content_block": block}


def block_delta(index, delta):
    return {"type": "content_block_delta", "index": index, "delta": delta}


@pytest.mark.parametrize("kind", ["completed", "incomplete"])
def test_a_response_is_what_its_last_event_holds(kind):
    last = {"type": f"response.{kind}", "response": {"id": "r", "output": [1]}}

    assert {"id": "r", "output": [1]} == folded("/v1/responses", {"type": "x"}, last)


@pytest.mark.parametrize("endpoint", sorted(FOLDS))
def test_nothing_told_is_no_answer(endpoint):
    assert folded(endpoint) is None


def test_events_are_told_from_a_number_on():
    """Also those whose data has lines of its own."""
    blocks = [written(b"", b"one"), written(b"name", b"two\n\nlines"), written(b"", b"three")]
    row = EventRows(job_id="j", token=1, first_no=4, last_no=6, events=b"".join(blocks))

    assert b"event: name\ndata: two\ndata: \ndata: lines\n\n" == blocks[1]
    assert [(5, blocks[1]), (6, blocks[2])] == list(told(row, 4))
