"""A cut stream never looks whole, and what is relayed is what came."""

import json

import pytest

from shared.errors import FailureKind
from shared.providers.dialects.openai_chat import OpenAIDecoder
from shared.providers.dialects.openai_mend import Mender
from shared.providers.dialects.openai_mended import MendingScanner
from shared.providers.dialects.openai_render import OpenAIRenderer
from shared.providers.dialects.openai_stream import OpenAIScanner
from shared.providers.translation import TranslatingScanner
from tests.fakes.upstream import DONE, chunk, events


def run(*pieces, **asked):
    scanner = OpenAIScanner(**asked)
    scans = [scanner.feed(piece) for piece in pieces]
    return scanner, [*scans, scanner.finish()]


def first_error(scans):
    return next((scan.error for scan in scans if scan.error is not None), None)


WHOLE = events(["Hel", "lo"])


def test_canonical_events_go_out_as_the_same_bytes():
    _, scans = run(*WHOLE)

    assert list(WHOLE[:-1]) == [scan.out for scan in scans][: len(WHOLE) - 1]
    assert first_error(scans) is None


def test_the_head_is_no_content():
    """The first token is the first text, not the role."""
    _, scans = run(*WHOLE)

    assert [0, 1, 1, 0, 0, 0] == [scan.content_events for scan in scans]


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"refusal": "x"},
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]},
        {"function_call": {"name": "f", "arguments": ""}},
    ],
    ids=lambda delta: next(iter(delta)),
)
def test_what_counts_as_content(delta):
    _, scans = run(chunk(delta))

    assert 1 == scans[0].content_events


@pytest.mark.parametrize(
    "delta",
    [
        {"role": "assistant"},
        {"content": ""},
        {"content": None},
        {"tool_calls": []},
        {"tool_calls": None},
    ],
    ids=str,
)
def test_what_does_not(delta):
    _, scans = run(chunk(delta))

    assert 0 == scans[0].content_events


@pytest.mark.behaviour(125)
@pytest.mark.parametrize("kept", range(len(WHOLE) - 2))
def test_a_stream_cut_before_its_finish_is_an_error(kept):
    _, scans = run(*WHOLE[:kept])

    assert FailureKind.MALFORMED is first_error(scans).kind


@pytest.mark.behaviour(125)
def test_a_stream_cut_inside_its_finish_is_an_error():
    whole = b"".join(WHOLE[:-1])
    _, scans = run(whole[:-10])

    assert FailureKind.MALFORMED is first_error(scans).kind


def test_an_end_mark_does_not_make_an_answer():
    _, scans = run(chunk({"content": "x"}), DONE)

    assert FailureKind.MALFORMED is first_error(scans).kind


def test_an_orderly_end_after_the_finish_is_whole_without_an_end_mark():
    """The caller still gets one."""
    scanner, scans = run(*WHOLE[:-1])

    assert first_error(scans) is None
    assert DONE == scanner.closing(None)


def test_one_of_two_choices_unfinished_is_an_error():
    other = chunk({"content": "b"}).replace(b'"index":0', b'"index":1')
    _, scans = run(chunk({"content": "a"}), other, chunk({}, "stop"))

    assert FailureKind.MALFORMED is first_error(scans).kind


@pytest.mark.behaviour(82)
@pytest.mark.parametrize(("end", "whole"), [((DONE,), True), ((), False)])
def test_an_empty_finish_reason_needs_the_end_mark(end, whole):
    """Some servers send it with every chunk, some only with the last."""
    _, scans = run(chunk({"content": "a"}, ""), *end)

    assert whole is (first_error(scans) is None)


@pytest.mark.behaviour(82)
@pytest.mark.parametrize(
    ("chunks", "whole"),
    [
        ([("", ""), ("a", None)], False),
        ([("a", ""), ("b", None), ("", None)], False),
        ([("a", ""), ("b", "")], True),
        ([("a", None), ("b", "")], True),
        ([("a", None), ("", ""), ("", None)], True),
        ([("", ""), ("a", None), ("", "stop")], True),
        ([("", ""), ("a", None), ("", "")], True),
    ],
)
def test_an_empty_finish_reason_is_none_of_what_comes_after_it(chunks, whole):
    """The words that follow show that it meant nothing: a cut behind them is a cut."""
    pieces = [chunk({"content": text}, finish) for text, finish in chunks]
    _, scans = run(*pieces, DONE)

    assert whole is (first_error(scans) is None)


