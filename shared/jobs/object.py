"""The job object, as callers see it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from shared.chat.usage import Usage
from shared.jobs.state import FINAL
from shared.store.records import AttemptRow, JobRow

MOST_ATTEMPTS = 50
"""Attempts that a job is shown with, the last ones; a job that waits out an outage makes more."""

_NANOUSD_DIGITS = 9
_HIDDEN = frozenset({"upstream_status", "attempts"})
"""Parts of a stored error that stand elsewhere in the job object."""


class JobAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One provider call of a job; `outcome` is null while it is under way."""

    id: str
    provider: str
    model: str
    outcome: str | None
    status_code: int | None
    duration_ms: int | None
    code: str | None
    message: str | None


class JobResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The call's answer."""

    status_code: int
    body: msgspec.Raw  # `null`: too large for a list, or not to be had now


class JobObject(msgspec.Struct, frozen=True, kw_only=True):
    """A job over HTTP. Moments are epoch seconds; `cost_usd` is exact, never a float."""

    id: str
    kind: str = msgspec.field(default="job", name="object")
    endpoint: str
    status: str
    priority: str
    created_at: int
    started_at: int | None
    finished_at: int | None
    deadline: int
    not_before: int | None
    metadata: dict[str, str]
    tags: dict[str, str]
    attempts: tuple[JobAttempt, ...]  # the last of them
    attempts_made: int
    usage: Usage | None
    cost_usd: msgspec.Raw | None
    error: dict[str, object] | None
    response: JobResponse | None
    batch_id: str | None
    queue_position: int | None
    estimated_start: int | None
    waits_for: str | None
    on_budget: str
    request_id: str


def job_object(
    job: JobRow,
    *,
    attempts: Sequence[AttemptRow] = (),
    queue_position: int | None = None,
    estimated_start: datetime | None = None,
) -> JobObject:
    """Return the job as callers see it; `queue_position` counts from 1 and is theirs to guess by.

    `attempts` are the last MOST_ATTEMPTS; their numbers say how many were made.
    `response` is there once the job has succeeded, its body null when it lies elsewhere; `error`
    once it has ended otherwise. `waits_for` is why it was put off: an error's code, or `budget`.
    """
    return JobObject(
        id=job.id,
        endpoint=job.endpoint,
        status=job.status,
        priority=job.priority,
        created_at=int(job.created_at.timestamp()),
        started_at=_seconds(job.started_at),
        finished_at=_seconds(job.finished_at),
        deadline=int(job.deadline.timestamp()),
        not_before=_seconds(job.not_before),
        metadata=job.metadata,
        tags=job.tags,
        attempts=tuple(_attempt(row) for row in attempts),
        attempts_made=max((row.number for row in attempts), default=0),
        usage=job.usage,
        cost_usd=None if job.cost_nanousd is None else usd(job.cost_nanousd),
        error=_error(job),
        response=_response(job),
        batch_id=job.batch_id,
        queue_position=None if job.status in FINAL else queue_position,
        estimated_start=_seconds(estimated_start),
        waits_for=job.waits_for,
        on_budget=job.on_budget or "fail",
        request_id=job.request_id,
    )


def usd(cost_nanousd: int) -> msgspec.Raw:
    """Return nano-dollars as a JSON number of dollars, with all of its digits."""
    sign = "-" if cost_nanousd < 0 else ""
    whole, part = divmod(abs(cost_nanousd), 10**_NANOUSD_DIGITS)
    digits = f"{part:0{_NANOUSD_DIGITS}d}".rstrip("0")
    text = f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"
    return msgspec.Raw(text.encode())


def _attempt(row: AttemptRow) -> JobAttempt:
    return JobAttempt(
        id=row.id,
        provider=row.provider,
        model=row.model,
        outcome=row.outcome,
        status_code=row.status_code,
        duration_ms=row.duration_ms,
        code=row.code,
        message=row.message,
    )


def _response(job: JobRow) -> JobResponse | None:
    if job.response_status is None:
        return None
    body = job.response_body or b"null"
    return JobResponse(status_code=job.response_status, body=msgspec.Raw(body))


def _error(job: JobRow) -> dict[str, object] | None:
    if job.error is None:
        return None
    return {name: value for name, value in job.error.items() if name not in _HIDDEN}


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
