"""Bedrock's answers, whole and in frames, and the frames themselves."""

import base64
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.response import FinishReason, fold
from shared.chat.usage import Usage
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.bedrock import BEDROCK, parse_response
from shared.providers.dialects.bedrock_frames import BrokenFrame, FrameParser
from shared.providers.dialects.bedrock_media import redacted
from shared.providers.dialects.bedrock_stream import BedrockDecoder
from shared.providers.translation import Asked
from tests.fakes.aws_frames import event, frame
from tests.fakes.vendors.bedrock import REDACTED, SIGNATURE, USAGE, frames

CLAUDE = Asked(model="anthropic.claude-sonnet-4-5-20250929-v1:0")
TEXT = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "x"}})


def whole(blocks, asked=CLAUDE, stop="end_turn", **more):
    message = {"role": "assistant", "content": blocks}
    body = {"output": {"message": message}, "stopReason": stop, "usage": USAGE, **more}
    return parse_response(json.dumps(body).encode(), asked)


def streamed(blocks, asked=CLAUDE, stop="end_turn"):
    decoded = BedrockDecoder(asked).feed(b"".join(frames(blocks, stop)))
    assert (True, None) == (decoded.ended, decoded.error)
    return fold(decoded.deltas)


TEXTS = st.builds(lambda words: {"text": " ".join(words)}, st.lists(st.just("wörd"), min_size=1))
TOOLS = st.builds(
    lambda given: {"toolUse": {"toolUseId": "t", "name": "f", "input": given}},
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
THOUGHTS = st.sampled_from(
    [
        {"reasoningContent": {"reasoningText": {"text": "hm hm", "signature": SIGNATURE}}},
        {"reasoningContent": {"redactedContent": base64.b64encode(REDACTED.encode()).decode()}},
    ]
)


@pytest.mark.behaviour(110)
@given(
    blocks=st.lists(st.one_of(TEXTS, TOOLS, THOUGHTS), max_size=5),
    stop=st.sampled_from(["end_turn", "max_tokens", "tool_use", "guardrail_intervened"]),
)
def test_an_answer_means_the_same_whole_and_streamed(blocks, stop):
    assert whole(blocks, stop=stop) == streamed(blocks, stop=stop)


@pytest.mark.behaviour(88)
@pytest.mark.parametrize("content", [b"plain", "w\u00f6rd".encode(), b"\x00\xff\xfe"])
def test_a_redacted_thought_goes_back_byte_for_byte(content):
    """Text or not, and wherever a stream cuts it."""
    cuts = [content[:2], content[2:]]
    pieces = [
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": one}})
        for one in ({"redactedContent": base64.b64encode(cut).decode()} for cut in cuts)
    ]
    stopped = event("messageStop", {"stopReason": "end_turn"})
    block = {"reasoningContent": {"redactedContent": base64.b64encode(content).decode()}}
    (thought,) = whole([block]).choices[0].reasoning

    assert (thought,) == fold(
        BedrockDecoder(CLAUDE).feed(b"".join([*pieces, stopped])).deltas
    ).choices[0].reasoning
    assert block == redacted(thought.signature)


@pytest.mark.parametrize(
    ("stop", "called", "finish"),
    [
        ("end_turn", True, FinishReason.TOOL_CALLS),
        ("tool_use", False, FinishReason.STOP),
        ("max_tokens", True, FinishReason.LENGTH),
        ("model_context_window_exceeded", False, FinishReason.LENGTH),
        ("content_filtered", True, FinishReason.CONTENT_FILTER),
        ("a_new_word", False, FinishReason.STOP),
    ],
)
def test_why_it_stopped(stop, called, finish):
    calls = [{"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}] if called else []

    assert finish is whole([{"text": "x"}, *calls], stop=stop).choices[0].finish


def test_a_tool_of_free_text_gives_it_back_as_it_was():
    asked = Asked(model="amazon.nova-pro-v1:0", custom_tools=frozenset({"sh"}))
    blocks = [{"toolUse": {"toolUseId": "t", "name": "sh", "input": {"input": "ls -a"}}}]

    for answer in (whole(blocks, asked), streamed(blocks, asked)):
        [call] = answer.choices[0].tool_calls
        assert ("custom", "ls -a") == (call.kind, call.arguments)


def test_a_text_instead_of_the_form_is_the_answer():
    """A model that ignores the tool it was to answer by: its words are not lost."""
    asked = Asked(model="amazon.nova-pro-v1:0", json_tool="respond_with_json")

    for answer in (whole([{"text": "No way."}], asked), streamed([{"text": "No way."}], asked)):
        assert ("No way.", FinishReason.STOP) == (answer.choices[0].text, answer.choices[0].finish)


def test_cited_texts_are_texts_and_their_sources_are_kept():
    source = {"title": "A", "location": {"web": {"url": "https://x.example"}}}
    cited = {"citationsContent": {"content": [{"text": "So."}], "citations": [source]}}

    answer = whole([cited, {"video": {}}])

    assert ("So.", {"citations": [source]}) == (answer.choices[0].text, answer.extra)


def test_sources_come_in_streams_too():
    source = {"title": "A"}
    cited = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"citation": source}})
    unknown = event("somethingNew", {"x": 1})
    end = b"".join(frames([{"text": "So."}]))

    assert {"citations": [source]} == fold(
        BedrockDecoder(CLAUDE).feed(cited + unknown + end).deltas
    ).extra


