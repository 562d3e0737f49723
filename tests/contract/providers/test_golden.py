"""Every adapter on every golden case, relayed and translated: both must mean the same."""

import json
import re
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.request import ChatRequest
from shared.chat.response import ChatResponse, fold
from shared.chat.usage import Usage
from shared.errors import UpstreamError
from shared.providers.dialects import openai_chat
from shared.providers.dialects.openai_draft import Draft, applied
from shared.providers.dialects.openai_served import parse_request
from shared.providers.exchange import HttpResponse
from shared.providers.registry import adapter_for, kinds
from shared.providers.served import chat_of
from shared.providers.target import Target
from shared.providers.translation import TranslatingExchange
from tests.contract.providers.golden import cases

OURS = re.compile(rb'"id":"chatcmpl_[0-9a-f]{32}"|"created":\d+')
"""What differs from one time to the next."""

ALL = {name: case for kind in sorted(kinds()) for name, case in cases(kind).items()}


def chosen(wanted):
    names = [name for name, case in ALL.items() if wanted(case)]
    return pytest.mark.parametrize("case", [ALL[name] for name in names], ids=names)


def response_of(case):
    return HttpResponse(
        status=case.answer["status"],
        headers=case.answer.get("headers", {}),
        body=case.answer_bytes,
    )


def relayed(case):
    """Whether the provider speaks the caller's dialect."""
    return not isinstance(case.exchange, TranslatingExchange)


def translating(case):
    """The same call, but through the canonical language."""
    if not relayed(case):
        return case.exchange
    chat, served = chat_of(case.asked, Target(provider="vendor", model=case.target["model"]))
    return TranslatingExchange(
        request=case.exchange.request,
        chat=chat,
        served=served,
        target=openai_chat.CHAT,
        built=openai_chat.build_request(chat),
        secret=case.secret,
    )


def streamed(exchange, pieces):
    """Run a stream; return the caller's bytes, the scanner and its error."""
    scanner = exchange.scanner()
    out, contents = [], 0
    for piece in pieces:
        scan = scanner.feed(piece)
        out.append(scan.out)
        contents += scan.content_events
        if scan.error is not None:
            return b"".join(out), contents, scanner, scan.error
        if scan.ended:
            break
    scan = scanner.finish()
    out.append(scan.out)
    if scan.error is None:
        out.append(scanner.closing("0.00125"))
    return b"".join(out), contents, scanner, scan.error


def folded(out):
    """The caller's stream as a whole answer."""
    decoder = openai_chat.OpenAIDecoder()
    decoded = decoder.feed(out)
    assert decoded.ended
    return fold(decoded.deltas)


def tokens(usage):
    """What both OpenAI's and the canonical usage count."""
    return usage and (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)


def without_usage(response):
    return msgspec.structs.replace(response, usage=None, billed=None)


def alike(response, expected):
    """The answer without the id and the moment that we gave it, where the provider gave none."""
    assert response.id
    return msgspec.structs.replace(
        response,
        usage=None,
        id=response.id if expected.id else "",
        created_s=response.created_s if expected.created_s else 0,
    )


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_kind_has_golden_cases(kind):
    assert cases(kind), f"no case in tests/golden/{kind}/"


@chosen(lambda case: case.sent)
def test_sends_what_the_vendor_expects(case):
    request = case.exchange.request
    expected = case.sent

    assert expected.get("url", request.url) == request.url
    assert expected.get("headers", {}).items() <= request.headers.items()
    assert set() == set(expected.get("absent_headers", ())) & set(request.headers)
    if "body" in expected:
        assert expected["body"] == json.loads(request.body)


@chosen(lambda case: case.sent.get("body") and case.meaning and relayed(case))
def test_translating_asks_the_same(case):
    """The vendor would read the same question from the relayed and from the translated body."""
    asked = msgspec.structs.replace(parse_request(case.asked.raw), model=case.target["model"])
    built = parse_request(msgspec.json.encode(fitted(case, asked).body))
    relayed = parse_request(case.exchange.request.body)

    settings = {**relayed.extra, **msgspec.structs.asdict(relayed.sampling)}
    operators = {**case.provider.get("params", {}), **case.target.get("params", {})}
    assert operators.items() <= settings.items() or case.kind == "mock"
    assert caller_only(relayed, operators) == caller_only(built, operators)


def fitted(case, asked) -> Draft:
    """The translated question after the steps of its vendor."""
    vendor = getattr(adapter_for(case.kind), "vendor", None)
    draft = Draft(openai_chat.build_request(asked).body, model=asked.model)
    return applied(draft, () if vendor is None else vendor.steps)


def caller_only(request: ChatRequest, operators) -> ChatRequest:
    """The question without what the operator's params added to it."""
    sampling = {name: None for name in operators if name in request.sampling.__struct_fields__}
    return msgspec.structs.replace(
        request,
        extra={name: value for name, value in request.extra.items() if name not in operators},
        sampling=msgspec.structs.replace(request.sampling, **sampling),
    )


@pytest.mark.parametrize("way", ["relay", "translate"])
@chosen(lambda case: case.meaning and not case.streams)
def test_a_whole_answer_means_the_same_either_way(case, way):
    exchange = case.exchange if way == "relay" else translating(case)
    expected = msgspec.convert(case.meaning, ChatResponse)

    reply = exchange.read(response_of(case))

    answer = openai_chat.parse_response(reply.body)

    assert without_usage(expected) == alike(answer, expected)
    assert tokens(expected.usage) == tokens(answer.usage)
    assert (expected.billed or expected.usage, expected.model) == (reply.usage, reply.model)
    assert expected.choices[0].finish.value == reply.finish_reason


