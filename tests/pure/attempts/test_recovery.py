"""Going on with a broken stream: what was told, and what of another telling is new."""

import json
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.attempts.prefill import prefilled
from shared.attempts.recovery import Differs, Splice, Telling, Told
from shared.gateway.recovery import completes, may_recover
from shared.providers.request import InferenceRequest, RequestHead
from shared.providers.target import Target
from tests.fakes.scripted import tool_call_pieces
from tests.fakes.upstream import DONE, chunk, events

CHAT = "/v1/chat/completions"
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)


def request_of(**body: object) -> InferenceRequest:
    raw = {"model": "m", "messages": [{"role": "user", "content": "tell"}], "stream": True, **body}
    return InferenceRequest(
        endpoint=CHAT, dialect="openai", raw=json.dumps(raw).encode(), head=RequestHead(model="m")
    )


def told_of(*pieces: bytes) -> Telling:
    told = Told(CHAT)
    for piece in pieces:
        told.add(piece)
    return told.so_far()


def text_in(out: bytes) -> str:
    found = [json.loads(one[6:]) for one in out.split(b"\n\n") if one and one != DONE.strip()]
    deltas = [choice["delta"] for one in found for choice in one["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def rest_of(told: Telling, pieces: Sequence[bytes], said: str = "") -> str:
    """Return what of the second telling goes out."""
    splice = Splice(told, request_of(), said)
    out = b"".join(splice.take(piece) for piece in pieces)
    return text_in(out + splice.closing(b"", None, None))


def cut(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    pieces = []
    for length in lengths:
        pieces.append(data[:length])
        data = data[length:]
    return [*pieces, data]


@given(
    words=st.lists(TEXTS, min_size=1, max_size=8),
    told=st.integers(0, 40),
    lengths=st.lists(st.integers(0, 90), max_size=8),
    prefill=st.booleans(),
)
def test_what_was_told_and_the_rest_are_the_answer(
    *, words: list[str], told: int, lengths: list[int], prefill: bool
):
    """However the answer is divided into events, and its bytes into pieces."""
    text = "".join(words)
    before = text[:told]
    telling = told_of(*[piece for piece in cut(chunk({"content": before}), lengths) if piece])
    said = before if prefill else ""
    left = text[len(said) :]
    stream = b"".join(events([left[:3], left[3:]] if prefill else words))

    rest = rest_of(telling, cut(stream, lengths), said)

    assert before == telling.text
    if not prefill or not left.startswith(before) or len(before) < 16:
        assert text == before + rest


@pytest.mark.parametrize(
    "second", [["one ", "other"], ["one"], ["one ", "tw"], []], ids=["other", "begun", "part", "no"]
)
def test_another_telling_is_not_shown(second: list[str]):
    """Nor one that ends before what was told does."""
    telling = told_of(*events(["one ", "two ", "three"])[:-2])

    with pytest.raises(Differs):
        rest_of(telling, events(second))


def test_the_first_head_stays():
    """One stream has one id and one model."""
    telling = told_of(chunk({"content": "one "}))
    splice = Splice(telling, request_of(), "one ")

    out = splice.take(chunk({"role": "assistant", "content": "two"}).replace(b"fake-1", b"other-2"))

    (event,) = [json.loads(one[6:]) for one in out.split(b"\n\n") if one]
    assert ("chatcmpl-1", "fake-1") == (event["id"], event["model"])
    assert [{"content": "two"}] == [choice["delta"] for choice in event["choices"]]


NOT_TEXT = {
    "a tool call": tool_call_pieces(),
    "a refusal": (chunk({"refusal": "I'd rather not"}),),
    "the end": events(["one"])[:-1],
    "a second choice": (
        chunk({"content": "a"}),
        chunk(choices=[{"index": 1, "delta": {"content": "b"}}]),
    ),
}


@pytest.mark.parametrize("name", NOT_TEXT)
def test_only_text_is_gone_on_with(name: str):
    assert not told_of(*NOT_TEXT[name]).in_text


def test_a_whole_tool_call_after_what_was_told_goes_out():
    """It is one target's own from its first byte to its last."""
    telling = told_of(chunk({"content": "let me look"}))
    splice = Splice(telling, request_of(), "")

    out = b"".join(map(splice.take, [chunk({"content": "let me look"}), *tool_call_pieces()[1:]]))

    assert b'"name":"look"' in out
    assert b"let me look" not in out


def test_much_that_was_told_is_kept_as_text():
    """Not as the bytes it came in, and nothing is lost on the way."""
    words = [f"word{number} " for number in range(2_000)]

    telling = told_of(*events(words)[:-2])

    assert "".join(words) == telling.text
    assert len(telling.deltas) < 50


def test_no_white_space_at_the_end_where_it_is_refused():
    """The space is due, then: an answer that goes on with it does not say it twice."""
    telling = told_of(chunk({"content": "one "}))

    given_text, _ = prefilled(request_of(), telling.text, bare=True) or ("", b"")

    assert "one" == given_text
    assert "two" == rest_of(telling, events([" two"]), given_text)


TWO_ANSWERS = [
    {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"},
    {"index": 1, "delta": {"content": "b"}},
]


def test_one_answer_of_two_that_has_ended_is_not_the_end():
    telling = told_of(chunk(choices=TWO_ANSWERS))

    assert (False, False) == (telling.finished, telling.in_text)


@pytest.mark.parametrize(
    ("body", "may"),
    [
        ({"prompt": "a"}, True),
        ({"prompt": ["a"]}, True),
        ({"prompt": [1, 2]}, True),
        ({"prompt": [[1, 2]]}, True),
        ({"prompt": ["a", "b"]}, False),
        ({"prompt": [[1], [2]]}, False),
        ({"prompt": "a", "n": 2}, False),
        ({"prompt": "a", "best_of": 2}, True),
    ],
)
def test_only_one_answer_is_gone_on_with(body: dict[str, object], *, may: bool):
    head = msgspec.json.decode(json.dumps({"model": "m", **body}), type=RequestHead)
    request = InferenceRequest(endpoint="/v1/completions", dialect="", raw=b"", head=head)

    assert may == may_recover(request)


@pytest.mark.parametrize(
    ("kind", "told", "does"),
    [
        ("openai", None, True),
        ("vllm", None, True),
        ("vllm", False, False),
        ("openai_compatible", None, False),
        ("openai_compatible", True, True),
        ("anthropic", None, False),
        ("groq", True, False),
    ],
)
def test_who_goes_on_from_a_prompt(kind: str, *, told: bool | None, does: bool):
    """The config goes first, but nobody asks a model that chats to complete."""
    able = {} if told is None else {"prefill": told}

    assert does == completes(kind, Target(provider="p", model="m", capabilities=able))
