"""Recorded conversations with real providers: what we ask is what was asked, and nothing is lost.

Each is put to the adapter of its provider by a caller of every served dialect.
"""

import json
from itertools import pairwise

import msgspec
import pytest

from shared.chat.usage import Usage
from tests.cassettes import interactions
from tests.contract.providers.replay import (
    CALLERS,
    PATHS,
    READINGS,
    asked_by,
    exchange_of,
    plain,
    question,
    response_of,
    said_by,
    standard,
    texts_in,
)
from tests.contract.providers.test_golden import streamed
from tests.readings import openai

ALL = interactions()
CHATS = {name: one for name, one in ALL.items() if one.dialect in READINGS}
CUTS = [1, 7, 1_000_000]
"""Bytes in a piece."""

DEFAULTS = {"auto", "TEXT", "text", "function"}
"""Settings that hold without being said."""


def pairs(wanted, callers=CALLERS):
    """Parametrize by interaction and caller, as far as the vendor is asked what was recorded."""
    found = [
        pytest.param(one, caller, id=f"{name}-{caller}")
        for name, one in CHATS.items()
        for caller in callers
        if wanted(one) and asks_the_same(one, caller)
    ]
    return pytest.mark.parametrize(("recorded", "caller"), found)


def asks_the_same(recorded, caller):
    """Return whether this caller's question goes where the recorded one went.

    A vendor with several surfaces is asked on the one that the caller speaks.
    """
    if "responses" == recorded.dialect != caller:
        return False
    try:
        url = exchange(recorded, caller).request.url
    except Exception:  # noqa: BLE001
        return True  # a test is to fail of it, not the collection of all
    return recorded.dialect == msgspec.structs.replace(recorded, url=url, method="POST").dialect


def exchange(recorded, caller):
    return exchange_of(recorded, PATHS[caller], asked_by(caller, recorded))


def fails(recorded):
    return recorded.status != 200 or said_by(recorded).error is not None


@pairs(lambda one: one.dialect != "responses" and one.status != 400, callers=("openai",))
def test_the_question_is_asked_as_it_was_recorded(recorded, caller):
    """The body means the same, and no text of the recorded one is missing.

    What the provider refused is left out: there we may know better.
    """
    built = json.loads(exchange(recorded, caller).request.body)

    def read(body):
        return plain(question(recorded.dialect, body, recorded.model, stream=recorded.streams))

    assert read(recorded.asked) == read(built)
    assert set() == texts_in(recorded.asked) - texts_in(built) - DEFAULTS - call_ids(recorded)


def call_ids(recorded):
    """Gemini may be asked without ids of calls; that they fit shows in what the question means."""
    return (
        {standard(id_) for id_ in _ids(recorded.asked)} if "gemini" == recorded.dialect else set()
    )


def _ids(value):
    match value:
        case dict():
            own = [value["id"]] if isinstance(value.get("id"), str) else []
            return [*own, *(id_ for inner in value.values() for id_ in _ids(inner))]
        case list():
            return [id_ for inner in value for id_ in _ids(inner)]
        case _:
            return []


@pytest.mark.parametrize(
    "recorded",
    [
        pytest.param(one, id=name)
        for name, one in CHATS.items()
        if one.dialect in {"anthropic", "responses"}
    ],
)
def test_what_is_relayed_is_not_touched(recorded):
    """Where the caller speaks the provider's own dialect."""
    built = exchange(recorded, recorded.dialect).request.body

    assert recorded.asked == json.loads(built)


@pairs(lambda one: True)
def test_the_model_is_asked(recorded, caller):
    """In the body or in the path."""
    request = exchange(recorded, caller).request
    at = msgspec.structs.replace(recorded, url=request.url, asked=json.loads(request.body))

    assert recorded.model == at.model


@pairs(lambda one: not fails(one) and not one.streams)
def test_a_whole_answer_loses_nothing(recorded, caller):
    said = said_by(recorded)

    reply = exchange(recorded, caller).read(response_of(recorded))

    assert_same(said, READINGS[caller].whole(json.loads(reply.body)), recorded, caller)
    assert_counted(said, reply.usage)


@pytest.mark.behaviour(111)
@pytest.mark.parametrize("size", CUTS)
@pairs(lambda one: not fails(one) and one.streams)
def test_a_stream_loses_nothing_however_it_is_cut(recorded, caller, size):
    said, raw = said_by(recorded), recorded.answer
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]

    out, _, scanner, error = streamed(exchange(recorded, caller), pieces)

    assert error is None
    assert_same(said, READINGS[caller].streamed(out), recorded, caller)
    assert_counted(said, scanner.usage)


