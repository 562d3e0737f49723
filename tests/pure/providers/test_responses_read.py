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
        (HELLO + event("output_text.done", text="hi"), False),
        (HELLO + event("refusal.done", refusal="no"), False),
        (HELLO + ended(MESSAGE), False),
        (CREATED + begun({**MESSAGE, "phase": "final_answer"}), True),
        (HELLO + begun(THOUGHT, 1), False),
        (CREATED + begun(MESSAGE, 1), False),
    ],
)
def test_where_text_can_follow(told: bytes, is_open: bool):  # noqa: FBT001
    decoder = ResponsesDecoder()

    decoder.feed(told)

    assert is_open == decoder.open


OTHER_PLACE = {"delta": "x", "output_index": 0, "content_index": 1}
SAID = {"type": "output_text", "text": "hi"}
BEGUN_PART = {"type": "output_text", "text": "a"}
NO_WORDS = {
    "a search": HELLO + begun(SEARCH),
    "a second message": HELLO + begun(MESSAGE, 1),
    "a second part": HELLO + event("content_part.added", content_index=1, part=BEGUN_PART),
    "a part that has words already": (
        CREATED + begun(MESSAGE) + event("content_part.added", part=BEGUN_PART)
    ),
    "an item that has words already": CREATED + begun({**MESSAGE, "content": [BEGUN_PART]}),
    "words without a part": CREATED + begun(MESSAGE) + TEXT,
    "words without an item": CREATED + TEXT,
    "words in another part": HELLO + event("output_text.delta", **OTHER_PLACE),
    "words in another item": HELLO + event("output_text.delta", delta="x", output_index=1),
    "more words at the end": HELLO + event("output_text.done", text="hi there"),
    "a thought aloud": CREATED + begun({**MESSAGE, "phase": "commentary"}),
    "words only at a part's end": CREATED + begun(MESSAGE) + event("content_part.done", part=SAID),
    "words only at an item's end": CREATED + ended({**MESSAGE, "content": [SAID]}),
    "more words at an item's end": HELLO + ended({**MESSAGE, "content": [SAID, SAID]}),
    "words only in the last event": (
        CREATED + event("completed", response={**BODY, "output": [{**MESSAGE, "content": [SAID]}]})
    ),
    "a refusal only at its end": HELLO + event("refusal.done", refusal="no"),
    "a note in an odd form": HELLO + event("output_text.annotation.added", annotation="?"),
}


@pytest.mark.parametrize("name", NO_WORDS)
def test_what_has_no_words_here(name: str):
    """It is another choice's, and so never gone on with."""
    found = ResponsesDecoder().feed(NO_WORDS[name])

    assert found.error is None
    assert 1 in {delta.choice for delta in found.deltas}


@pytest.mark.parametrize("text", ["hi", "hi \n", "", None])
def test_what_an_end_repeats_is_nothing_new(text: str | None):
    """Some leave white space out there, or all of it."""
    part = {"type": "output_text", "text": text}
    whole = {**MESSAGE, "content": [part]}
    last = event("completed", response={**BODY, "output": [THOUGHT, whole]})
    done = event("output_text.done", text=text) + event("content_part.done", part=part)

    found = ResponsesDecoder().feed(HELLO + done + ended(whole) + last).deltas

    assert {0} == {delta.choice for delta in found}


def test_a_part_of_a_thought_is_no_words():
    part = event("content_part.added", output_index=0, part={"type": "output_text", "text": ""})
    whole = event("content_part.done", output_index=0, part={"type": "output_text", "text": "hm"})

    found = ResponsesDecoder().feed(CREATED + begun(THOUGHT) + part + whole).deltas

    assert {0} == {delta.choice for delta in found}


def test_nulls_are_nothing():
    nothing = {"item": None, "part": None, "response": None, "sequence_number": None}

    found = ResponsesDecoder().feed(event("some.day", **nothing))
    last = ResponsesDecoder().feed(HELLO + event("completed", response={**BODY, "output": 5}))

    assert ((), None) == (found.deltas, found.error)
    assert FinishReason.STOP == last.deltas[-1].finish


@pytest.mark.parametrize("how", ["in pieces", "in one", "at the end", "without a beginning"])
def test_a_call_is_whole(how: str):
    """Some tell the arguments only where it ends."""
    pieces = [
        event("function_call_arguments.delta", output_index=1, delta=piece)
        for piece in ('{"a":', "1}")
    ]
    if how == "in one":
        pieces = [event("function_call_arguments.done", output_index=1, arguments='{"a":1}')]
    last = ended({**CALL, "arguments": '{"a":1}'}, 1)
    first = [] if how == "without a beginning" else [begun(CALL, 1)]
    told = [HELLO, *first, *(pieces if how.startswith("in") else ()), last]

    answer = fold(ResponsesDecoder().feed(b"".join(told)).deltas)

    assert (ToolCall(id="c1", name="look", arguments='{"a":1}'),) == answer.choices[0].tool_calls


@pytest.mark.parametrize(
    ("last", "finish"),
    [
        (event("completed", response={**BODY, "status": "completed"}), FinishReason.STOP),
        (event("incomplete", response=BODY), FinishReason.LENGTH),
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
    assert (MESSAGE, 1, False) == (standing.text.item, standing.text.index, standing.text.begun)


def test_a_kind_that_stands_only_beside_the_data():
    nameless = HELLO.replace(b'"type": "response.', b'"kind": "response.')

    assert "hi" == fold(ResponsesDecoder().feed(nameless).deltas).choices[0].text
