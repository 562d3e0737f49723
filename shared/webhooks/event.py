"""Events: what happened, as the exact bytes that are signed and sent."""

from datetime import datetime

import msgspec

JOB_EVENTS = frozenset({"job.succeeded", "job.failed", "job.cancelled", "job.expired"})
"""The types there are; one per final state of a job."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A fact told to callers. `body` never changes, however often it is sent."""

    id: str
    type: str
    created_at: datetime
    body: bytes


class _Subject(msgspec.Struct):
    id: str


class _Body(msgspec.Struct):
    id: str
    object: str
    type: str
    created_at: int
    data: _Subject


def job_event(event_id: str, *, job_id: str, status: str, at: datetime) -> Event:
    """Return the event of a job that has just reached a final state.

    The body is thin (`data` holds the job's id), so that a receiver reads the result with its
    own key and a leaked body tells nothing.

    Raises:
        ValueError: `status` is not final.
    """
    kind = f"job.{status}"
    if kind not in JOB_EVENTS:
        raise ValueError(f"{status!r} is not a final state of a job")
    body = _Body(
        id=event_id,
        object="event",
        type=kind,
        created_at=int(at.timestamp()),
        data=_Subject(id=job_id),
    )
    return Event(id=event_id, type=kind, created_at=at, body=msgspec.json.encode(body))
