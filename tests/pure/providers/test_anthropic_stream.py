"""Claude's stream says what its whole answer says, and a cut one never looks whole."""

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.response import ChatDelta, fold
from shared.chat.usage import Usage
from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.anthropic_relay import MessagesScanner
from shared.providers.dialects.anthropic_render import MessagesRenderer
from shared.providers.dialects.anthropic_stream import AnthropicDecoder, parse_response
from shared.providers.dialects.openai_chat import OpenAIDecoder
from shared.providers.dialects.openai_render import OpenAIRenderer
from shared.providers.translation import Asked, TranslatingScanner
from tests.fakes.vendors.anthropic import SIGNATURE, _cut, event

PLAIN = Asked()
HEAD = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [],
    "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 1},
}
COUNTED = {"output_tokens": 9}
TEXT = {"type": "text", "text": "Hello, brave new world"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"city": "Köln", "n": [1]}}
BARE = {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}}
THOUGHT = {"type": "thinking", "thinking": "hm, well", "signature": SIGNATURE}
HIDDEN = {"type": "thinking", "thinking": "", "signature": SIGNATURE}
REDACTED = {"type": "redacted_thinking", "data": "opaque"}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"q": "x"}}
CITATION = {
    "type": "web_search_result_location",
    "url": "https://a.org",
    "title": "A",
    "cited_text": "a",
    "encrypted_index": "e",
}
PLACE = {"type": "char_location", "document_index": 0, "start_char_index": 1, "cited_text": "b"}
CITED = {"type": "text", "text": "It is so.", "citations": [CITATION, PLACE]}


def whole(*blocks, stop_reason="end_turn", **fields):
    usage = {**HEAD["usage"], **COUNTED}
    body = {**HEAD, "content": blocks, "stop_reason": stop_reason, "usage": usage, **fields}
    return json.dumps(body).encode()


def events(*blocks, stop_reason="end_turn", **fields):
    """The events of a stream of these blocks."""
    yield event("message_start", message=HEAD)
    for index, block in enumerate(blocks):
        citations = block.get("citations", [])
        opening, deltas = _cut({k: v for k, v in block.items() if k != "citations"})
        yield event("content_block_start", index=index, content_block=opening)
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        for citation in citations:
            told = {"type": "citations_delta", "citation": citation}
            yield event("content_block_delta", index=index, delta=told)
        yield event("content_block_stop", index=index)
    ended = {"stop_reason": stop_reason, "stop_sequence": None, **fields}
    yield event("message_delta", delta=ended, usage=COUNTED)
    yield event("message_stop")


def decoded(pieces, asked=PLAIN):
    """All that the decoder makes of a stream."""
    decoder = AnthropicDecoder(asked)
    deltas = []
    for piece in pieces:
        found = decoder.feed(piece)
        deltas += found.deltas
        if found.error is not None:
            raise found.error
        if found.ended:
            return deltas
    return [*deltas, *decoder.finish().deltas]


def normal(response):
    """The answer with arguments as values: a stream's JSON text has other spaces."""
    choice = response.choices[0]
    calls = [
        msgspec.structs.replace(call, arguments=json.dumps(json.loads(call.arguments)))
        if call.kind == "function"
        else call
        for call in choice.tool_calls
    ]
    choice = msgspec.structs.replace(choice, tool_calls=tuple(calls), text=choice.text or None)
    return msgspec.structs.replace(response, choices=(choice,))


@pytest.mark.behaviour(110, 151)
@pytest.mark.parametrize(
    ("blocks", "ending"),
    [
        ([TEXT], {}),
        ([], {}),
        ([THOUGHT, REDACTED, TEXT, CALL, BARE], {"stop_reason": "tool_use"}),
        ([HIDDEN, TEXT], {"stop_reason": "stop_sequence", "stop_sequence": "END"}),
        ([SEARCH, TEXT, CITED], {"stop_reason": "pause_turn"}),
        ([], {"stop_reason": "refusal", "stop_details": {"explanation": "No."}}),
        ([TEXT], {"stop_reason": "model_context_window_exceeded"}),
        ([TEXT], {"stop_reason": "a_new_reason"}),
    ],
    ids=["text", "nothing", "all", "hidden", "cited", "refusal", "window", "new"],
)
def test_a_stream_says_what_the_whole_says(blocks, ending):
    streamed = fold(decoded(events(*blocks, **ending)))

    assert normal(parse_response(whole(*blocks, **ending), PLAIN)) == normal(streamed)


