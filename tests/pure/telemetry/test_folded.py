"""A stream's events become the text they make, in every dialect that is served."""

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry.folded import folded


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)


def chunk(**delta: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta}]}


CHAT = sse(
    chunk(role="assistant", content="Hel"),
    chunk(content="lo jo@exam"),
    chunk(content="ple.org"),
    chunk(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a"'}}]),
    chunk(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
    {"choices": [], "usage": {"total_tokens": 7}},
)


def test_chat_is_folded():
    assert {
        "choices.0.content": "Hello jo@example.org",
        "choices.0.tool_calls.0.function.name": "f",
        "choices.0.tool_calls.0.function.arguments": '{"a": 1}',
        "usage": {"total_tokens": 7},
    } == folded([CHAT, b"data: [DONE]\n\n"])


@given(st.lists(st.integers(0, len(CHAT)), max_size=8))
def test_it_does_not_matter_how_the_bytes_are_cut(cuts):
    places = [0, *sorted(cuts), len(CHAT)]
    pieces = [CHAT[start:end] for start, end in pairwise(places)]

    assert folded([CHAT]) == folded(pieces)


def test_the_other_dialects_are_folded():
    messages = sse(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}},
    )
    responses = sse(
        {"type": "response.output_text.delta", "output_index": 0, "delta": "a"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "b"},
    )
    completions = sse({"choices": [{"index": 1, "text": "ab"}]})

    assert {"content.0.text": "ab"} == folded([messages])
    assert {"output.0.output_text": "ab"} == folded([responses])
    assert {"choices.1.text": "ab"} == folded([completions])


def test_an_error_at_the_end_is_kept():
    assert {"error": {"code": "stream_interrupted"}} == folded(
        [b"event: error\n", sse({"error": {"code": "stream_interrupted"}})]
    )


@given(st.binary(max_size=100))
def test_nothing_breaks_it(rubbish):
    assert isinstance(folded([b"data: ", rubbish, b'\ndata: {"choices": [1, {"delta": 2}]}']), dict)
