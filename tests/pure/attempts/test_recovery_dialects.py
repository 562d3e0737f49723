"""Going on with a broken stream, in each of the dialects that callers speak."""

import json
from collections.abc import Mapping, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.attempts.recovery import Differs, Splice, Telling, Told
from shared.attempts.spoken import READERS
from shared.chat.response import ChatDelta, FinishReason, ReasoningDelta, ToolDelta
from shared.chat.usage import Usage
from shared.providers.request import InferenceRequest, RequestHead
from shared.providers.served import SERVED

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
TURNS = [{"role": "user", "content": "tell"}]
ASKED: Mapping[str, dict[str, object]] = {
    "/v1/chat/completions": {"messages": TURNS},
    "/v1/completions": {"prompt": "tell"},
    "/v1/messages": {"messages": TURNS, "max_tokens": 9},
    "/v1/responses": {"input": "tell"},
}
STOP = ChatDelta(finish=FinishReason.STOP)
USAGE = Usage(input_tokens=7, output_tokens=9)
CALL = ToolDelta(index=0, id="call_1", name="look", arguments="")

each = pytest.mark.parametrize("endpoint", READERS)
each_that_chats = pytest.mark.parametrize("endpoint", sorted(READERS.keys() - {"/v1/completions"}))


def request_of(endpoint: str) -> InferenceRequest:
    body = {"model": "m", "stream": True, **ASKED[endpoint]}
    raw = msgspec.json.encode(body)
    head = msgspec.json.decode(raw, type=RequestHead)
    return InferenceRequest(endpoint=endpoint, dialect="", raw=raw, head=head)


def stream_of(
    endpoint: str, number: int, deltas: Sequence[ChatDelta], *, ended: bool = True
) -> list[bytes]:
    """Return the events of an answer; those of another number have another id."""
    served = SERVED[endpoint]
    renderer = served.renderer(served.parse_request(request_of(endpoint).raw))
    head = ChatDelta(id=f"id-{number}", model=f"model-{number}", created_s=number)
    out = renderer.render([head, *deltas]) + (renderer.closing(USAGE, "0.5") if ended else b"")
    return [event + b"\n\n" for event in out.split(b"\n\n")[:-1]]


def words(*texts: str) -> list[ChatDelta]:
    return [ChatDelta(text=text) for text in texts]


def told_of(endpoint: str, events: Sequence[bytes]) -> Telling:
    told = Told(endpoint)
    for event in events:
        told.add(event)
    return told.so_far()


def rest_of(endpoint: str, telling: Telling, events: Sequence[bytes], said: str = "") -> bytes:
    splice = Splice(telling, request_of(endpoint), said)
    out = b"".join(splice.take(event) for event in events)
    return out + splice.closing(b"", USAGE, "0.7")


def deltas_in(endpoint: str, out: bytes) -> tuple[ChatDelta, ...]:
    decoded = READERS[endpoint]().feed(out)
    assert decoded.error is None, decoded.error
    return decoded.deltas