@pytest.mark.behaviour(89)
def test_citations_are_annotations_of_their_text():
    (choice,) = parse_response(whole(TEXT, CITED), PLAIN).choices

    start, end = len(TEXT["text"]), len(TEXT["text"]) + len(CITED["text"])
    url, place = choice.annotations
    assert {
        "type": "url_citation",
        "url_citation": {
            "url": "https://a.org",
            "title": "A",
            "start_index": start,
            "end_index": end,
        },
    } == url
    assert "char_location" == place["citation"]["type"]


@pytest.mark.behaviour(89)
def test_work_of_hosted_tools_is_kept_apart():
    answer = parse_response(whole(SEARCH, TEXT, container={"id": "c"}), PLAIN)

    assert {"content_blocks": [SEARCH], "container": {"id": "c"}} == answer.extra


@pytest.mark.behaviour(89, 93)
@pytest.mark.parametrize(("piece", "given"), [('"x"}', {"q": "x"}), ('"x', '{"q": "x')])
def test_what_a_hosted_tool_is_given_is_no_call_of_the_callers(piece, given):
    """Its input comes in the same deltas as that of a call that the caller is to make."""
    head, opened, *rest = events({**SEARCH, "input": {}}, CALL, stop_reason="tool_use")
    pieces = [{"type": "input_json_delta", "partial_json": text} for text in ("", '{"q": ', piece)]
    deltas = [event("content_block_delta", index=0, delta=delta) for delta in pieces]
    answer = fold(decoded([head, opened, *deltas, *rest]))

    assert ["toolu_1"] == [call.id for call in answer.choices[0].tool_calls]
    assert {"content_blocks": [{**SEARCH, "input": given}]} == answer.extra


@pytest.mark.behaviour(89)
def test_what_is_told_besides_is_shown_in_streams_too():
    """Once, at the latest with the usage: clients that ask for none see it with the finish."""
    deltas = decoded(events(SEARCH, TEXT))
    extra = {"extra": {"content_blocks": [SEARCH]}}
    renderer = OpenAIRenderer(include_usage=True)
    chunks = [renderer.render([delta]) for delta in deltas]
    finish = json.loads(list(filter(None, chunks))[-1].removeprefix(b"data: "))
    late = renderer.render([ChatDelta(extra={"trace": 1})]) + renderer.closing(Usage(), None)
    messages = MessagesRenderer(lambda prefix: prefix)
    told = messages.render(deltas) + messages.closing(None, None)

    assert ("stop", extra) == (finish["choices"][0]["finish_reason"], finish["sluiceway"])
    assert b'"sluiceway":{"cost_usd":null,"extra":{"trace":1}}' in late
    assert msgspec.json.encode(extra) in told


@pytest.mark.behaviour(71)
@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ],
)
def test_stop_reasons(reason, finish):
    (choice,) = parse_response(whole(TEXT, stop_reason=reason), PLAIN).choices

    assert finish == choice.finish.value


WRAPPED = {"type": "tool_use", "id": "toolu_1", "name": "sql", "input": {"input": "select 'ü'"}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("call", "text"),
    [(WRAPPED, "select 'ü'"), ({**WRAPPED, "input": {"other": 1}}, '{"other":1}')],
    ids=["wrapped", "not wrapped"],
)
def test_custom_tools_get_their_text_bare(call, text, stream):
    asked = Asked(custom_tools=frozenset({"sql"}), tool_names={"sql": "s.q.l"})
    answer = fold(decoded(events(call), asked)) if stream else parse_response(whole(call), asked)

    (made,) = answer.choices[0].tool_calls
    assert ("custom", "s.q.l", text) == (made.kind, made.name, made.arguments.replace(" 1", "1"))


JSON_TOOL = {"type": "tool_use", "id": "toolu_1", "name": "answer", "input": {"a": 1}}


