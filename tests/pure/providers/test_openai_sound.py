"""Answers that need no mending: told by one decode, and read as on the long way."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import FailureKind, UpstreamError
from shared.providers.dialects.openai import RelayExchange
from shared.providers.dialects.openai_chat import parse_response
from shared.providers.dialects.openai_sound import sound
from shared.providers.exchange import HttpRequest, HttpResponse

CHAT = "/v1/chat/completions"
ABSENT = object()
RENAMED = {"no tool of these answers": "x"}
"""Where tools were renamed every answer goes the long way."""

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGE = {"role": "assistant", "content": "Hello, wörld"}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "m",
    "choices": [CHOICE],
    "usage": USAGE,
}


def answer(choice=None, message=None, usage=None, **fields):
    """A sound answer with other fields; those that are ABSENT are left out."""
    told = {**CHOICE, "message": {**MESSAGE, **(message or {})}, **(choice or {})}
    whole = {**ANSWER, "choices": [told], "usage": {**USAGE, **(usage or {})}, **fields}
    return json.dumps(_present(whole)).encode()


def _present(value):
    match value:
        case dict():
            return {name: _present(one) for name, one in value.items() if one is not ABSENT}
        case list():
            return [_present(one) for one in value if one is not ABSENT]
    return value


def read(body, names):
    """What becomes of an answer, or why it cannot be read; without a time of ours."""
    asked = HttpRequest(url="http://x/", headers={}, body=b"{}")
    exchange = RelayExchange(request=asked, endpoint=CHAT, names=names, model="asked")
    try:
        reply = exchange.read(HttpResponse(status=200, headers={}, body=body))
    except UpstreamError as error:
        return error.kind, error.message
    if reply.body == body:
        return reply
    said = json.loads(reply.body)
    if not isinstance(json.loads(body).get("created"), int | float):
        del said["created"]
    return said, reply.model, reply.usage, reply.finish_reason


def test_an_exchange_keeps_its_secret():
    asked = HttpRequest(url="http://x/", headers={}, body=b"{}")

    assert "sk-123" not in repr(RelayExchange(request=asked, endpoint=CHAT, secret="sk-123"))


DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 1, "accepted_prediction_tokens": 0},
}


@pytest.mark.parametrize(
    "body",
    [
        answer(),
        answer(system_fingerprint="fp", service_tier="default", error=None),
        answer(message={"content": None, "tool_calls": [CALL]}, choice={"logprobs": None}),
        answer(message={"refusal": None, "annotations": [], "reasoning_content": "Hm."}),
        answer(message={"reasoning": None, "reasoning_content": None}),
        answer(usage=DETAILS),
        answer(usage={**DETAILS, "prompt_cache_hit_tokens": 2}),
        answer(choice={"finish_reason": "length"}),
    ],
)
def test_what_needs_nothing_is_read_at_once(body):
    found = sound(body)

    assert found is not None
    assert read(body, RENAMED) == read(body, {})
    assert body == read(body, {}).body


@pytest.mark.parametrize(
    "body",
    [
        answer(id=""),
        answer(object="chat.completion.chunk"),
        answer(created=1.5),
        answer(model=ABSENT),
        answer(usage=DETAILS | {"total_tokens": 9}),
        answer(usage={"prompt_cache_hit_tokens": 2}),
        answer(usage={"prompt_tokens": "5"}),
        answer(error={"message": "no"}),
        answer(message={"tool_calls": []}),
        answer(message={"tool_calls": None}),
        answer(message={"tool_calls": [{**CALL, "id": None}]}),
        answer(message={"tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]}),
        answer(message={"reasoning": "Hm."}),
        answer(message={"content": [{"type": "text", "text": "x"}]}),
        answer(choice={"finish_reason": "eos"}),
        answer(choice={"finish_reason": None}),
        answer(choice={"finish_reason": "error"}),
        answer(choices=[]),
        answer(system_fingerprint="X").replace(b"X", b"\xff"),
        b"[]",
        b"{",
        b"[" * 100_000,
    ],
)
def test_what_may_need_something_goes_the_long_way(body):
    assert sound(body) is None
    assert read(body, RENAMED) == read(body, {})


@pytest.mark.parametrize(
    "body",
    [
        answer(choice={"message": None}),
        answer(choice={"message": ABSENT}),
        answer(choice={"message": ABSENT, "delta": MESSAGE}),
        answer(choices=[CHOICE, {"index": 1, "finish_reason": "stop"}]),
        answer(choice={"message": "Hello"}),
        answer(message={"content": 5}),
        answer(message={"content": {"text": "Hello"}}),
    ],
)
def test_an_answer_without_a_message_is_none(body):
    """Whoever had it as a success could only fail over it."""
    found = [read(body, names) for names in (None, {}, RENAMED)]
    with pytest.raises(UpstreamError) as refused:
        parse_response(body)

    assert {FailureKind.MALFORMED} == {refused.value.kind, *(told[0] for told in found)}


@pytest.mark.parametrize(
    "message", [{"content": ABSENT}, {"content": None}, {"content": ""}, {"role": ABSENT}]
)
def test_a_message_may_be_silent(message):
    """Azure leaves out the words that it has filtered."""
    body = answer(message=message, choice={"finish_reason": "content_filter"})

    assert body == read(body, None).body
    assert parse_response(body).choices


ODD = st.sampled_from(
    [ABSENT, None, "", "x", 0, 1, 5, -1, 2.0, 1.5, 10**30, True, [], {}, ["x"], {"a": 1}, "stop"]
)


def some(**values):
    return st.fixed_dictionaries({}, optional=values)


def fields(*odd, **usual):
    """Some of the fields with usual or odd values."""
    either = {name: st.one_of(value, value, value, ODD) for name, value in usual.items()}
    return some(**dict.fromkeys(odd, ODD), **either)


COUNTS = st.integers(0, 12)
FUNCTIONS = fields("name", arguments=st.just("{}"))
CALLS = fields("index", id=st.just("c"), type=st.just("function"), function=FUNCTIONS)
FINISHES = st.sampled_from(["stop", "length", "tool_calls", "EOS", "error", "other"])


CHOICES = fields("index", "delta", "logprobs", "message", finish_reason=FINISHES)
MESSAGES = fields(
    "role",
    "reasoning_content",
    "refusal",
    reasoning=st.text(),
    content=st.text() | st.lists(fields("type", "text", "thinking"), max_size=2),
    tool_calls=st.lists(CALLS, min_size=1, max_size=2),
)
USAGES = fields(
    "cost",
    prompt_tokens=COUNTS,
    completion_tokens=COUNTS,
    total_tokens=COUNTS,
    prompt_cache_hit_tokens=COUNTS,
    num_cached_tokens=COUNTS,
    prompt_tokens_details=fields(cached_tokens=COUNTS, audio_tokens=COUNTS),
    completion_tokens_details=fields(reasoning_tokens=COUNTS),
)
HEADS = fields(
    "id", "object", "created", "model", "error", "detail", "service_tier", "choices", "x_groq"
)


@given(some(choice=CHOICES, message=MESSAGES, usage=USAGES), HEADS | st.just({}))
def test_both_ways_tell_the_same(inner, head):
    """Whatever is asked of an answer comes out alike, if its types are odd, too."""
    body = answer(**inner, **head)

    assert read(body, RENAMED) == read(body, {})


@given(at=st.floats(0, 1, exclude_max=True), new=st.binary(max_size=3), cut=st.integers(0, 12))
def test_both_ways_tell_the_same_of_broken_bytes(at, new, cut):
    whole = answer(message={"tool_calls": [CALL]}, usage=DETAILS, note={"of": ["nobody", "é"]})
    place = int(at * len(whole))
    body = whole[:place] + new + whole[place + cut :]

    assert read(body, RENAMED) == read(body, {})
