"""Answers of imitators, made what OpenAI's SDKs demand; good ones stay untouched."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.providers.dialects.openai_mend import Mender
from shared.providers.dialects.openai_mended import MOST_ODD, MendingScanner
from shared.providers.dialects.openai_usage import reported_nanousd

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "m"}


def chunk(delta=None, finish=None, **fields):
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {**HEAD, "choices": [choice], **fields}


def mended(*chunks):
    """The deltas and finish reasons of a stream, by the caller."""
    mender = Mender()
    out = [mender.chunk(copy.deepcopy(one)) for one in chunks]
    out += mender.ending()
    choices = [choice for one in out if one is not None for choice in one["choices"]]
    return [(choice["delta"], choice["finish_reason"]) for choice in choices]


def calls(*entries):
    return {"tool_calls": list(entries)}


def entry(index=None, one=None, name=None, arguments="", **more):
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    found = {"index": index, "id": one, "function": function, **more}
    return {key: value for key, value in found.items() if value is not None}


ROLE = {"role": "assistant", "content": ""}


def test_what_is_in_order_is_not_touched():
    mender = Mender()
    for one in (
        chunk(ROLE),
        chunk({"content": "x"}),
        chunk(calls(entry(0, "a", "f", type="function"))),
        chunk(calls(entry(0, arguments="{}"))),
        chunk({}, "tool_calls"),
        {**HEAD, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
    ):
        assert one is mender.chunk(one)
        assert not mender.changed


@pytest.mark.behaviour(92)
def test_calls_open_once_and_count_from_0():
    """Ids, names and types again, indices from 1, none, or the same for two calls."""
    out = mended(
        chunk({**ROLE, **calls(entry(1, "a", "f", "{"))}),
        chunk({**ROLE, **calls(entry(1, "a", "f", "}", type="function"))}),
        chunk(calls(entry(1, "b", "g", "1"))),
        chunk(calls(entry(1, "b", arguments="2"))),
        chunk(calls(entry(None, "c", "h"))),
        chunk(calls(entry(arguments="3"))),
    )
    entries = [call for delta, _ in out for call in delta["tool_calls"]]

    assert [0, 0, 1, 1, 2, 2] == [call["index"] for call in entries]
    assert ["a", "b", "c"] == [call["id"] for call in entries if "id" in call]
    assert ["f", "g", "h"] == [
        call["function"]["name"] for call in entries if "name" in call["function"]
    ]
    assert 3 == sum("type" in call for call in entries)
    assert 1 == sum("role" in delta for delta, _ in out)


def test_a_call_without_an_id_gets_one():
    (delta, _), *_ = mended(chunk(calls(entry(0, None, "f", {"a": 1}))))
    (call,) = delta["tool_calls"]

    assert call["id"].startswith("call_")
    assert '{"a":1}' == call["function"]["arguments"]


@pytest.mark.behaviour(82)
@pytest.mark.parametrize(
    ("before", "finish"), [({"content": "x"}, "stop"), (calls(entry(0, "a", "f")), "tool_calls")]
)
def test_an_empty_finish_reason_is_decided_by_what_came(before, finish):
    out = mended(chunk(before, ""), chunk({}, ""))

    assert [None, None, finish] == [reason for _, reason in out]


SAYING = [{"content": "x"}, {"reasoning_content": "x"}, {"refusal": "x"}, calls(entry(0, "a", "f"))]


@pytest.mark.behaviour(82)
@pytest.mark.parametrize("delta", SAYING)
def test_an_empty_finish_reason_is_none_of_what_comes_after_it(delta):
    """Who says more had not finished: a cut behind it is a cut."""
    said, silent = chunk(delta), chunk({"content": ""})

    assert {None} == {reason for _, reason in mended(chunk(ROLE, ""), said)}
    assert {None} == {reason for _, reason in mended(chunk({"content": "x"}, ""), said, silent)}
    assert mended(chunk(ROLE, ""), said, chunk({}, ""))[-1][1]
    assert mended(chunk(ROLE, ""), said, chunk({}, ""), silent)[-1][1]


@pytest.mark.behaviour(82)
def test_what_a_cut_stream_said_first_does_not_make_it_whole():
    """Neither where its later chunks are sound, nor where their words are not even read."""
    error = relayed([chunk(ROLE, ""), *map(plain, "abc")], unread=True)[1][0][-1][-1]

    assert "The provider ended its stream without a finish reason." == error


@pytest.mark.behaviour(99)
def test_a_choice_finishes_once():
    out = mended(chunk({"content": "x"}, "length"), chunk(ROLE, "length"), chunk({}))

    assert ["length"] == [reason for _, reason in out]


@pytest.mark.behaviour(117)
def test_choices_open_in_their_order():
    def of(index, delta, finish=None):
        return {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}

    mender = Mender()
    pieces = [
        of(1, {**ROLE, "content": "b"}),
        of(0, {**ROLE, "content": "a"}),
        of(1, {}, "stop"),
        of(0, {}, "stop"),
    ]
    chunks = [mender.chunk(one) for one in pieces]

    found = [(one["index"], one["delta"]) for chunk in chunks for one in chunk["choices"]]
    assert [
        (0, ROLE),
        (1, {**ROLE, "content": "b"}),
        (0, {"content": "a"}),
        (1, {}),
        (0, {}),
    ] == found


@pytest.mark.behaviour(108, 109)
def test_chunks_that_say_nothing_are_passed_over():
    mender = Mender()

    assert mender.chunk({"choices": [], "id": "", "prompt_filter_results": []}) is None
    assert mender.chunk({**HEAD, "choices": [{"index": 0, "content_filter_results": {}}]}) is None
    assert 1 == len(mender.chunk(chunk(ROLE))["choices"])


@pytest.mark.behaviour(86)
@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "hm"},
        {"reasoning_content": "hm", "reasoning": "hm"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        {"content": [{"type": "thinking", "thinking": "hm"}]},
    ],
)
def test_thoughts_stand_in_one_field(delta):
    assert "hm" == mended(chunk(delta))[0][0]["reasoning_content"]


@pytest.mark.behaviour(91)
def test_the_head_stays_what_it_was():
    mender = Mender()
    first = mender.chunk({"model": "m", "choices": [{"delta": {"content": "a"}}]})
    later = mender.chunk({**chunk({"content": "b"}), "id": "other", "created": 9, "object": ""})

    assert first["id"].startswith("chatcmpl-")
    for name in ("id", "object", "created", "model"):
        assert first[name] == later[name]


@pytest.mark.behaviour(84, 85)
@pytest.mark.parametrize("nothing", [None, []])
def test_a_whole_answer_has_what_is_required_and_no_empty_calls(nothing):
    message = {"content": "x", "tool_calls": nothing}
    answer = Mender().whole({"model": "m", "choices": [{"message": message}]})
    (choice,) = answer["choices"]

    assert ("chat.completion", 0, "m") == (answer["object"], answer["created"], answer["model"])
    assert answer["id"]
    assert 0 == choice["index"]
    assert {"role": "assistant", "content": "x"} == choice["message"]


def test_names_are_turned_back():
    call = {"id": "a", "type": "function", "function": {"name": "f_1", "arguments": "{}"}}
    answer = {**HEAD, "choices": [{"index": 0, "message": {"tool_calls": [call]}}]}

    (choice,) = Mender({"f_1": "f.1"}).whole(answer)["choices"]

    assert "f.1" == choice["message"]["tool_calls"][0]["function"]["name"]


def test_names_of_tools_that_take_free_text_are_turned_back_too():
    custom = {"name": "f_1", "input": "x"}
    call = {"index": 0, "id": "a", "type": "custom", "custom": dict(custom)}
    found = Mender({"f_1": "f.1"}).chunk(chunk(calls(call)))
    assert "f.1" == found["choices"][0]["delta"]["tool_calls"][0]["custom"]["name"]


@pytest.mark.behaviour(128)
@pytest.mark.parametrize(
    "bare",
    [
        {"detail": "no"},
        {"message": "no", "type": "busy"},
        {"object": "error", "message": "no", "code": 400},
    ],
)
def test_an_error_with_nothing_around_it_is_one(bare):
    assert bare == Mender().chunk(dict(bare))["error"]
    assert bare == Mender().whole(dict(bare))["error"]


@pytest.mark.behaviour(85)
def test_what_the_provider_leaves_out_is_told_by_us():
    """Its numbers as ids are texts; model and time are those of the question."""
    choice = {"message": {"content": "x"}, "finish_reason": None}
    ours = {"model": "asked", "created_s": 9}

    found = Mender(**ours).whole({"id": 7, "choices": [choice]})
    first = Mender(**ours).chunk({"id": 7, "choices": [{"delta": {"content": "x"}}]})

    assert ("7", 9, "asked") == (found["id"], found["created"], found["model"])
    assert "stop" == found["choices"][0]["finish_reason"]
    assert ("7", "asked") == (first["id"], first["model"])


@pytest.mark.behaviour(155)
@pytest.mark.parametrize(
    ("cost", "ticks", "nanousd"),
    [
        (None, None, None),
        (0.00123, None, 1_230_000),
        (0, None, 0),
        (1e-10, None, 0),
        (None, 15, 2),
        (0.5, 10, 1),
        ("1", None, None),
        (-1, None, None),
        (1e300, 10**30, None),
        (True, False, None),
        ({"total": 1}, None, None),
    ],
)
def test_the_providers_own_cost(cost, ticks, nanousd):
    assert nanousd == reported_nanousd(cost, ticks)


WORDS = st.sampled_from(
    ("index", "delta", "message", "finish_reason", "content", "tool_calls", "function", "id",
     "name", "arguments", "reasoning", "type", "role", "thinking", "text")
)  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(WORDS, x, max_size=4),
    max_leaves=12,
)
TOP = st.dictionaries(
    st.sampled_from(("id", "created", "model", "choices", "usage", "x_groq", "object")), JUNK
)
CHOICES = st.lists(st.dictionaries(WORDS, JUNK, max_size=4), max_size=3)


@given(chunks=st.lists(st.tuples(TOP, CHOICES), max_size=4))
def test_no_nonsense_breaks_it(chunks):
    mender = Mender()
    for top, choices in chunks:
        mender.chunk(copy.deepcopy({**top, "choices": choices}))
        mender.chunk(copy.deepcopy(top))
        Mender().whole(copy.deepcopy({**top, "choices": choices}))
    mender.ending()


def plain(text, **fields):
    return {**chunk({"content": text}), **fields}


def relayed(chunks, *, unread):
    """The caller's chunks of a relay, which may look at none of them, or mends all of them.

    With what it has learnt: whether each held content, and what it came to.
    """
    scanner = MendingScanner(Mender(model="m"), usage_forced=True)
    out, held = b"", []
    for one in chunks:
        if not unread:
            scanner._sound_head, scanner._only_words, scanner._flows = b"", False, False
            scanner._odd_chunks = MOST_ODD
        written = one if isinstance(one, bytes) else json.dumps(one, ensure_ascii=False).encode()
        scan = scanner.feed(b"data: " + written + b"\n\n")
        out += scan.out
        held.append((scan.content_events, scan.finished, scan.error and scan.error.message))
    last = scanner.feed(b"data: [DONE]\n\n")
    held.append((0, last.finished, last.error and last.error.message))
    out += last.out + scanner.closing(None)
    events = [event[6:] for event in out.split(b"\n\n") if event.startswith(b"data: {")]
    learnt = (held, scanner.content_bytes, scanner.model, scanner.usage)
    return [json.loads(event) for event in events], learnt


ODD = [
    chunk(ROLE),
    plain("Hi"),
    plain(' \\ "there"'),
    plain("again", id="another"),
    plain("no id", id=""),
    plain("late", usage=None),
    plain("later", usage=None),
    plain("soft\u00adbreak"),
    plain("\x7f"),
    plain("wörds"),
    plain(""),
    {"usage": {"prompt_tokens": 5, "completion_tokens": 1}, **plain("and their count")},
    json.dumps(plain("tabs")).encode().replace(b" ", b"\t"),
    json.dumps(plain("none"), separators=(",", ":")).encode(),
    json.dumps(plain("?")).encode().replace(b"?", b"\xff"),
    json.dumps(plain("?")).encode().replace(b"?", b"\x01"),
    json.dumps(plain("?")).encode().replace(b"?", b"\\q"),
    chunk({"content": "x", "tool_calls": []}),
    chunk({"role": "assistant", "content": "role again"}),
    chunk({}, "stop"),
    chunk({}, "length", service_tier="flex"),
    chunk({"role": "assistant", "content": "both"}, "stop", logprobs=None),
    chunk({"refusal": "no"}),
    chunk({"reasoning_content": "hm"}),
    chunk(ROLE, id="another"),
    {**HEAD, "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}},
    {**HEAD, "choices": [], "usage": {"prompt_tokens": 5, "num_cached_tokens": 2}},
    {**HEAD, "choices": []},
    chunk({}, "eos"),
    chunk({}, ""),
    plain("", choices=[{"index": 0, "delta": None, "message": {}, "finish_reason": ""}]),
    chunk({"reasoning": "hm"}),
]


SAID = ["a", " word", "wörds", "", '"', "\\", "\x7f", "soft\u00adbreak", "}", "data: ", "\n\n"]


@given(st.lists(st.sampled_from(ODD), max_size=12))
def test_plain_chunks_that_are_passed_on_unread_are_those_that_need_nothing(chunks):
    assert relayed(chunks, unread=False) == relayed(chunks, unread=True)


@given(st.lists(st.lists(st.sampled_from(ODD), max_size=4), max_size=4))
def test_chunks_that_come_together_are_taken_one_by_one(groups):
    together, alone = MendingScanner(Mender(model="m")), MendingScanner(Mender(model="m"))
    written = [
        [
            b"data: %b\n\n" % (one if isinstance(one, bytes) else json.dumps(one).encode())
            for one in group
        ]
        for group in [*groups, [b"[DONE]", b"[DONE]"]]
    ]
    for events in written:
        scan = together.feed(b"".join(events))
        scans = [alone.feed(event) for event in events]

        assert b"".join(one.out for one in scans) == scan.out
        assert sum(one.content_events for one in scans) == scan.content_events
    assert alone.closing("0.1") == together.closing("0.1")
    assert (alone.finished, alone.content_bytes) == (together.finished, together.content_bytes)


@given(
    st.lists(
        st.lists(st.sampled_from([*map(plain, SAID), plain("", usage=None), *ODD[:6]]), max_size=4),
        max_size=6,
    ),
    st.booleans(),
)
def test_words_that_come_together_are_the_same(groups, usage_forced):
    """Passed on unread or not, and with the null count of each taken out."""
    scanners = [MendingScanner(Mender(model="m"), usage_forced=usage_forced) for _ in range(2)]
    begun = [chunk(ROLE), plain("a"), plain("b")]
    for group in [begun, *groups]:
        events = [b"data: %b\n\n" % json.dumps(one, ensure_ascii=False).encode() for one in group]
        together = scanners[0].feed(b"".join(events))
        scans = [scanners[1].feed(event) for event in events]

        assert b"".join(one.out for one in scans) == together.out
        assert sum(one.content_events for one in scans) == together.content_events
        assert scanners[1].content_bytes == scanners[0].content_bytes


@pytest.mark.parametrize("usage_forced", [False, True])
def test_words_that_come_together_are_passed_on_unread(usage_forced):
    scanner = MendingScanner(Mender(), usage_forced=usage_forced)
    for one in (chunk(ROLE), plain("a", usage=None)):
        scanner.feed(b"data: " + json.dumps(one).encode() + b"\n\n")
    said = [plain(text, usage=None) for text in ("b", "ö", " and", " so on")]
    events = [b"data: %b\n\n" % json.dumps(one, ensure_ascii=False).encode() for one in said]
    null = b', "usage": null' if usage_forced else b""

    assert b"".join(events).replace(null, b"") == scanner.plain(b"".join(events))
    for odd in (b'"', b"\\", b"\x01"):
        assert scanner.plain(b"".join(events).replace(b"so on", odd)) is None
    assert scanner.plain(events[0] + b": a comment\n\n" + events[1]) is None
    assert scanner.plain(events[0] + events[1][:-1]) is None


def test_words_are_passed_on_unread():
    """A stream is mostly words, and to read each chunk whole costs more than to relay it."""
    scanner = MendingScanner(Mender())
    pieces = [b"data: " + json.dumps(plain(text)).encode() + b"\n\n" for text in ("a", "b", "c")]
    scanner.feed(b"data: " + json.dumps(chunk(ROLE)).encode() + b"\n\n")

    assert pieces == [scanner.feed(piece).out for piece in pieces]
    assert scanner._sound_head
