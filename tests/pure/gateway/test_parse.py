"""One look at a chat's messages tells what two looks told."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from shared.gateway.parse import LOOKED_AT_BYTES, parse_request
from tests.pure.providers.test_openai_history import HISTORIES

CHATS = ("/v1/chat/completions", "/v1/messages")

ODD = (
    b'{"role":"user","content":5}',
    b'{"role":"nobody","content":"Hi"}',
    b'{"role":"user","content":["Hi"]}',
    b'{"role":"user","content":"\\x"}',
    b'{"role":5}',
    b"{}",
    b"5",
)
VALUES = st.one_of(
    HISTORIES.map(lambda messages: json.dumps(messages).encode()),
    st.lists(st.sampled_from(ODD), max_size=3).map(lambda some: b"[%b]" % b",".join(some)),
    st.sampled_from([b"null", b"{}", b'"Hi"', b"[", b"[" * 5_000]),
)
FIELDS = st.sampled_from([b"", b',"n":2,"stream":true', b',"n":"two"', b',"tools":{}', b","])


def outcome(endpoint, raw):
    try:
        request = parse_request(endpoint, raw)
    except InvalidRequest as error:
        return error.param, error.message.partition(" (byte")[0]
    names = type(request.head).__struct_fields__
    head = {name: getattr(request.head, name) for name in names if name != "messages"}
    shown = {
        name: bytes(value) if isinstance(value, msgspec.Raw) else value
        for name, value in head.items()
    }
    return shown, request.message_count


@pytest.mark.parametrize("endpoint", CHATS)
@given(messages=VALUES, fields=FIELDS)
def test_a_short_look_and_a_long_one_come_to_the_same(endpoint, messages, fields):
    """Of a field that comes twice the last one counts; an odd one before it makes the look long."""
    body = b'"model":"m","messages":%b%b}' % (messages, fields)
    odd = b'{"messages":[{"role":"user","content":5}],'

    assert outcome(endpoint, odd + body) == outcome(endpoint, b"{" + body)


@given(messages=HISTORIES)
def test_what_is_known_of_the_messages_is_what_a_look_would_tell(messages):
    raw = json.dumps({"model": "m", "messages": messages}).encode()
    try:
        request = parse_request(CHATS[0], raw)
    except InvalidRequest:
        return
    odd = any(type(message.get("content")) is int for message in messages)

    assert odd == (request.history is None)
    if request.history is not None:
        assert raw is request.history.raw
        assert {message["role"] for message in messages} == request.history.roles
        assert [None] * len(messages) == [turn.content for turn in request.history.turns]


@pytest.mark.parametrize(
    "many", [b'{"role":"user"}', b'{"role":"user","name":[%b]}' % b",".join([b"[]"] * 1_000)]
)
def test_of_a_large_body_nothing_is_kept_beside_it(many):
    """Small things in great number would take twenty times the room of their bytes."""
    count = LOOKED_AT_BYTES // len(many) + 1
    raw = b'{"model":"m","messages":[%b]}' % b",".join([many] * count)

    request = parse_request(CHATS[0], raw)

    assert (count, None) == (request.message_count, request.history)
    assert isinstance(request.head.messages, msgspec.Raw)
