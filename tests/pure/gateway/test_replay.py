"""A stream and the whole answer are one answer in two forms."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.message import Reasoning, ToolCall
from shared.chat.response import ChatChoice, ChatResponse, FinishReason, fold
from shared.chat.unfold import unfold
from shared.chat.usage import Usage
from shared.gateway.parse import parse_request
from shared.gateway.replay import Recording, told_again
from shared.providers.served import SERVED
from tests.fakes.upstream import DONE, chunk, completion, events

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]

texts = st.text(max_size=200)
calls = st.builds(
    ToolCall,
    id=st.text(min_size=1, max_size=5),
    name=st.text(min_size=1, max_size=5),
    arguments=texts,
    kind=st.sampled_from(["function", "custom"]),
    signature=st.none() | st.text(min_size=1, max_size=5),
)
thoughts = st.builds(
    Reasoning, text=texts, signature=st.none() | st.text(min_size=1), redacted=st.booleans()
)
choices = st.builds(
    ChatChoice,
    text=st.none() | texts,
    reasoning=st.lists(thoughts, max_size=2).map(tuple),
    refusal=st.none() | texts,
    tool_calls=st.lists(calls, max_size=3).map(tuple),
    finish=st.sampled_from(FinishReason),
    stop_sequence=st.none() | st.text(min_size=1),
    annotations=st.lists(st.just({"type": "url_citation"}), max_size=2).map(tuple),
    logprobs=st.lists(st.just({"token": "a"}), max_size=2).map(tuple),
)
answers = st.builds(
    ChatResponse,
    id=st.text(min_size=1),
    model=st.text(min_size=1),
    created_s=st.integers(1, 2**31),
    choices=st.lists(choices, min_size=1, max_size=3).map(
        lambda found: tuple(msgspec.structs.replace(c, index=n) for n, c in enumerate(found))
    ),
    usage=st.none() | st.builds(Usage, input_tokens=st.integers(0, 9)),
    extra=st.sampled_from([{}, {"trace": 1}]),
)


@given(answers)
def test_an_answer_unfolds_into_deltas_that_fold_into_it(answer):
    assert answer == fold(unfold(answer))


def chat(**more):
    body = {"model": "m", "messages": HELLO, "stream": True, **more}
    return parse_request(CHAT, msgspec.json.encode(body))


def recorded(pieces, *, most_bytes=10**6, usage=None):
    recording = Recording(chat(), most_bytes=most_bytes)
    for piece in pieces:
        recording.add(piece)
    body = recording.body(usage)
    return None if body is None else msgspec.json.decode(body)


def test_a_long_stream_is_folded_as_it_goes_by():
    words = [f"word {number} " for number in range(2_000)]

    body = recorded(events(words), usage=Usage(input_tokens=3, output_tokens=4))

    assert "".join(words) == body["choices"][0]["message"]["content"]
    assert 7 == body["usage"]["total_tokens"]


def test_a_stream_larger_than_worth_it_is_not_kept():
    assert recorded(events(["word"] * 1_000), most_bytes=50_000) is None


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [chunk({"role": "assistant", "content": "one"})],
        [chunk({"content": "one"}), chunk({"content": "more"}), DONE],
        [b"data: rubbish\n\n"],
    ],
)
def test_what_is_no_whole_answer_is_not_kept(pieces):
    assert recorded(pieces) is None


def test_what_is_no_answer_is_not_told():
    assert told_again(chat(), b"{}") is None
    assert told_again(chat(), b"rubbish") is None


def test_the_cost_of_an_answer_that_is_told_again_is_nothing():
    request = chat(stream_options={"include_usage": True})
    body = msgspec.json.encode(completion("hello"))

    *_, end = told_again(request, body)

    usage, done = end.split(b"\n\n")[:2]
    assert {"cost_usd": 0} == msgspec.json.decode(usage[6:])["sluiceway"]
    assert b"data: [DONE]" == done


def test_several_choices_are_told_each_to_its_end():
    body = {**completion("one"), "choices": completion("one")["choices"] * 2}
    body["choices"] = [{**choice, "index": at} for at, choice in enumerate(body["choices"])]

    stream = b"".join(told_again(chat(n=2), msgspec.json.encode(body)))

    again = recorded([stream])
    assert [(0, "one", "stop"), (1, "one", "stop")] == [
        (choice["index"], choice["message"]["content"], choice["finish_reason"])
        for choice in again["choices"]
    ]


def test_messages_blocks_out_of_order_are_not_kept():
    """They would come back in another order."""
    request = parse_request(
        "/v1/messages",
        msgspec.json.encode({"model": "m", "messages": HELLO, "max_tokens": 9, "stream": True}),
    )
    renderer = SERVED["/v1/messages"].renderer
    answer = ChatResponse(
        id="msg_1",
        model="m",
        choices=(
            ChatChoice(
                text="and waiting",
                tool_calls=(ToolCall(id="t", name="look", arguments="{}"),),
                finish=FinishReason.TOOL_CALLS,
            ),
        ),
    )
    head, text, call, finish = unfold(answer)
    for order, is_kept in (((head, text, call, finish), True), ((head, call, text, finish), False)):
        told = renderer(None)
        recording = Recording(request, most_bytes=10**6)
        recording.add(told.render(order) + told.closing(Usage(), None))
        assert is_kept == (recording.body(None) is not None)
