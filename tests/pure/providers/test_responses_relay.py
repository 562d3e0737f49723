"""Relaying Responses to a vendor that has them: bytes go on, and what decides is learnt."""

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.usage import Usage
from shared.config.model import ProviderConfig
from shared.errors import FailureKind, UnsupportedParameter, UpstreamError
from shared.providers.dialects.responses_proof import packed
from shared.providers.dialects.responses_relay import (
    ResponsesRelayExchange,
    ResponsesScanner,
    rewrite,
)
from shared.providers.dialects.responses_usage import usage_of
from shared.providers.exchange import HttpRequest, HttpResponse
from shared.providers.registry import adapter_for
from shared.providers.request import InferenceRequest, RequestHead
from shared.providers.target import Target
from tests.fakes.vendors.responses_wire import response_events, response_object

WHOLE = response_object({"model": "m"}, text="hello brave world", thought="", calls=[])
EVENTS = response_events(WHOLE)
STREAM = b"".join(EVENTS)


def scanned(*pieces):
    """Return the caller's bytes, the scanner and its error."""
    scanner, out = ResponsesScanner("sk-secret"), b""
    for piece in pieces:
        scan = scanner.feed(piece)
        out += scan.out
        if scan.error is not None or scan.ended:
            return out, scanner, scan.error
    scan = scanner.finish()
    return out + scan.out, scanner, scan.error


def event(name, **fields):
    body = json.dumps({"type": name, **fields})
    return f"event: {name}\ndata: {body}\n\n".encode()


def exchange(url="http://v/v1/responses"):
    request = HttpRequest(url=url, headers={}, body=b"{}")
    return ResponsesRelayExchange(request=request, secret="sk-secret")


@pytest.mark.behaviour(176)
def test_a_stream_needs_no_done():
    """It ends with its own last event, which comes with the cost."""
    out, scanner, error = scanned(STREAM)

    assert error is None
    assert scanner.finished
    assert b"".join(EVENTS[:-1]) == out
    last = json.loads(scanner.closing("0.00125").split(b"data: ")[1])
    assert {**WHOLE, "sluiceway": {"cost_usd": 0.00125}} == last["response"]
    assert ("m", 20, 10, 4, 2) == (
        scanner.model,
        scanner.usage.input_tokens,
        scanner.usage.output_tokens,
        scanner.usage.cache_read_tokens,
        scanner.usage.reasoning_tokens,
    )
    assert len("hello brave world") == scanner.content_bytes


def test_a_done_at_the_end_is_tolerated():
    _, scanner, error = scanned(STREAM + b"data: [DONE]\n\n")

    assert error is None
    assert scanner.finished


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_however_the_bytes_are_cut(places):
    cuts = [0, *sorted(places), len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in pairwise(cuts)]

    out, scanner, error = scanned(*pieces)

    assert error is None
    assert b"".join(EVENTS[:-1]) == out
    assert scanner.usage is not None


def test_one_byte_at_a_time():
    out, _, error = scanned(*(STREAM[at : at + 1] for at in range(len(STREAM))))

    assert (b"".join(EVENTS[:-1]), None) == (out, error)


@pytest.mark.parametrize(
    ("begun", "ended", "cut_off", "whole"),
    [
        ("priority", None, "priority", "priority"),
        ("priority", "default", "priority", "default"),
        ("auto", "flex", None, "flex"),
        ("auto", None, None, None),
    ],
)
def test_a_tier_is_known_before_the_counts(begun, ended, cut_off, whole):
    """`auto` is none yet."""
    opening = event("response.created", response={"id": "r", "service_tier": begun})
    end = event("response.completed", response={**WHOLE, "service_tier": ended})
    scanner = ResponsesScanner()
    scanner.feed(opening + EVENTS[4])

    assert cut_off == scanner.service_tier
    scanner.feed(end)
    assert whole == scanner.usage.service_tier


def test_the_first_content_is_a_text_or_a_call():
    """Openings of messages and thoughts are none: a broken try may still be made again."""
    scanner = ResponsesScanner()
    contents = [scanner.feed(one).content_events for one in EVENTS[:5]]
    call = event("response.output_item.added", item={"type": "function_call"})

    assert [0, 0, 0, 0, 1] == contents
    assert 1 == scanner.feed(call).content_events