def turns():
    """Return pairs of interactions, the later of which has the earlier's answer in its history."""
    return [
        pytest.param(first, second, id=second.name)
        for first, second in pairwise(CHATS.values())
        if first.name.rpartition("-")[0] == second.name.rpartition("-")[0]
        and not fails(first)
        and first.dialect != "responses"
        and any(
            message["role"] == "assistant" for message in asked_by("openai", second)["messages"]
        )
    ]


@pytest.mark.parametrize(("first", "second"), turns())
def test_an_answer_goes_back_as_the_provider_wants_it(first, second):
    """Callers echo the message they got; the provider's own proofs come back with it."""
    conversation = exchange(first, "openai")
    if first.streams:
        out = streamed(conversation, [first.answer])[0]
    else:
        out = conversation.read(response_of(first)).body
    echoed = openai.message_of(out, stream=first.streams)
    asked = echoing(asked_by("openai", second), echoed)

    built = json.loads(exchange_of(second, PATHS["openai"], asked).request.body)

    def read(body):
        return plain(question(second.dialect, body, second.model, stream=second.streams))

    recorded, ours = read(second.asked), read(built)
    if not any(message.reasoning for message in recorded.messages):
        # The recording's caller left thoughts without a proof out, or put them into a text.
        recorded, ours = without_thoughts(recorded), without_thoughts(ours)
    assert recorded == ours


def without_thoughts(chat):
    messages = [
        msgspec.structs.replace(
            message,
            reasoning=(),
            parts=tuple(
                part
                for part in message.parts
                if "assistant" != message.role or not part.text.startswith("<think>")
            ),
        )
        for message in chat.messages
    ]
    return msgspec.structs.replace(chat, messages=tuple(messages))


def echoing(asked, echoed):
    """Return the question with this message in place of the one in which it was recorded."""
    turns = enumerate(asked["messages"])
    at = max(n for n, one in turns if "assistant" == one["role"] and calls(one) == calls(echoed))
    recorded, after = asked["messages"][at], asked["messages"][at + 1 :]
    ids = {
        old["id"]: new["id"]
        for old, new in zip(
            recorded.get("tool_calls", ()), echoed.get("tool_calls", ()), strict=True
        )
    }
    answers = [
        {**one, "tool_call_id": ids.get(one["tool_call_id"], one["tool_call_id"])}
        if "tool_call_id" in one
        else one
        for one in after
    ]
    return {**asked, "messages": [*asked["messages"][:at], echoed, *answers]}


def calls(message):
    return [call["function"]["name"] for call in message.get("tool_calls", ())]


@pairs(fails)
def test_a_failure_keeps_the_providers_words(recorded, caller):
    """Also inside a stream that began with a 200."""
    conversation = exchange(recorded, caller)
    if recorded.status == 200:
        error = streamed(conversation, [recorded.answer])[-1]
    else:
        error = conversation.error_of(response_of(recorded))

    told = (
        {"message": said_by(recorded).error}
        if recorded.status == 200
        else json.loads(recorded.answer)
    )
    body = told.get("error", told)
    assert body["message"] in error.message
    if isinstance(body.get("code"), str):
        assert body["code"] == error.upstream_code
    if recorded.status != 200:
        assert recorded.status == error.status


@pytest.mark.parametrize(
    "recorded",
    [pytest.param(one, id=name) for name, one in ALL.items() if "embeddings" == one.dialect],
)
def test_vectors_come_as_they_were_asked_for(recorded):
    path = "/v1/embeddings"
    conversation = exchange_of(recorded, path, recorded.asked)

    reply = conversation.read(response_of(recorded))

    assert recorded.asked == json.loads(conversation.request.body)
    recorded_rows, rows = (json.loads(body)["data"] for body in (recorded.answer, reply.body))
    assert recorded_rows == rows


def assert_same(said, heard, recorded, caller):
    """The caller reads what the provider said; ids and proofs as far as they were given."""
    proofs = {standard(proof) for proof in said.proofs}
    if caller in {"openai", recorded.dialect}:
        assert set() == proofs - {standard(proof) for proof in heard.proofs}
    assert all(given in {"", id_} for given, id_ in zip(said.call_ids, heard.call_ids, strict=True))
    assert len(heard.call_ids) == len(set(heard.call_ids) - {""})
    assert comparable(said) == comparable(heard)


def comparable(said):
    return msgspec.structs.replace(
        said, proofs=(), call_ids=(), cached_tokens=said.cached_tokens or 0
    )


def assert_counted(said, usage):
    """The books know what the caller is told."""
    assert usage == msgspec.structs.replace(
        usage or Usage(),
        input_tokens=said.input_tokens,
        output_tokens=said.output_tokens,
        cache_read_tokens=said.cached_tokens or 0,
    )
