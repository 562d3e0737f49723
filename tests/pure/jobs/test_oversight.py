"""Why a job is where it is, in words."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from shared.jobs.oversight import overseen_job, reason_of, scene
from shared.store.oversight import Overseen
from shared.store.pauses import Pause
from shared.store.records import AttemptRow, JobRow
from shared.store.workers import WorkerRow

NOW = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def make_row(**values) -> JobRow:
    known = {
        "id": "job_1",
        "tenant_id": "acme",
        "key_id": "key_1",
        "request_id": "req_1",
        "endpoint": "/v1/chat/completions",
        "body": b"{}",
        "status": "queued",
        "created_at": NOW - 5 * MINUTE,
        "queued_at": NOW - 5 * MINUTE,
        "deadline": NOW + 60 * MINUTE,
    }
    return JobRow(**{**known, **values})


def make_worker(**values) -> WorkerRow:
    known = {
        "owner": "w",
        "host": "h",
        "started_at": NOW,
        "slots": 8,
        "running": 0,
        "seen_at": NOW,
        "drain_at": None,
    }
    return WorkerRow(**{**known, **values})


ALIVE = (make_worker(),)
HELD = {"status": "running", "lease_owner": "w", "lease_until": NOW + MINUTE}
PAUSED = Pause(scope="class:batch", reason="too dear", since=NOW)


@pytest.mark.parametrize(
    ("values", "pauses", "workers", "code", "text"),
    [
        ({}, (), ALIVE, "turn", "since 2026-03-05 09:25:00Z"),
        ({}, (), (), "no_worker", "No worker"),
        ({}, (), (make_worker(drain_at=NOW),), "draining", "draining"),
        ({}, (), (*ALIVE, make_worker(drain_at=NOW)), "turn", "turn"),
        ({}, (), (make_worker(drain_at=NOW, seen_at=NOW - MINUTE),), "no_worker", "No worker"),
        ({}, (), (make_worker(seen_at=NOW - MINUTE),), "no_worker", "No worker"),
        ({"priority": "batch"}, (PAUSED,), ALIVE, "paused", "class:batch is paused"),
        ({"priority": "batch"}, (PAUSED,), ALIVE, "paused", "(too dear)"),
        ({}, (PAUSED,), ALIVE, "turn", "turn"),
        ({}, (Pause(scope="tenant:acme", reason=None, since=NOW),), ALIVE, "paused", "tenant:acme"),
        ({"status": "scheduled", "not_before": NOW + MINUTE}, (), ALIVE, "not_before", "09:31:00Z"),
        (
            {"status": "scheduled", "not_before": NOW, "waits_for": "overloaded", "deferrals": 3},
            (),
            ALIVE,
            "put_off",
            "overloaded: again at 2026-03-05 09:30:00Z (put off 3 times, tried in vain 0 times)",
        ),
        (HELD, (PAUSED,), ALIVE, "running", "It runs at w."),
        ({**HELD, "status": "cancelling"}, (), ALIVE, "cancelling", "being ended at w."),
        ({**HELD, "lease_until": NOW}, (), ALIVE, "lease_ended", "not been heard of since"),
        ({"status": "failed", "error": {"message": "no"}}, (), (), "ended", "It failed: no"),
        ({"status": "succeeded"}, (), (), "ended", "It succeeded."),
        ({"status": "cancelled"}, (), (), "ended", "It was cancelled."),
    ],
)
def test_every_job_has_a_reason(values, pauses, workers, code, text):
    """What holds it up most is told."""
    around = scene(NOW, pauses, workers, lost_after_s=30)

    reason = reason_of(make_row(**values), around)

    assert code == reason.code
    assert text in reason.text


def test_an_operator_sees_the_lease_and_the_last_error():
    """With everything that the job's own tenant sees."""
    row = make_row(**HELD, lease_token=4, recoveries=1, attempts_spent=2)
    tries = [
        AttemptRow(
            id=f"att_{code}", job_id="job_1", number=1, route="m", provider="p", model="pm",
            code=code, message=message, started_at=NOW, opening=b"",
        )
        for code, message in (("overloaded", "busy"), ("upstream_timeout", None), (None, "fine"))
    ]  # fmt: skip

    shown = msgspec.to_builtins(
        overseen_job(
            Overseen(job=row, stuck="lease_ended"),
            scene(NOW, (), ALIVE, lost_after_s=30),
            tries,
        )
    )

    assert {
        "id": "job_1",
        "object": "job",
        "tenant_id": "acme",
        "stuck": "lease_ended",
        "last_error": "upstream_timeout: p",
        "lease": {"owner": "w", "token": 4, "until": int((NOW + MINUTE).timestamp())},
        "attempts_spent": 2,
        "recoveries": 1,
    }.items() <= shown.items()
    assert 3 == len(shown["attempts"])