def test_blocks_that_no_event_closed_are_closed_at_the_end():
    start = {"toolUse": {"toolUseId": "t", "name": "f"}}
    raw = event("contentBlockStart", {"contentBlockIndex": 0, "start": start})
    raw += event("messageStop", {"stopReason": "tool_use"})

    decoder = BedrockDecoder(CLAUDE)
    [call] = fold(decoder.feed(raw).deltas).choices[0].tool_calls

    assert "{}" == call.arguments
    assert None is decoder.finish().error


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"output":{}}', b"\xff", b"<html>"])
def test_what_is_no_answer_is_malformed(body):
    with pytest.raises(UpstreamError) as caught:
        parse_response(body, CLAUDE)

    assert FailureKind.MALFORMED is caught.value.kind


@pytest.mark.parametrize(
    ("media_type", "refused"),
    [("application/vnd.amazon.eventstream", False), ("text/html", True), ("text/plain", True)],
)
def test_a_stream_of_another_kind_is_refused_at_the_door(media_type, refused):
    assert refused is (BEDROCK.refuse_head({"content-type": media_type}) is not None)


@pytest.mark.parametrize("at", [0, 3, 8, 11, 20, len(TEXT) - 10, len(TEXT) - 1])
def test_a_changed_byte_anywhere_ends_the_stream(at):
    raw = bytearray(TEXT)
    raw[at] ^= 0x01

    assert FailureKind.MALFORMED is BedrockDecoder(CLAUDE).feed(bytes(raw)).error.kind


def test_headers_of_other_types_are_passed_over():
    head = (
        b"\x01a\x00" + b"\x01b\x04\x00\x00\x00\x01" + b"\x01c\x06\x00\x02xy" + b"\x01d\x07\x00\x01z"
    )
    prelude = (16 + len(head)).to_bytes(4, "big") + len(head).to_bytes(4, "big")
    raw = prelude + zlib.crc32(prelude).to_bytes(4, "big") + head
    raw += zlib.crc32(raw).to_bytes(4, "big")

    [found] = FrameParser().feed(raw)

    assert ({"d": "z"}, b"") == (found.headers, found.payload)


@pytest.mark.parametrize("length", [0, 15, 2**31])
def test_lengths_that_cannot_be_are_not_waited_for(length):
    prelude = length.to_bytes(4, "big") + b"\x00\x00\x00\x00"

    with pytest.raises(BrokenFrame):
        FrameParser().feed(prelude + zlib.crc32(prelude).to_bytes(4, "big"))


def test_an_error_frame_says_what_it_is():
    headers = {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "oh"}

    error = BedrockDecoder(CLAUDE).feed(frame(headers, {})).error

    assert (FailureKind.SERVER_ERROR, "oh") == (error.kind, error.message)


def test_an_event_that_is_not_json_ends_the_stream():
    raw = frame({":message-type": "event", ":event-type": "metadata"}, [1])

    assert FailureKind.MALFORMED is BedrockDecoder(CLAUDE).feed(raw).error.kind


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        ({"inputTokens": None, "outputTokens": 5}, Usage(output_tokens=5)),
        ({"inputTokens": -4, "outputTokens": 5}, Usage(output_tokens=5)),
        ({"inputTokens": 4.0, "outputTokens": 5}, Usage(input_tokens=4, output_tokens=5)),
        ({"inputTokens": 4, "outputTokens": "x"}, Usage(input_tokens=4, estimated=True)),
        (
            {
                "inputTokens": 4,
                "outputTokens": 5,
                "cacheReadInputTokens": "x",
                "cacheWriteInputTokens": 10,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 6.0}, {"ttl": None}, 7],
            },
            Usage(input_tokens=14, output_tokens=5, cache_write_tokens=10, cache_write_1h_tokens=6),
        ),
        ({"inputTokens": "x", "outputTokens": None}, None),
        ([5], None),
    ],
)
def test_a_count_that_is_none_costs_no_other(told, counted):
    read = whole([{"text": "x"}], usage=told)
    last = event("metadata", {"usage": told})
    ended = BedrockDecoder(CLAUDE).feed(TEXT + event("messageStop", {}) + last)

    assert "x" == read.choices[0].text
    assert (counted, None) == (read.usage, ended.error)
    assert counted == ended.deltas[-1].usage


def test_what_else_is_wrong_stays_wrong():
    with pytest.raises(UpstreamError):
        whole(5, usage={"inputTokens": None})


def test_usage_survives_a_missing_part():
    assert None is whole([{"text": "x"}], usage=None).usage
    counted = whole([{"text": "x"}], usage={"inputTokens": 3, "outputTokens": 1}).usage
    assert (3, 1, 0) == (counted.input_tokens, counted.output_tokens, counted.cache_read_tokens)


def test_counts_below_zero_are_none():
    told = {"inputTokens": 3, "outputTokens": -1, "cacheReadInputTokens": -5}
    counted = whole([{"text": "x"}], usage={**told, "cacheWriteInputTokens": 4}).usage

    assert (7, 0, 0, 4) == (
        counted.input_tokens,
        counted.output_tokens,
        counted.cache_read_tokens,
        counted.cache_write_tokens,
    )
