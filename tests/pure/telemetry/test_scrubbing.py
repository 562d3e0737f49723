"""What is written down of a body: no secret however it is embedded, no media, not too much."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry.scrubbing import CUT, MARGIN, MOST_CHARACTERS, Scrubber

SECRET = 'hunter2-"quoted"\\é/+&'
KEY = "sk-live-0123456789abcdef"

plain = st.text(alphabet="abcdefg ,.\n", max_size=20)
wrappings = st.lists(
    st.sampled_from(["value", "list", "name", "text", "json in text", "named"]), max_size=5
)


def wrapped(secret: str, ways: list[str], filler: str) -> object:
    """Put the secret into a JSON value, layer by layer."""
    value: object = secret
    for way in ways:
        if way == "value":
            value = {"a": filler, "b": value}
        elif way == "list":
            value = [1, value, None]
        elif way == "name" and isinstance(value, str):
            value = {value: filler}
        elif way == "text" and isinstance(value, str):
            value = f"{filler} {value} {filler}"
        elif way == "json in text":
            value = json.dumps(value)
        else:
            value = {"password": value}
    return value


@given(st.sampled_from([SECRET, KEY]), wrappings, plain, st.booleans())
def test_a_planted_secret_never_appears(secret, ways, filler, ascii_only):
    """As a value, a name, in a text, in JSON inside a text, escaped in either way."""
    inner = ways.count("json in text")
    kept = ways if inner <= 1 else [way for way in ways if way != "json in text"]
    raw = json.dumps(wrapped(secret, kept, filler), ensure_ascii=ascii_only).encode()

    shown = msgspec.json.encode(Scrubber([SECRET]).body(raw)).decode()

    for form in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        assert form not in shown
        assert json.dumps(form)[1:-1] not in shown


@given(st.integers(0, 2 * (MOST_CHARACTERS + MARGIN)), st.integers(0, 4))
def test_no_half_of_a_secret_is_left_at_a_cut(before, emails):
    """Wherever the cut falls, and however much the hiding of other things shortens the text."""
    secret = "correct-horse-battery-staple-" * 20
    text = "a@b.example " * (emails * 800) + "x " * (before // 2) + secret + " y" * MARGIN * 3

    shown = str(Scrubber([secret]).value({"content": text}))

    assert "horse" not in shown
    assert len(shown) < MOST_CHARACTERS + 100


@given(st.recursive(plain | st.none() | st.booleans() | st.integers(-9, 9), st.lists, max_leaves=9))
def test_what_holds_nothing_stays_as_it_is(value):
    assert value == Scrubber([SECRET]).body(msgspec.json.encode(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"api_key": "abc", "max_tokens": 5}, {"api_key": "[hidden]", "max_tokens": 5}),
        ({"a": '{"password": "abc", "n": 1}'}, {"a": '{"password": "[hidden]", "n": 1}'}),
        ({"a": "Bearer abc.def"}, {"a": "Bearer [hidden]"}),
        ({"n": 4111111111111111, "m": 1.5}, {"n": "[card]", "m": 1.5}),
        ({"e": [0.5] * 1536}, {"e": "[1536 numbers]"}),
        ({"e": [1, 2]}, {"e": [1, 2]}),
        ({"b64_json": "QUJD" * 100}, {"b64_json": "[base64, 300 bytes]"}),
        (
            {"url": "data:image/png;base64," + "QUJD" * 100},
            {"url": "[image/png, 300 bytes]"},
        ),
        (
            {"t": "see ![x](data:image/gif;base64,QUJD) there"},
            {"t": "see ![x]([image/gif, 3 bytes]) there"},
        ),
        (
            {"k": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- x"},
            {"k": "[hidden] x"},
        ),
    ],
)
def test_bodies_are_scrubbed(value, expected):
    assert expected == Scrubber().body(msgspec.json.encode(value))


def test_personal_data_stays_when_that_is_asked():
    body = {"text": "jo@example.org", "card": 4111111111111111}

    assert body == Scrubber(personal=False).body(msgspec.json.encode(body))
    assert {"text": "[email]", "card": "[card]"} == Scrubber().body(msgspec.json.encode(body))


def test_what_is_no_json_is_text():
    assert "<b>Bearer [hidden] it is" == Scrubber().body(b"<b>Bearer abc</b> it is")
    assert "\ufffd\ufffd" == Scrubber().body(b"\xff\xfe")


def test_a_large_body_is_cut_and_says_so():
    body = {"messages": [{"content": "word " * 1_000} for _ in range(50)]}

    shown = msgspec.json.encode(Scrubber().body(msgspec.json.encode(body))).decode()

    assert MOST_CHARACTERS < len(shown) < MOST_CHARACTERS + 1_000
    assert CUT in shown


def test_what_is_nested_deeply_is_hidden():
    value: object = "x"
    for _ in range(100):
        value = [value]

    assert "[hidden]" in str(Scrubber().value(value))


def test_numbers_may_be_secrets_too():
    assert {"pin": "[hidden]"} == Scrubber(["12345678"]).body(b'{"pin": 12345678}')
