"""The job as callers see it."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from shared.chat.usage import Usage
from shared.jobs.object import job_object, usd
from shared.store.records import AttemptRow, JobRow

AT = datetime(2030, 1, 31, 12, tzinfo=UTC)


def make_job(**values):
    known = {
        "id": "job_1",
        "tenant_id": "acme",
        "key_id": "key_1",
        "request_id": "req_1",
        "endpoint": "/v1/chat/completions",
        "body": b"{}",
        "deadline": AT + timedelta(hours=1),
        "status": "queued",
        "created_at": AT,
        "queued_at": AT,
    }
    return JobRow(**{**known, **values})


@pytest.mark.parametrize(
    ("cost_nanousd", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (1_500_000_000, "1.5"),
        (123_456_789_012_345_678, "123456789.012345678"),
        (-2_000_000, "-0.002"),
    ],
)
def test_money_keeps_every_digit(cost_nanousd, text):
    assert text == bytes(usd(cost_nanousd)).decode()


def test_a_waiting_job():
    shown = msgspec.json.decode(
        msgspec.json.encode(
            job_object(
                make_job(metadata={"a": "b"}, waits_for="budget", on_budget="wait"),
                queue_position=3,
                estimated_start=AT,
            )
        )
    )

    expected = {
        "id": "job_1",
        "object": "job",
        "endpoint": "/v1/chat/completions",
        "status": "queued",
        "priority": "default",
        "created_at": 1_896_091_200,
        "started_at": None,
        "finished_at": None,
        "deadline": 1_896_094_800,
        "not_before": None,
        "metadata": {"a": "b"},
        "tags": {},
        "attempts": [],
        "attempts_made": 0,
        "usage": None,
        "cost_usd": None,
        "error": None,
        "response": None,
        "batch_id": None,
        "queue_position": 3,
        "estimated_start": 1_896_091_200,
        "waits_for": "budget",
        "on_budget": "wait",
        "request_id": "req_1",
    }
    assert expected == shown


def test_a_job_that_succeeded():
    job = make_job(
        status="succeeded",
        finished_at=AT,
        response_status=200,
        response_body=b'{"choices":[]}',
        usage=Usage(input_tokens=3),
        cost_nanousd=1_230,
    )
    attempt = AttemptRow(
        id="att_1",
        job_id="job_1",
        number=1,
        route="m",
        provider="p",
        model="pm",
        outcome="succeeded",
        status_code=200,
        duration_ms=12,
        started_at=AT,
        opening=b"",
    )

    text = msgspec.json.encode(job_object(job, attempts=[attempt], queue_position=1))
    shown = msgspec.json.decode(text)

    assert {"status_code": 200, "body": {"choices": []}} == shown["response"]
    assert b'"cost_usd":0.00000123,' in text
    assert shown["queue_position"] is None
    assert ("att_1", "succeeded", 12) == tuple(
        shown["attempts"][0][name] for name in ("id", "outcome", "duration_ms")
    )


def test_an_error_shows_no_inner_facts():
    error = {"code": "invalid_request", "message": "no", "upstream_status": 422, "attempts": []}

    shown = job_object(make_job(status="failed", error=error))

    assert {"code": "invalid_request", "message": "no"} == shown.error