@pytest.mark.parametrize(
    ("pieces", "kind", "code"),
    [
        pytest.param(EVENTS[:5], FailureKind.MALFORMED, None, id="cut"),
        pytest.param(
            [
                event(
                    "response.failed",
                    response={
                        "id": "r",
                        "status": "failed",
                        "error": {"code": "rate_limit_exceeded", "message": "slow down"},
                    },
                )
            ],
            FailureKind.RATE_LIMITED,
            "rate_limit_exceeded",
            id="failed",
        ),
        pytest.param(
            [event("error", code="server_error", message="oops", param=None)],
            FailureKind.SERVER_ERROR,
            "server_error",
            id="a flat error",
        ),
        pytest.param(
            [event("error", error={"type": "invalid_request_error", "message": "bad"})],
            FailureKind.REJECTED,
            None,
            id="an error inside",
        ),
        pytest.param(
            [b'{"error": {"code": "context_length_exceeded", "message": "long"}}'],
            FailureKind.CONTEXT_LENGTH,
            "context_length_exceeded",
            id="an error that is no event",
        ),
        pytest.param([b"data: nonsense\n\n"], FailureKind.MALFORMED, None, id="no JSON"),
    ],
)
def test_a_broken_stream_says_why(pieces, kind, code):
    _, _, error = scanned(*pieces)

    assert (kind, code) == (error.kind, error.upstream_code)


def test_a_whole_answer_goes_on_as_it_came():
    body = json.dumps(WHOLE, indent=1).encode()

    reply = exchange().read(HttpResponse(status=200, headers={}, body=body))

    assert (body, "m", "stop", 20) == (
        reply.body,
        reply.model,
        reply.finish_reason,
        reply.usage.input_tokens,
    )


SIDES = {"input_tokens": 10, "output_tokens": 5}


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        ({}, {}),
        ({"input_tokens_details": {"cached_tokens": 2.5}}, {"cache_read_tokens": 2}),
        ({"input_tokens_details": {"cached_tokens": "x", "cache_write_tokens": 3}},
         {"cache_write_tokens": 3}),
        ({"input_tokens_details": {"cache_write_tokens": {"ttl_30m": 1, "ttl_12h": 2}}},
         {"cache_write_tokens": 3}),
        ({"input_tokens_details": {"cached_tokens": -3, "cache_write_tokens": -9}}, {}),
        ({"input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 8}},
         {"cache_read_tokens": 8, "cache_write_tokens": 2}),
        ({"input_tokens_details": 7, "output_tokens_details": {"reasoning_tokens": 3.0}},
         {"reasoning_tokens": 3}),
        ({"output_tokens_details": {"reasoning_tokens": True}, "cost": 0.5},
         {"reported_nanousd": 500_000_000}),
        ({"input_tokens": -5}, {"input_tokens": 0}),
        ({"output_tokens": "x"}, {"output_tokens": 0, "estimated": True}),
        ({"input_tokens": None, "output_tokens": -1}, None),
    ],
)  # fmt: skip
def test_a_count_that_is_none_costs_no_other(told, counted):
    body = json.dumps({**WHOLE, "usage": {**SIDES, **told}}).encode()
    expected = None if counted is None else Usage(**{**SIDES, **counted})

    reply = exchange().read(HttpResponse(status=200, headers={}, body=body))

    assert expected == reply.usage


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({**WHOLE, "status": "failed", "error": {"code": "server_error", "message": "x"}},
         FailureKind.SERVER_ERROR),
        ({**WHOLE, "status": "queued"}, FailureKind.MALFORMED),
        ({"choices": []}, FailureKind.MALFORMED),
        ({"error": {"type": "rate_limit_error", "message": "x"}}, FailureKind.RATE_LIMITED),
    ],
)  # fmt: skip
def test_a_failure_with_200_is_one(body, kind):
    with pytest.raises(UpstreamError) as failed:
        exchange().read(HttpResponse(status=200, headers={}, body=json.dumps(body).encode()))

    assert kind is failed.value.kind


def test_a_cut_answer_is_an_answer():
    cut = {**WHOLE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}

    reply = exchange().read(HttpResponse(status=200, headers={}, body=json.dumps(cut).encode()))

    assert "length" == reply.finish_reason