@pytest.mark.behaviour(60)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("blocks", "text", "calls", "finish"),
    [
        ([JSON_TOOL], {"a": 1}, 0, "stop"),
        ([TEXT, JSON_TOOL], {"a": 1}, 0, "stop"),
        ([JSON_TOOL, {**JSON_TOOL, "input": {"a": 2}}], {"a": 1}, 0, "stop"),
        ([JSON_TOOL, CALL], {"a": 1}, 1, "tool_calls"),
        ([{"type": "text", "text": '{"a": 3}'}], {"a": 3}, 0, "stop"),
    ],
    ids=["alone", "with words", "twice", "with a call", "not called"],
)
def test_the_tool_that_stands_for_json_is_text(blocks, text, calls, finish, stream):
    """Words around it would spoil the JSON; without it they are the answer."""
    asked = Asked(json_tool="answer")
    reason = "end_turn" if blocks[0]["type"] == "text" and len(blocks) == 1 else "tool_use"
    answer = (
        fold(decoded(events(*blocks, stop_reason=reason), asked))
        if stream
        else parse_response(whole(*blocks, stop_reason=reason), asked)
    )

    (choice,) = answer.choices
    assert text == json.loads(choice.text)
    assert (calls, finish) == (len(choice.tool_calls), choice.finish.value)


NEW_BLOCK = {"type": "new_result", "text": {"not": "text"}, "input": 7}


@pytest.mark.behaviour(89)
def test_what_is_not_known_yet_breaks_nothing():
    """Whatever its fields: blocks are kept apart, events are relayed unread."""
    pieces = list(events(TEXT))
    news = event("new_event", index="x", delta=[1])
    block = event("content_block_start", index=7, content_block=NEW_BLOCK)
    delta = event("content_block_delta", index=7, delta={"type": "new_delta", "x": 1})
    streamed = [pieces[0], news, block, delta, *pieces[1:]]

    answer = fold(decoded(streamed))
    assert TEXT["text"] == answer.choices[0].text
    assert {"content_blocks": [NEW_BLOCK]} == answer.extra
    assert answer.extra == parse_response(whole(NEW_BLOCK, TEXT), PLAIN).extra
    assert b"".join(streamed) == run(streamed)[0]


@pytest.mark.parametrize("block", [7, {"type": "text", "text": 7}], ids=str)
def test_a_block_of_no_form_is_a_failure(block):
    with pytest.raises(UpstreamError):
        parse_response(whole(block), PLAIN)


def test_a_stream_may_end_after_its_stop_reason():
    """The end mark is missing at times; the answer is whole."""
    pieces = list(events(TEXT))[:-1]
    scanner = MessagesScanner()
    for piece in pieces:
        assert scanner.feed(piece).error is None

    assert scanner.finish().error is None
    assert TEXT["text"] == fold(decoded(pieces)).choices[0].text


BROKEN = [
    (b"event: message_start\ndata: {\n\n", FailureKind.MALFORMED),
    (b"data: " + whole(TEXT) + b"\n\n", FailureKind.MALFORMED),
    (whole(TEXT), FailureKind.MALFORMED),
    (event("message_start", message=HEAD) + event("message_stop"), FailureKind.MALFORMED),
    (event("error", error={"type": "api_error", "message": "x"}), FailureKind.SERVER_ERROR),
    (
        b'data: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n',
        FailureKind.OVERLOADED,
    ),
    (
        b'{"type":"error","error":{"type":"rate_limit_error","message":"x"}}',
        FailureKind.RATE_LIMITED,
    ),
    (b"event: error\ndata: gone\n\n", FailureKind.SERVER_ERROR),
    (b"data: " + b"x" * 3_000_000, FailureKind.MALFORMED),
    (b"", FailureKind.MALFORMED),
    (b"".join(list(events(TEXT))[:4]), FailureKind.MALFORMED),
    (event("message_start", message=HEAD) + event("content_block_start", index=0, content_block=7),
     FailureKind.MALFORMED),
]  # fmt: skip


def scanners():
    return [
        MessagesScanner("sk-secret"),
        TranslatingScanner(AnthropicDecoder(PLAIN), OpenAIRenderer(include_usage=False)),
    ]


