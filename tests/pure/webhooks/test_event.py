"""Events as bytes."""

from datetime import UTC, datetime

import msgspec
import pytest

from shared.webhooks.event import JOB_EVENTS, job_event, subject_event

AT = datetime(2030, 1, 31, 12, 0, 0, 999_999, tzinfo=UTC)


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "expired"])
def test_the_body_names_the_job_and_nothing_more(status):
    event = job_event("evt_1", job_id="job_1", status=status, at=AT)

    expected = {
        "id": "evt_1",
        "object": "event",
        "type": f"job.{status}",
        "created_at": 1_896_091_200,
        "data": {"id": "job_1"},
    }
    assert expected == msgspec.json.decode(event.body)
    assert event.type in JOB_EVENTS


def test_an_open_job_has_no_event():
    with pytest.raises(ValueError, match="running"):
        job_event("evt_1", job_id="job_1", status="running", at=AT)


def test_facts_stand_beside_the_id():
    event = subject_event("evt_1", "webhook_endpoint.disabled", "we_1", AT, {"reason": "gone"})

    assert {"id": "we_1", "reason": "gone"} == msgspec.json.decode(event.body)["data"]


def test_there_is_no_event_without_a_type():
    with pytest.raises(ValueError, match=r"job\.done"):
        subject_event("evt_1", "job.done", "job_1", AT)