@pytest.mark.parametrize("way", ["relay", "translate"])
@chosen(lambda case: case.meaning and case.streams)
def test_a_stream_means_the_same_either_way(case, way):
    exchange = case.exchange if way == "relay" else translating(case)
    expected = msgspec.convert(case.meaning, ChatResponse)

    out, contents, scanner, error = streamed(exchange, [case.answer_bytes])

    assert error is None
    assert contents > 0
    assert without_usage(expected) == alike(folded(out), expected)
    assert (expected.billed or expected.usage, expected.model) == (scanner.usage, scanner.model)


@pytest.mark.behaviour(100, 101)
@pytest.mark.parametrize("way", ["relay", "translate"])
@chosen(lambda case: case.meaning and case.streams)
def test_the_usage_chunk_is_the_callers_choice(case, way):
    """Asked for, it comes last and carries the cost; else there is no trace of it."""
    exchange = case.exchange if way == "relay" else translating(case)
    out, *_ = streamed(exchange, [case.answer_bytes])
    *events, last, end = [event for event in out.split(b"\n\n") if event]

    assert b"data: [DONE]" == end
    if case.asked.include_usage:
        chunk = json.loads(last.removeprefix(b"data: "))
        assert [] == chunk["choices"]
        assert {"cost_usd": 0.00125} == chunk["sluiceway"]
        assert case.meaning["usage"]["input_tokens"] == chunk["usage"]["prompt_tokens"]
    else:
        for event in [*events, last]:
            assert "usage" not in json.loads(event.removeprefix(b"data: "))


@pytest.mark.behaviour(92, 99, 117)
@pytest.mark.parametrize("way", ["relay", "translate"])
@chosen(lambda case: case.streams and case.meaning)
def test_a_stream_obeys_the_demands_of_the_sdk(case, way):
    """One role per choice, ids and names of calls once, indices from 0, one finish at the end."""
    exchange = case.exchange if way == "relay" else translating(case)
    out, *_ = streamed(exchange, [case.answer_bytes])
    roles, names, finishes = [], [], []
    for event in out.split(b"\n\n")[:-2]:
        for choice in json.loads(event.removeprefix(b"data: "))["choices"]:
            index, delta = choice["index"], choice["delta"]
            roles += [index] * ("role" in delta)
            finishes += [index] * (choice["finish_reason"] is not None)
            for call in delta.get("tool_calls") or ():
                names += [(index, call["index"])] * ("name" in call["function"])

    indices = [choice["index"] for choice in case.meaning["choices"]]
    assert indices == roles
    assert sorted(set(names)) == sorted(names)
    assert indices == sorted(finishes)


@pytest.mark.behaviour(111)
@given(cuts=st.lists(st.integers(0, 5_000), max_size=12))
@pytest.mark.parametrize("way", ["relay", "translate"])
@chosen(lambda case: case.streams)
def test_however_the_bytes_are_cut(case, way, cuts):
    """The caller's bytes, the usage and the error are those of the stream in one piece."""
    exchange = case.exchange if way == "relay" else translating(case)
    raw = case.answer_bytes
    at = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    pieces = [raw[a:b] for a, b in pairwise(at)]

    assert story(exchange, [raw]) == story(exchange, pieces)


@pytest.mark.behaviour(111)
@pytest.mark.parametrize("way", ["relay", "translate"])
@chosen(lambda case: case.streams)
def test_byte_by_byte(case, way):
    exchange = case.exchange if way == "relay" else translating(case)
    raw = case.answer_bytes

    assert story(exchange, [raw]) == story(exchange, [bytes([byte]) for byte in raw])


def story(exchange, pieces):
    out, contents, scanner, error = streamed(exchange, pieces)
    out = OURS.sub(b"", out)
    failed = None if error is None else (error.kind, error.status, error.message)
    return out, contents, scanner.usage, scanner.content_bytes, failed


@pytest.mark.parametrize("way", ["relay", "translate"])
@chosen(lambda case: case.error)
def test_failures_are_told_apart(case, way):
    exchange = case.exchange if way == "relay" else translating(case)

    error = failure_of(exchange, case)

    told = {
        "kind": error.kind.value,
        "status": error.status,
        "upstream_code": error.upstream_code,
        "upstream_type": error.upstream_type,
        "param": error.param,
        "retry_after_s": error.retry_after_s,
        "message": error.message,
    }
    assert case.error.items() <= told.items()
    assert error.message
    assert case.secret is None or case.secret not in error.message


def failure_of(exchange, case) -> UpstreamError:
    if case.streams:
        return streamed(exchange, [case.answer_bytes])[-1]
    response = response_of(case)
    if response.status != 200:
        return exchange.error_of(response)
    with pytest.raises(UpstreamError) as caught:
        exchange.read(response)
    return caught.value


@pytest.mark.behaviour(183)
@chosen(lambda case: case.embeddings)
def test_vectors_come_in_the_form_that_was_asked_for(case):
    reply = case.exchange.read(response_of(case))

    assert case.embeddings == [row["embedding"] for row in json.loads(reply.body)["data"]]
    assert msgspec.convert(case.usage, Usage | None) == reply.usage