def test_only_the_model_changes():
    raw = b'{"input":"hi","model":"chat","temperature":0.10,"previous_response_id":"resp_1"}'

    body, lost = rewrite(raw, model="gpt", params={})

    assert raw.replace(b'"chat"', b'"gpt"') == body
    assert () == lost


def test_operators_words_are_chats():
    params = {"max_tokens": 5, "reasoning_effort": "low", "seed": 1, "foo": 2, "top_p": 0.5}

    body, _ = rewrite(b'{"model":"m","input":"hi","top_p":1}', model="m", params=params)

    assert {
        "model": "m",
        "input": "hi",
        "top_p": 1,
        "max_output_tokens": 5,
        "reasoning": {"effort": "low"},
        "foo": 2,
    } == json.loads(body)


def test_what_was_written_out_is_not_asked_for_again():
    """The vendor is not asked for our id, nor shown the proofs of another's thoughts."""
    theirs = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
    others = {**theirs, "encrypted_content": packed("anthropic", "sig", redacted=False)}
    raw = {"model": "m", "input": [theirs, others], "previous_response_id": "resp_1"}

    body, _ = rewrite(msgspec.json.encode(raw), model="m", params={}, expanded=True)

    assert {"model": "m", "input": [theirs]} == json.loads(body)


def asked(kind, raw, **target):
    body = msgspec.json.encode(raw)
    request = InferenceRequest(
        endpoint="/v1/responses",
        dialect="openai_responses",
        raw=body,
        head=msgspec.json.decode(body, type=RequestHead),
    )
    provider = ProviderConfig(kind=kind, base_url="https://v.test/v1", api_version="v1")
    aimed = Target(provider="v", model="m", **target)
    return adapter_for(kind).exchange(provider, "sk", request, aimed)


@pytest.mark.parametrize("kind", ["openai", "xai", "openrouter", "groq", "azure_openai"])
def test_vendors_with_responses_are_asked_for_them(kind):
    call = asked(kind, {"model": "chat", "input": "hi"})

    assert call.request.url.endswith("/v1/responses")
    assert {"model": "m", "input": "hi"} == json.loads(call.request.body)


@pytest.mark.parametrize("kind", ["vllm", "openai_compatible", "mock"])
def test_others_are_asked_by_chat(kind):
    call = asked(kind, {"model": "chat", "input": "hi"})

    assert call.request.url.endswith("/chat/completions")
    assert [{"role": "user", "content": "hi"}] == json.loads(call.request.body)["messages"]


def test_what_a_vendor_refuses_is_left_out_or_refused():
    raw = {"model": "chat", "input": "hi", "truncation": "auto", "store": False, "include": None}

    call = asked("groq", raw)

    assert {"model": "m", "input": "hi"} == json.loads(call.request.body)
    assert ("truncation",) == call.dropped
    with pytest.raises(UnsupportedParameter) as refused:
        asked("groq", raw, unsupported="error")
    assert "truncation" == refused.value.param


def test_what_a_chat_cannot_do_is_left_out_or_refused():
    raw = {"model": "chat", "input": "hi", "max_tool_calls": 2}

    assert ("max_tool_calls",) == asked("vllm", raw).dropped
    with pytest.raises(UnsupportedParameter):
        asked("vllm", raw, unsupported="error")


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        ({"input_tokens": -100, "output_tokens": 50}, (0, 50, 0, 0)),
        ({"input_tokens": 100, "output_tokens": -50}, (100, 0, 0, 0)),
        ({"input_tokens": 100, "output_tokens": None}, (100, 0, 0, 0)),
        (
            {
                "input_tokens": 9,
                "output_tokens": 9,
                "input_tokens_details": {"cached_tokens": -1, "cache_write_tokens": -1},
                "output_tokens_details": {"reasoning_tokens": -1},
            },
            (9, 9, 0, 0),
        ),
    ],
)
def test_counts_below_zero_are_no_counts(told, counted):
    usage = usage_of(told)

    assert counted == (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens + usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


def test_where_nothing_is_counted_there_is_no_usage():
    assert None is usage_of({"input_tokens": -1, "output_tokens": -1})