def parsed(out: bytes) -> list[dict[str, object]]:
    lines = [line for line in out.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


def shape(events: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Return the events but for those that hold pieces of text, their numbers and the cost."""
    kept = []
    for event in events:
        bare = {name: value for name, value in event.items() if name != "sequence_number"}
        bare.pop("sluiceway", None)
        if isinstance(response := bare.get("response"), dict):
            bare["response"] = {**response, "sluiceway": None}
        says = bare.get("delta") not in (None, {}) and bare["type"] != "message_delta"
        for choice in bare.get("choices", ()):
            says = says or not choice["finish_reason"]
            choice.pop("text", None)  # a completion's last words may come with its end
        if not says:
            kept.append(bare)
    return kept


@each
@given(
    texts=st.lists(TEXTS, min_size=2, max_size=8),
    prefill=st.booleans(),
    data=st.data(),
)
def test_both_are_one_answer(
    endpoint: str, *, texts: list[str], prefill: bool, data: st.DataObject
):
    """With the first one's head, and with nothing that tells where one ended."""
    events = stream_of(endpoint, 1, [*words(*texts), STOP])
    least = 2 if endpoint == "/v1/responses" else 1  # it begins with two events, in one piece
    count = data.draw(st.integers(least, len(events)))
    telling = told_of(endpoint, events[:count])
    text = "".join(texts)
    assert text.startswith(telling.text)
    if not telling.in_text:  # the last text has ended
        assert text == telling.text
        return
    said = telling.text if prefill else ""
    left = text[len(said) :]
    if prefill and left.startswith(said) and len(said) >= 16:
        return
    rest = words(*filter(None, [left[:2], left[2:]])) if prefill else words(*texts)

    out = rest_of(endpoint, telling, stream_of(endpoint, 2, [*rest, STOP]), said)

    whole = b"".join(events[:count]) + out
    deltas = deltas_in(endpoint, whole)
    assert text == "".join(delta.text or "" for delta in deltas)
    assert [FinishReason.STOP] == [delta.finish for delta in deltas if delta.finish]
    assert b"id-2" not in whole
    assert b"model-2" not in whole
    shown = parsed(whole)
    if endpoint == "/v1/responses":
        assert [*range(len(shown))] == [event["sequence_number"] for event in shown]
    assert shape(parsed(b"".join(events))) == shape(shown)


@each
def test_another_telling_is_not_shown(endpoint: str):
    telling = told_of(endpoint, stream_of(endpoint, 1, words("one ", "two "), ended=False))
    assert ("one two ", True) == (telling.text, telling.in_text)

    with pytest.raises(Differs):
        rest_of(endpoint, telling, stream_of(endpoint, 2, [*words("one ", "ton"), STOP]))
    with pytest.raises(Differs):
        rest_of(endpoint, telling, stream_of(endpoint, 2, [*words("one "), STOP]))


@each
def test_what_cannot_be_read_is_not_gone_on_with(endpoint: str):
    """Something may be missing then, on either side."""
    before = stream_of(endpoint, 1, words("one "), ended=False)
    odd = b'event: odd\ndata: {"choices":[{"text":7}],"delta":[]\n\n'

    assert told_of(endpoint, before).in_text
    assert not told_of(endpoint, [*before, odd]).in_text
    with pytest.raises(Differs):
        rest_of(endpoint, told_of(endpoint, before), [odd])


@each_that_chats
@pytest.mark.parametrize(
    "more", [ChatDelta(tool=CALL), ChatDelta(refusal="rather not")], ids=["a call", "a refusal"]
)
def test_only_text_is_gone_on_with(endpoint: str, more: ChatDelta):
    """In Anthropic's dialect a refusal is text as long as it has not ended."""
    events = stream_of(endpoint, 1, [more], ended=False)

    assert (endpoint == "/v1/messages" and more.tool is None) == told_of(endpoint, events).in_text


@each
def test_thoughts_stay_the_first_ones(endpoint: str):
    thought = [ChatDelta(reasoning=ReasoningDelta(text="hm "))]
    before = stream_of(endpoint, 1, [*thought, *words("one ")], ended=False)
    telling = told_of(endpoint, before)

    out = rest_of(endpoint, telling, stream_of(endpoint, 2, [*thought, *words("one two "), STOP]))

    assert (endpoint != "/v1/completions") == telling.thought
    deltas = deltas_in(endpoint, b"".join(before) + out)
    assert "one two " == "".join(delta.text or "" for delta in deltas)
    said = [delta.reasoning.text for delta in deltas if delta.reasoning]
    assert ("hm " if telling.thought else "") == "".join(said)


@each_that_chats
def test_a_tool_call_after_what_was_told_goes_out(endpoint: str):
    """It is one target's own from its first byte to its last."""
    before = stream_of(endpoint, 1, words("let me "), ended=False)
    call = [
        ChatDelta(tool=CALL),
        ChatDelta(tool=ToolDelta(index=0, arguments='{"at":')),
        ChatDelta(tool=ToolDelta(index=0, arguments="1}")),
        ChatDelta(finish=FinishReason.TOOL_CALLS),
    ]
    second = stream_of(endpoint, 2, [*words("let me ", "look"), *call])

    out = rest_of(endpoint, told_of(endpoint, before), second)

    tools = [delta.tool for delta in deltas_in(endpoint, b"".join(before) + out) if delta.tool]
    assert ("call_1", "look") == (tools[0].id, tools[0].name)
    assert '{"at":1}' == "".join(tool.arguments for tool in tools)


def message_events(*blocks: dict[str, object]) -> bytes:
    """The beginning of a message whose blocks have ended, all but the last one."""
    message = {"id": "msg_1", "model": "m", "usage": {"input_tokens": 1}}
    events: list[tuple[str, dict[str, object]]] = [("message_start", {"message": message})]
    for index, block in enumerate(blocks):
        events += [("content_block_stop", {"index": index - 1})] if index else []
        events.append(("content_block_start", {"index": index, "content_block": block}))
        if block["type"] == "text":
            delta = {"type": "text_delta", "text": f"text {index} "}
            events.append(("content_block_delta", {"index": index, "delta": delta}))
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode({"type": name, **more}))
        for name, more in events
    )