@pytest.mark.behaviour(123, 125)
@pytest.mark.parametrize(("raw", "kind"), BROKEN[:-1])
@pytest.mark.parametrize("which", [0, 1], ids=["relay", "translate"])
def test_a_broken_stream_says_so(raw, kind, which):
    scanner = scanners()[which]
    error = scanner.feed(raw).error or scanner.finish().error

    assert kind is error.kind


def test_a_block_that_is_none_breaks_a_translation():
    with pytest.raises(UpstreamError):
        decoded([BROKEN[-1][0]])


def run(pieces):
    """The relayed bytes and what was learnt."""
    scanner = MessagesScanner()
    out, contents = [], 0
    for piece in pieces:
        scan = scanner.feed(piece)
        assert scan.error is None
        out.append(scan.out)
        contents += scan.content_events
    assert scanner.finish().error is None
    return b"".join([*out, scanner.closing("0.1")]), contents, scanner


ALL = [THOUGHT, REDACTED, TEXT, CALL]


@pytest.mark.behaviour(163)
def test_the_relay_sends_on_what_came():
    """Each event has its name, and the end mark comes once, at the end."""
    sent = [*events(*ALL, stop_reason="tool_use")]
    plain = [piece.partition(b"\n")[2] for piece in sent]
    pinged = [sent[0], event("ping"), b": comment\n\n", *sent[1:]]

    out, contents, scanner = run(sent)

    assert b"".join(sent) == out == run(plain)[0]
    assert out.replace(sent[0], sent[0] + event("ping")) == run(pinged)[0]
    marks = (b'"text_delta"', b'"thinking_delta"', b'"input_json_delta"', b'"tool_use","id"')
    empty = b'"partial_json":""'
    assert contents == sum(any(m in p for m in marks) and empty not in p for p in sent)
    assert (7, 9, 2) == (
        scanner.usage.input_tokens,
        scanner.usage.output_tokens,
        scanner.usage.cache_read_tokens,
    )
    assert "claude-sonnet-4-5" == scanner.model


def test_what_a_cut_stream_used_is_an_estimate():
    scanner = MessagesScanner()
    for piece in list(events(TEXT))[:3]:
        scanner.feed(piece)

    assert (7, True) == (scanner.usage.input_tokens, scanner.usage.estimated)


def test_a_scanner_that_has_ended_looks_at_nothing_more():
    scanner = MessagesScanner()
    scanner.feed(b"".join(events(TEXT)) + b"event: error\ndata: {}\n\n")

    scan = scanner.feed(b"event: error\ndata: {}\n\n")
    assert (b"", True, None) == (scan.out, scan.ended, scan.error)


@pytest.mark.behaviour(111)
@given(cuts=st.lists(st.integers(0, 3_000), max_size=12))
def test_however_the_bytes_are_cut(cuts):
    raw = b"".join(events(*ALL, stop_reason="tool_use"))
    at = sorted({0, len(raw), *(cut % len(raw) for cut in cuts)})
    pieces = [raw[a:b] for a, b in pairwise(at)]

    assert run([raw])[:2] == run(pieces)[:2]
    assert decoded([raw]) == decoded(pieces)


@pytest.mark.behaviour(115)
def test_a_long_line_passes():
    long = {**CALL, "input": {"text": "ü" * 500_000}}
    opening = event("content_block_start", index=0, content_block={**long, "input": {}})
    told = {
        "type": "input_json_delta",
        "partial_json": json.dumps(long["input"], ensure_ascii=False),
    }
    _, *_, ended, stop = events(stop_reason="tool_use")
    raw = b"".join([
        event("message_start", message=HEAD),
        opening,
        event("content_block_delta", index=0, delta=told),
        event("content_block_stop", index=0),
        ended,
        stop,
    ])  # fmt: skip
    renderer = OpenAIRenderer(include_usage=False)
    out = renderer.render(decoded([raw])) + renderer.closing(None, None)

    (call,) = fold(OpenAIDecoder().feed(out).deltas).choices[0].tool_calls
    assert long["input"] == json.loads(call.arguments)