@pytest.mark.behaviour(82)
def test_an_empty_finish_reason_is_that_of_its_choice():
    other = chunk({"content": "b"}).replace(b'"index":0', b'"index":1')
    _, scans = run(chunk({"content": "a"}, ""), other, DONE)

    assert FailureKind.MALFORMED is first_error(scans).kind


@pytest.mark.parametrize("reason", ["error", "network_error", "insufficient_system_resource"])
def test_finish_reasons_that_mean_failure(reason):
    _, scans = run(chunk({"content": "a"}), chunk({}, reason))

    assert FailureKind.SERVER_ERROR is first_error(scans).kind


@pytest.mark.parametrize(
    "garbage",
    [b"data: {\n\n", b"data: 7\n\n", b'data: {"model":"\xff"}\n\n', b"data: " + b"[" * 99_999],
    ids=["half", "number", "not UTF-8", "deep"],
)
def test_garbage_is_malformed_and_is_not_sent_on(garbage):
    _, scans = run(chunk({"content": "a"}), garbage + b"\n\n")

    assert FailureKind.MALFORMED is first_error(scans).kind
    assert b"" == b"".join(scan.out for scan in scans[1:])


@pytest.mark.behaviour(127)
def test_a_plain_json_error_with_status_200_is_that_error():
    _, scans = run(b'{"error":{"message":"slow down","type":"requests","code":"429"}}')

    error = first_error(scans)
    assert (FailureKind.RATE_LIMITED, 429) == (error.kind, error.status)


def test_a_giant_event_is_malformed():
    _, scans = run(b"data: " + b"x" * 3_000_000)

    assert FailureKind.MALFORMED is first_error(scans).kind


@pytest.mark.behaviour(115)
def test_a_long_event_passes():
    text = "x" * 1_000_000
    scanner, scans = run(chunk({"content": text}), *WHOLE[3:])

    assert first_error(scans) is None
    assert 1_000_000 == scanner.content_bytes


def test_nothing_after_the_end_mark_matters():
    _, scans = run(*WHOLE, b"data: {garbage\n\n")

    assert first_error(scans) is None


@pytest.mark.behaviour(104)
def test_later_chunks_without_usage_erase_nothing():
    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    scanner, _ = run(chunk({"content": "a"}, usage=usage), chunk({}, "stop"), DONE)

    assert 5 == scanner.usage.input_tokens


READERS = {
    "relay": OpenAIScanner,
    "mends": lambda: MendingScanner(Mender(model="m")),
    "translates": lambda: TranslatingScanner(OpenAIDecoder(), OpenAIRenderer(include_usage=False)),
}


COUNT = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
WITH_ROLE = {"role": "assistant", "content": "a"}


def tiered(content, tier, **more):
    return chunk(content, service_tier=tier, **more) if tier else chunk(content, **more)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("tiers", "kept"),
    [
        (["priority", None, None], "priority"),
        (["default", None, "priority"], "priority"),
        (["priority", "", ""], "priority"),
        (["x" * 80, None, None], "x" * 64),
        ([None, None, None], None),
    ],
)
def test_the_last_tier_told_is_that_of_the_stream(reader, tiers, kept):
    """Some tell it in every chunk, some in the first, and the counts come in the last."""
    first, second, last = tiers
    pieces = [
        tiered(WITH_ROLE, first),
        tiered({"content": "b"}, second),
        tiered({}, None, finish="stop"),
        tiered(None, last, usage=COUNT),
    ]
    cut, whole = READERS[reader](), READERS[reader]()
    for piece in pieces[:2]:
        cut.feed(piece)
    for piece in pieces:
        whole.feed(piece)

    assert kept == whole.usage.service_tier
    assert (None, first and first[:64]) == (cut.usage, cut.service_tier)