WORDS = {"type": "text", "text": ""}
THOUGHT = {"type": "redacted_thinking", "data": "x"}
NO_PROOF = {"type": "thinking", "thinking": "", "signature": ""}
SEARCH = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}


@pytest.mark.parametrize(
    ("blocks", "is_open"),
    [
        ((WORDS,), True),
        ((THOUGHT, WORDS), True),
        ((WORDS, WORDS), False),
        ((SEARCH, WORDS), False),
        ((NO_PROOF, WORDS), False),
        ((WORDS, THOUGHT), False),
    ],
)
def test_a_message_goes_on_in_its_block(blocks: tuple[dict[str, object], ...], *, is_open: bool):
    """Or not at all, where the blocks before it have no words of their own here."""
    telling = told_of("/v1/messages", [message_events(*blocks)])

    assert is_open == telling.in_text
    if is_open:
        more = stream_of("/v1/messages", 2, [*words(telling.text, "more"), STOP])
        out = rest_of("/v1/messages", telling, more)
        assert {len(blocks) - 1} == {event["index"] for event in parsed(out) if "index" in event}
        assert b"content_block_start" not in out


@pytest.mark.parametrize("pieces", [[], [""]], ids=["no word", "an empty one"])
def test_a_block_without_a_word_is_not_begun_twice(pieces: list[str]):
    told = message_events(WORDS).partition(b"event: content_block_delta")[0]
    for piece in pieces:
        delta = {"type": "text_delta", "text": piece}
        body = {"type": "content_block_delta", "index": 0, "delta": delta}
        told += b"event: content_block_delta\ndata: %b\n\n" % msgspec.json.encode(body)
    telling = told_of("/v1/messages", [told])

    out = rest_of("/v1/messages", telling, stream_of("/v1/messages", 2, [*words("one"), STOP]))

    assert b"content_block_start" not in out
    assert "one" == "".join(delta.text or "" for delta in deltas_in("/v1/messages", told + out))


def test_a_chats_words_are_no_completion():
    """Its scanner counts them; what goes on must not tell them again."""
    told = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"one"}}]}\n\n'

    assert not told_of("/v1/completions", [told]).in_text


def test_a_message_of_a_response_keeps_what_it_began_with():
    phase = b'"content":[],"phase":"final_answer"'
    before = [
        event.replace(b'"content":[]', phase)
        for event in stream_of("/v1/responses", 1, words("one "), ended=False)
    ]

    out = rest_of(
        "/v1/responses",
        told_of("/v1/responses", before),
        stream_of("/v1/responses", 2, [*words("one ", "two"), STOP]),
    )

    (message,) = parsed(out)[-1]["response"]["output"]
    assert ("final_answer", "one two") == (message["phase"], message["content"][0]["text"])
