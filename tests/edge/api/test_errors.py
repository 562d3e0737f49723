"""The error table: each code has one status, and the body every SDK reads."""

import msgspec
import pytest

from api.errors import STATUSES, answer_of, event_of, status_of
from shared import errors
from shared.errors import (
    BudgetExceeded,
    ChainFailed,
    Conflict,
    DeadlineExceeded,
    FailedAttempt,
    FailureKind,
    GatewayError,
    InvalidApiKey,
    InvalidRequest,
    JobCancelled,
    JobExpired,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    Overloaded,
    OwnFault,
    PermissionDenied,
    QueueFull,
    RateLimitExceeded,
    RequestTooLarge,
    StoreUnavailable,
    StreamInterrupted,
    UpstreamError,
    WorkerLost,
    all_codes,
)

FAILED = FailedAttempt(id="att_1", provider="p", model="m", outcome="failed")


def failed(code: str, **how: object) -> ChainFailed:
    return ChainFailed(code, "no", attempts=[FAILED], **how)


def test_every_code_has_its_status_and_no_status_is_without_a_code():
    assert all_codes() == frozenset(STATUSES)


@pytest.mark.parametrize(
    ("error", "status", "code", "kind", "headers"),
    [
        (InvalidRequest("no", param="n"), 400, "invalid_request", "invalid_request_error", {}),
        (InvalidApiKey("no"), 401, "invalid_api_key", "authentication_error", {}),
        (PermissionDenied("no"), 403, "permission_denied", "permission_error", {}),
        (ModelNotFound("no"), 404, "model_not_found", "invalid_request_error", {}),
        (NotFound("no"), 404, "not_found", "invalid_request_error", {}),
        (
            MethodNotAllowed("no", allowed=["GET", "POST"]),
            405,
            "method_not_allowed",
            "invalid_request_error",
            {"allow": "GET, POST"},
        ),
        (Conflict("no"), 409, "conflict", "conflict", {}),
        (
            errors.IdempotencyInProgress("no"),
            409,
            "idempotency_in_progress",
            "conflict",
            {"retry-after": "1"},
        ),
        (RequestTooLarge("no"), 413, "request_too_large", "invalid_request_error", {}),
        (
            errors.IdempotencyMismatch("no"),
            422,
            "idempotency_mismatch",
            "invalid_request_error",
            {},
        ),
        (
            RateLimitExceeded("no", retry_after_s=1.2),
            429,
            "rate_limit_exceeded",
            "rate_limit_error",
            {"retry-after": "2"},
        ),
        (
            QueueFull("no", retry_after_s=1000),
            429,
            "queue_full",
            "rate_limit_error",
            {"retry-after": "120"},
        ),
        (
            BudgetExceeded("no", limit_source="tenant", resets_at=7),
            429,
            "budget_exceeded",
            "insufficient_quota",
            {"x-should-retry": "false"},
        ),
        (OwnFault("no"), 500, "internal_error", "server_error", {}),
        (failed("all_targets_failed"), 502, "all_targets_failed", "server_error", {}),
        (
            failed("rate_limit_exceeded", retry_after_s=0.0),
            429,
            "rate_limit_exceeded",
            "rate_limit_error",
            {"retry-after": "1"},
        ),
        (failed("upstream_timeout"), 504, "upstream_timeout", "server_error", {}),
        (StreamInterrupted("no"), 502, "stream_interrupted", "server_error", {}),
        (Overloaded("no"), 503, "overloaded", "server_error", {"retry-after": "1"}),
        (StoreUnavailable("no"), 503, "store_unavailable", "server_error", {"retry-after": "2"}),
        (
            DeadlineExceeded("no"),
            504,
            "deadline_exceeded",
            "server_error",
            {"x-should-retry": "false"},
        ),
        (JobExpired("no"), 504, "expired", "server_error", {}),
        (JobCancelled("no"), 409, "cancelled", "server_error", {}),
        (WorkerLost("no"), 500, "worker_lost", "server_error", {}),
    ],
    ids=lambda value: (
        f"{type(value).__name__} {value.code}" if isinstance(value, GatewayError) else ""
    ),
)
def test_an_error_is_answered_so(error, status, code, kind, headers):
    found_status, body, found_headers = answer_of(error)

    shown = msgspec.json.decode(body)["error"]
    assert (status, code, kind) == (found_status, shown["code"], shown["type"])
    assert ("no", error.param) == (shown["message"], shown["param"])
    assert headers == found_headers


def test_a_chain_shows_its_attempts():
    _, body, _ = answer_of(failed("all_targets_failed"))

    (attempt,) = msgspec.json.decode(body)["error"]["attempts"]
    assert ("att_1", "p", "m", "failed") == (
        attempt["id"],
        attempt["provider"],
        attempt["model"],
        attempt["outcome"],
    )


def test_a_budget_says_whose_and_until_when():
    _, body, _ = answer_of(BudgetExceeded("no", limit_source="key", resets_at=1_800_000_000))

    shown = msgspec.json.decode(body)["error"]
    assert ("key", 1_800_000_000) == (shown["limit_source"], shown["resets_at"])


