"""Status first, then the body's own words; texts only where nothing else is given."""

import json
from datetime import UTC, datetime

import pytest

from shared.errors import FailureKind
from shared.providers.dialects.openai_errors import error_of, read_error
from shared.providers.exchange import HttpResponse
from shared.providers.retry_after import duration_s, retry_after_s

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)


def failure(status, error=None, **headers):
    body = b"" if error is None else json.dumps({"error": error}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_of(HttpResponse(status=status, headers=named, body=body))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, "malformed"), (400, "rejected"), (401, "credential"), (402, "credential"),
        (403, "credential"), (404, "not_found"), (405, "rejected"), (408, "timeout"),
        (409, "server_error"), (413, "rejected"), (422, "rejected"), (429, "rate_limited"),
        (498, "overloaded"), (500, "server_error"), (502, "server_error"), (503, "overloaded"),
        (504, "timeout"), (520, "server_error"), (524, "timeout"), (529, "overloaded"),
    ],
)  # fmt: skip
def test_statuses(status, kind):
    assert FailureKind(kind) is failure(status).kind


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (429, {"code": "insufficient_quota"}, "credential"),
        (429, {"type": "insufficient_quota"}, "credential"),
        (429, {"code": "project_spend_limit_exceeded"}, "credential"),
        (429, {"type": "exceeded_current_quota_error"}, "credential"),
        (429, {"type": "engine_overloaded_error"}, "overloaded"),
        (429, {"code": "1302"}, "rate_limited"),
        (429, {"code": 1113}, "credential"),
        (400, {"code": "context_length_exceeded"}, "context_length"),
        (400, {"message": "This model's maximum context length is 8192 tokens."}, "context_length"),
        (400, {"type": "exceed_context_size_error"}, "context_length"),
        (400, {"code": "content_policy_violation"}, "content_filter"),
        (400, {"code": "content_filter"}, "content_filter"),
        (400, {"message": "Incorrect API key provided"}, "credential"),
        (500, {"message": "maximum context length is 5"}, "server_error"),
        (413, {"code": "rate_limit_exceeded", "type": "tokens"}, "rejected"),
    ],
)
def test_bodies(status, error, kind):
    assert FailureKind(kind) is failure(status, error).kind


@pytest.mark.behaviour(128, 129)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "a"}}, "a"),
        ({"error": "a"}, "a"),
        ([{"error": {"message": "a"}}], "a"),
        ({"message": "a"}, "a"),
        ({"detail": "a"}, "a"),
        ({"object": "error", "message": {"detail": ["a"]}}, '{"detail":["a"]}'),
        ("a", "a"),
        ([], None),
        (7, None),
        ({"error": {}}, None),
    ],
)
def test_every_shape_of_body_is_read(body, message):
    assert message == read_error(json.dumps(body).encode()).message


@pytest.mark.behaviour(128)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", None),
        (b"plain", "plain"),
        (b"<html><title>Bad gateway</title>", "Bad gateway"),
        (b"<html>", None),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 100_000, "[" * 8192),
    ],
    ids=["empty", "plain", "page", "page without title", "not UTF-8", "deep"],
)
def test_what_is_not_json_is_read_too(body, message):
    assert message == read_error(body).message


@pytest.mark.behaviour(141)
def test_no_credential_gets_out():
    secret = "secret-without-a-prefix"
    body = {"error": {"message": f"bad key {secret} or sk-proj-abcdefgh1234 or Bearer abc"}}
    response = HttpResponse(status=401, headers={}, body=json.dumps(body).encode())

    assert "bad key [hidden] or [hidden] or [hidden]" == error_of(response, secret=secret).message


def test_long_texts_are_cut():
    assert 2_000 == len(failure(500, {"message": "x" * 9_000}).message)


@pytest.mark.parametrize(
    ("headers", "hint_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Sat, 21 Nov 2026 10:01:00 GMT"}, 60.0),
        ({"retry-after": "Sat, 21 Nov 2026 09:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 1.0),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s",
          "x-ratelimit-remaining-tokens": "0"}, 360.0),
        ({"x-ratelimit-reset-requests": "30"}, 30.0),
        ({"x-ratelimit-reset": str(NOW.timestamp() + 5)}, 5.0),
        ({"x-ratelimit-reset": str(int(NOW.timestamp() * 1000) + 1_500)}, 1.5),
        ({"x-ratelimit-reset": str(NOW.timestamp() - 5)}, 0.0),
        ({"ratelimit-reset": "8", "ratelimit-remaining": "0"}, 8.0),
        ({"ratelimitbysize-reset": "41"}, 41.0),
        ({"x-ratelimit-reset-requests-day": "33011.4", "x-ratelimit-reset-tokens-minute": "9.5",
          "x-ratelimit-remaining-tokens-minute": "0"}, 9.5),
        ({"retry-after": "2", "x-ratelimit-reset-requests": "30"}, 2.0),
        ({"x-ratelimit-reset-requests": "tomorrow"}, None),
    ],
)  # fmt: skip
def test_hints(headers, hint_s):
    assert hint_s == retry_after_s(headers, NOW)


@pytest.mark.parametrize(
    ("headers", "again"),
    [({}, True), ({"x_should_retry": "false"}, False), ({"x_should_retry": "true"}, True)],
)
def test_a_provider_may_say_that_it_is_of_no_use_to_ask_again(headers, again):
    assert again == failure(500, **headers).again


def test_a_date_without_a_moment_to_measure_from_is_no_hint():
    assert retry_after_s({"retry-after": "Sat, 21 Nov 2026 10:01:00 GMT"}, None) is None


def test_a_reset_says_nothing_of_a_server_error():
    """OpenAI sends the resets of its limits with every answer, whatever became of it."""
    headers = {"x_ratelimit_reset_tokens": "6m0s", "x_ratelimit_remaining_tokens": "12000"}

    assert failure(500, **headers).retry_after_s is None
    assert 360.0 == failure(429, **headers).retry_after_s


def test_the_answers_own_date_is_the_moment():
    """No skew between clocks counts."""
    error = failure(
        503, date="Sat, 21 Nov 2020 10:00:00 GMT", retry_after="Sat, 21 Nov 2020 10:00:09 GMT"
    )

    assert 9.0 == error.retry_after_s


@pytest.mark.parametrize(
    ("text", "length_s"),
    [
        ("12ms", 0.012),
        ("1.5s", 1.5),
        ("6m0s", 360),
        ("2m59.56s", 179.56),
        ("1d", 86_400),
        ("x", None),
    ],
)
def test_durations(text, length_s):
    assert length_s == pytest.approx(duration_s(text)) if length_s else duration_s(text) is None
