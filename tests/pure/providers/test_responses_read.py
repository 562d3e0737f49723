"""The events of OpenAI's Responses, read: what of them may be gone on with."""

import json

import pytest

from shared.chat.message import ToolCall
from shared.chat.response import FinishReason, fold
from shared.providers.dialects.responses_read import ResponsesDecoder

BODY = {"id": "resp_1", "model": "gpt-x", "created_at": 7, "output": [], "usage": None}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": ""}


def event(kind: str, **fields: object) -> bytes:
    body = {"type": f"response.{kind}", **fields}
    return f"event: response.{kind}\ndata: {json.dumps(body)}\n\n".encode()


def begun(item: dict[str, object], index: int = 0) -> bytes:
    return event("output_item.added", output_index=index, item=item)


def ended(item: dict[str, object], index: int = 0) -> bytes:
    return event("output_item.done", output_index=index, item=item)


CREATED = event("created", response=BODY, sequence_number=0)
PART = event("content_part.added", output_index=0, content_index=0, part={"type": "output_text"})
TEXT = event("output_text.delta", output_index=0, content_index=0, delta="hi", logprobs=[])
HELLO = CREATED + begun(MESSAGE) + PART + TEXT
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "in_progress"}


@pytest.mark.parametrize(
    ("told", "is_open"),
    [
        (b"", False),
        (CREATED, True),
        (CREATED + begun(THOUGHT), False),
        (CREATED + begun(THOUGHT) + ended(THOUGHT), True),
        (CREATED + begun(THOUGHT) + ended(THOUGHT) + begun(MESSAGE, 1), True),
        (CREATED + begun(MESSAGE), True),
        (HELLO, True),
        (HELLO + event("content_part.done", part={"type": "output_text", "text": "hi"}), False),
        (HELLO + ended(MESSAGE), False),
        (HELLO + begun(THOUGHT, 1), False),
        (CREATED + begun(MESSAGE, 1), False),
    ],
)
def test_where_text_can_follow(told: bytes, is_open: bool):  # noqa: FBT001
    decoder = ResponsesDecoder()

    decoder.feed(told)

    assert is_open == decoder.open


@pytest.mark.parametrize(
    "more",
    [
        begun(SEARCH),
        begun(MESSAGE, 1),
        event("content_part.added", content_index=1, part={"type": "output_text"}),
    ],
    ids=["a search", "a second message", "a second part"],
)
def test_what_has_no_words_here(more: bytes):
    """It is another choice's, and so never gone on with."""
    found = ResponsesDecoder().feed(HELLO + more).deltas

    assert {0, 1} == {delta.choice for delta in found}


@pytest.mark.parametrize("how", ["in pieces", "at the end"])
def test_a_call_is_whole(how: str):
    """Some tell the arguments only where it ends."""
    pieces = [
        event("function_call_arguments.delta", output_index=1, delta=piece)
        for piece in ('{"a":', "1}")
    ]
    last = ended({**CALL, "arguments": '{"a":1}'}, 1)
    told = [HELLO, begun(CALL, 1), *(pieces if how == "in pieces" else ()), last]

    answer = fold(ResponsesDecoder().feed(b"".join(told)).deltas)

    assert (ToolCall(id="c1", name="look", arguments='{"a":1}'),) == answer.choices[0].tool_calls


@pytest.mark.parametrize(
    ("last", "finish"),
    [
        (event("completed", response={**BODY, "status": "completed"}), FinishReason.STOP),
        (
            event(
                "incomplete",
                response={**BODY, "incomplete_details": {"reason": "max_output_tokens"}},
            ),
            FinishReason.LENGTH,
        ),
        (
            event(
                "incomplete", response={**BODY, "incomplete_details": {"reason": "content_filter"}}
            ),
            FinishReason.CONTENT_FILTER,
        ),
    ],
)
def test_why_it_ended(last: bytes, finish: FinishReason):
    (choice,) = fold(ResponsesDecoder().feed(HELLO + last).deltas).choices

    assert ("hi", finish) == (choice.text, choice.finish)


def test_the_point_that_was_reached():
    decoder = ResponsesDecoder()

    decoder.feed(CREATED + begun(THOUGHT) + ended(THOUGHT) + begun(MESSAGE, 1))
    decoder.feed(event("ping", sequence_number=9))

    standing = decoder.standing
    assert (10, BODY, (THOUGHT,)) == (standing.number, standing.body, standing.items)
    assert standing.text is not None
    assert ("msg_1", 1, False) == (
        standing.text.item_id,
        standing.text.index,
        standing.text.begun,
    )