@pytest.mark.parametrize(
    ("kind", "status", "upstream_code", "expected"),
    [
        (FailureKind.REJECTED, 422, "odd_value", (422, "odd_value")),
        (FailureKind.REJECTED, 413, None, (413, "invalid_request")),
        (FailureKind.CONTEXT_LENGTH, 400, "too_long", (400, "too_long")),
        (FailureKind.CONTENT_FILTER, None, None, (400, "content_filter")),
        (FailureKind.REJECTED, 409, "odd_value", (400, "odd_value")),
        (FailureKind.REJECTED, 451, None, (400, "invalid_request")),
        (FailureKind.CREDENTIAL, 401, "invalid_api_key", (502, "upstream_credential")),
        (FailureKind.NOT_FOUND, 404, "model_not_found", (502, "upstream_unavailable")),
    ],
)
def test_a_providers_words_are_kept_about_the_request_only(kind, status, upstream_code, expected):
    """Its 400, 413 and 422 are the caller's business; its 401 and 404 are ours."""
    upstream = UpstreamError(kind, "its words", status=status, upstream_code=upstream_code)
    error = failed(errors.CHAIN_CODES[kind], error=upstream)

    found_status, body, _ = answer_of(error)

    shown = msgspec.json.decode(body)["error"]
    assert expected == (found_status, shown["code"])
    assert "upstream_status" not in shown


def test_a_providers_param_is_shown_only_with_its_refusal():
    """That of a 5xx is about what the provider itself sends around."""
    broken = UpstreamError(FailureKind.SERVER_ERROR, "no", status=500, param="internal")
    refused = UpstreamError(FailureKind.REJECTED, "no", status=400, param="n")

    params = [
        msgspec.json.decode(answer_of(failed(code, error=error))[1])["error"]["param"]
        for code, error in (("upstream_unavailable", broken), ("invalid_request", refused))
    ]

    assert [None, "n"] == params


def test_an_unknown_code_of_an_old_job_row_is_a_500():
    assert 500 == status_of({"code": "from_another_version"})


def test_a_broken_stream_ends_in_one_event():
    event = event_of(StreamInterrupted("it broke"))

    assert event.startswith(b'data: {"error":')
    assert event.endswith(b"\n\n")
    assert 1 == event.count(b"\n\n")


@pytest.mark.behaviour(169)
@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("no", param="top_p"), 400, "invalid_request_error"),
        (InvalidApiKey("no"), 401, "authentication_error"),
        (PermissionDenied("no"), 403, "permission_error"),
        (ModelNotFound("no"), 404, "not_found_error"),
        (MethodNotAllowed("no"), 405, "invalid_request_error"),
        (Conflict("no"), 409, "conflict_error"),
        (RequestTooLarge("no"), 413, "request_too_large"),
        (RateLimitExceeded("no", retry_after_s=1), 429, "rate_limit_error"),
        (BudgetExceeded("no", limit_source="k", resets_at=0), 429, "rate_limit_error"),
        (OwnFault("no"), 500, "api_error"),
        (failed("all_targets_failed"), 502, "api_error"),
        (failed("overloaded"), 529, "overloaded_error"),
        (Overloaded("no"), 529, "overloaded_error"),
        (StoreUnavailable("no"), 503, "api_error"),
        (failed("upstream_timeout"), 504, "timeout_error"),
    ],
    ids=lambda value: (
        f"{type(value).__name__} {value.code}" if isinstance(value, GatewayError) else ""
    ),
)
def test_anthropics_callers_get_its_statuses_and_types(error, status, kind):
    """The code is the same in all dialects."""
    found_status, body, _ = answer_of(error, "anthropic", "req_1")

    shown = msgspec.json.decode(body)
    assert ("error", "req_1", status) == (shown["type"], shown["request_id"], found_status)
    assert (kind, "no", error.param, error.code) == (
        shown["error"]["type"],
        shown["error"]["message"],
        shown["error"]["param"],
        shown["error"]["code"],
    )
    assert {"error_code": error.code} == shown["error"]["details"]


def test_a_broken_stream_of_anthropics_ends_in_one_named_event():
    event = event_of(StreamInterrupted("it broke"), "anthropic", "req_1")

    name, data, *end = event.decode().split("\n")
    assert ("event: error", ["", ""]) == (name, end)
    body = msgspec.json.decode(data.removeprefix("data: "))
    assert ("error", "api_error", "stream_interrupted", "req_1") == (
        body["type"],
        body["error"]["type"],
        body["error"]["code"],
        body["request_id"],
    )


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_database_s_own_words_are_for_the_log(dialect):
    error = StoreUnavailable('the database failed: connection to "10.0.0.1", port 5432 failed')

    _, body, _ = answer_of(error, dialect)

    assert "the database failed." == msgspec.json.decode(body)["error"]["message"]