@pytest.mark.parametrize("reader", ["relay", "mends"])
def test_a_tier_may_come_late_or_be_none(reader):
    scanner = READERS[reader]()
    for tier in (None, "flex", "priority", 7):
        scanner.feed(tiered({"content": "b"}, tier))

    assert "priority" == scanner.service_tier


@pytest.mark.behaviour(103)
def test_zero_is_a_count():
    scanner, _ = run(*WHOLE[:-1], chunk(usage={"prompt_tokens": 0, "completion_tokens": 0}), DONE)

    assert (0, 0) == (scanner.usage.input_tokens, scanner.usage.output_tokens)


@pytest.mark.behaviour(100, 102)
def test_usage_beside_a_choice_is_told_in_the_last_chunk_alone():
    """Whoever adds up what chunks say would count it twice."""
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {}}
    pieces = [chunk({"content": "a"}), chunk({}, "stop", usage=usage), DONE]
    scanner, scans = run(*pieces, include_usage=True)

    (finish,) = [json.loads(scan.out[6:]) for scan in scans if b'"stop"' in scan.out]
    last = json.loads(scanner.closing(None).split(b"\n\n")[0][6:])
    assert (None, usage, []) == (finish["usage"], last["usage"], last["choices"])


@pytest.mark.parametrize(
    "scanner",
    [
        pytest.param(OpenAIScanner(include_usage=True), id="relays"),
        pytest.param(MendingScanner(Mender(), include_usage=True), id="mends"),
        pytest.param(
            TranslatingScanner(OpenAIDecoder(), OpenAIRenderer(include_usage=True)), id="translates"
        ),
    ],
)
def test_a_cost_is_told_where_nothing_was_counted(scanner):
    """The books have an estimate, and the caller asked what it came to."""
    for piece in WHOLE:
        scanner.feed(piece)
    head = json.loads(WHOLE[0][6:])

    last = json.loads(scanner.closing("0.00125").removesuffix(DONE)[6:])
    assert {
        **{name: head[name] for name in ("id", "object", "created", "model")},
        "choices": [],
        "usage": None,
        "sluiceway": {"cost_usd": 0.00125},
    } == last
    assert DONE == scanner.closing(None)


def test_no_cost_is_told_unless_asked():
    assert DONE == run(*WHOLE)[0].closing("0.00125")


@pytest.mark.behaviour(92)
def test_a_repeated_role_is_sent_once():
    _, scans = run(
        chunk({"role": "assistant", "content": "a"}), chunk({"role": "assistant", "content": "b"})
    )

    assert [1, 0] == [scan.out.count(b'"role"') for scan in scans[:2]]
    assert b'"delta":{"content":"b"}' in scans[1].out


def test_legacy_completions_are_read_too():
    raw = b'data: {"choices":[{"index":0,"text":"hi","finish_reason":null}]}\n\n'
    scanner, scans = run(raw, raw.replace(b"null", b'"stop"'), DONE)

    assert (1, 4) == (scans[0].content_events, scanner.content_bytes)
    assert first_error(scans) is None


def test_a_whole_answer_is_no_stream():
    """Its `message` would reach an SDK that waits for `delta`."""
    answer = (
        b'{"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop",'
        b'"message":{"role":"assistant","content":"hi"}}]}'
    )

    for pieces in [(answer,), (b"data: " + answer + b"\n\n", DONE)]:
        _, scans = run(*pieces)

        assert FailureKind.MALFORMED is first_error(scans).kind
        assert b"" == b"".join(scan.out for scan in scans)


def test_a_message_beside_a_delta_goes_on():
    """Some servers repeat the whole in their last chunk."""
    last = b'data: {"choices":[{"index":0,"delta":{},"message":{},"finish_reason":"stop"}]}\n\n'

    scanner, scans = run(*events(["Hel"])[:-2], last, DONE)

    assert first_error(scans) is None
    assert scanner.finished
