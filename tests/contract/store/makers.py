"""Records for tests: only what matters is given."""

from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime, timedelta

from shared.chat.usage import Usage
from shared.store.records import AttemptRow, EventRow, Finish, JobRow, KeyRow, LedgerRow, NewJob

START = datetime(2026, 3, 5, 9, 30, 0, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


class StoppedClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return (self.moment - START).total_seconds()

    def forward(self, length_s: float) -> datetime:
        """Let time pass; return the new moment."""
        self.moment += timedelta(seconds=length_s)
        return self.moment

    async def sleep(self, length_s: float) -> None:
        self.forward(length_s)

    def timeout(self, length_s: float) -> AbstractAsyncContextManager[object]:
        return nullcontext()


def make_job(id_="job_1", *, tenant_id="acme", **values) -> NewJob:
    known = {
        "key_id": "key_1",
        "request_id": f"req_of_{id_}",
        "endpoint": "/v1/chat/completions",
        "body": b'{"model":"m"}',
        "deadline": START + HOUR,
    }
    return NewJob(id=id_, tenant_id=tenant_id, **{**known, **values})


def make_attempt(id_="att_1", *, job_id="job_1", **values) -> AttemptRow:
    known = {"number": 1, "route": "m", "provider": "p", "model": "pm", "started_at": START}
    return AttemptRow(id=id_, job_id=job_id, opening=b"\x00\xff", **{**known, **values})


def make_key(id_="key_1", *, tenant_id="acme", **values) -> KeyRow:
    known = {"name": "ci", "key_hash": f"hash_of_{id_}", "hint": "wxyz", "created_at": START}
    return KeyRow(id=id_, tenant_id=tenant_id, **{**known, **values})


def make_row(attempt_id="att_1", *, tenant_id="acme", **values) -> LedgerRow:
    known = {
        "request_id": f"req_of_{attempt_id}",
        "key_id": "key_1",
        "endpoint": "/v1/chat/completions",
        "route": "m",
        "provider": "p",
        "model": "pm",
        "outcome": "succeeded",
        "usage": Usage(input_tokens=10, output_tokens=2),
        "cost_nanousd": 1_000,
        "started_at": START - SECOND,
        "ended_at": START,
    }
    return LedgerRow(attempt_id=attempt_id, tenant_id=tenant_id, **{**known, **values})


def make_event(id_="evt_1", **values) -> EventRow:
    known = {"tenant_id": "acme", "type": "job.succeeded", "created_at": START}
    return EventRow(id=id_, body=b'{"type": "job.succeeded"}', **{**known, **values})


def ended(status="succeeded", **values) -> Finish:
    return Finish(status=status, **{"at": START + SECOND, **values})


def ids(rows: list[JobRow]) -> list[str]:
    return [row.id for row in rows]
