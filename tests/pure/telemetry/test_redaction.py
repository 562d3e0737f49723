"""No secret reaches a log line, by whatever way it tries."""

import pytest

from shared.telemetry.redaction import names_a_secret, redacted_value, without_secrets


@pytest.mark.parametrize(
    "name",
    [
        *("api_key", "key", "Authorization", "x-api-key", "secret_key", "webhook_secret"),
        *("password", "token", "access_token", "set-cookie", "SLUICEWAY_MASTER_KEY"),
    ],
)
def test_a_field_of_that_name_is_hidden(name):
    assert "[hidden]" == redacted_value(name, "harmless")


@pytest.mark.parametrize(
    "name", ["tokens", "input_tokens", "key_id", "key_name", "event", "token_count", "model"]
)
def test_a_field_of_that_name_is_shown(name):
    assert not names_a_secret(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("failed with sk-sw-abcdefgh1234", "failed with [hidden]"),
        ("https://h/x?api_key=SECRET99&a=1", "https://h/x?api_key=[hidden]&a=1"),
        ("https://h/x?a=1&X-Amz-Signature=abc#f", "https://h/x?a=1&X-Amz-Signature=[hidden]#f"),
        ("https://h/x?max_tokens=5&keys=a", "https://h/x?max_tokens=5&keys=a"),
        ("key=sk-ant-api03-abcdefgh", "key=[hidden]"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [hidden]"),
        ("redis://u:p4ss@host/0", "redis://u:[hidden]@host/0"),
        ("postgresql://:p4ss@host", "postgresql://:[hidden]@host"),
        ("AIzaSyA1234567890abcdefghij", "[hidden]"),
        ("AKIAABCDEFGHIJKLMNOP", "[hidden]"),
        ("whsec_abcdefghijkl", "[hidden]"),
        *((f"{mark}_0123456789abcdef", "[hidden]") for mark in ("ghp", "ghs", "npm", "sk_live")),
        *((f"{mark}-0123456789-abcdef", "[hidden]") for mark in ("xoxb", "glpat", "xai", "PPLX")),
        ("ya29.a0AfB_byC0123456789abcdef", "[hidden]"),
        ("gsk_0123456789 hf_0123456789", "[hidden] [hidden]"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "[hidden]"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.sig-nature", "[hidden]"),
        ("risk-free and task-1 of http://host/path", "risk-free and task-1 of http://host/path"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_in_any_text(text, expected):
    assert expected == without_secrets(text)


def test_numbers_and_flags_are_never_secrets():
    """A lease's fencing token is a number and must be readable."""
    assert (3, True, None) == tuple(redacted_value("lease_token", one) for one in (3, True, None))


def test_it_looks_inside():
    value = {"headers": {"Authorization": "x"}, "list": ["sk-sw-abcdefgh1234", b"Bearer q"]}

    assert {
        "headers": {"Authorization": "[hidden]"},
        "list": ["[hidden]", "Bearer [hidden]"],
    } == redacted_value("facts", value)


def test_what_is_nested_without_end_is_cut():
    loop: dict[str, object] = {}
    loop["again"] = loop

    assert "[hidden]" in str(redacted_value("facts", loop))
