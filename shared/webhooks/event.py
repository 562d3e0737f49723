"""Events: what happened, as the exact bytes that are signed and sent."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

JOB_EVENTS = frozenset({"job.succeeded", "job.failed", "job.cancelled", "job.expired"})
"""One per final state of a job."""

BATCH_EVENTS = frozenset({"batch.completed", "batch.failed", "batch.expired", "batch.cancelled"})
"""One per final state of a batch."""

RESPONSE_EVENTS = frozenset(
    {"response.completed", "response.failed", "response.cancelled", "response.incomplete"}
)
"""One per final state of a background response."""

THRESHOLD_REACHED = "budget.threshold_reached"
BUDGET_EXCEEDED = "budget.exceeded"
BUDGET_RESET = "budget.reset"
SPEND_SPIKE = "budget.spend_spike"
BUDGET_EVENTS = frozenset({THRESHOLD_REACHED, BUDGET_EXCEEDED, BUDGET_RESET, SPEND_SPIKE})

WINDOW_CLOSED = "usage.window_closed"

TARGET_OPENED = "provider.target_opened"
TARGET_CLOSED = "provider.target_closed"
OPERATOR_EVENTS = frozenset({TARGET_OPENED, TARGET_CLOSED})
"""What concerns whoever runs the gateway; only endpoints of its operator receive these."""

ENDPOINT_DISABLED = "webhook_endpoint.disabled"
ENDPOINT_TEST = "webhook_endpoint.test"
ENDPOINT_EVENTS = frozenset({ENDPOINT_DISABLED, ENDPOINT_TEST})

EVENT_TYPES = (
    JOB_EVENTS
    | BATCH_EVENTS
    | RESPONSE_EVENTS
    | BUDGET_EVENTS
    | {WINDOW_CLOSED}
    | OPERATOR_EVENTS
    | ENDPOINT_EVENTS
)
"""All there are."""

OPERATOR = "operator"
"""The tenant whose endpoints hear of the gateway itself; made with the master key."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A fact told to callers. `body` never changes, however often it is sent."""

    id: str
    type: str
    created_at: datetime
    body: bytes


class _Body(msgspec.Struct):
    id: str
    type: str
    created_at: int
    data: Mapping[str, Any]
    object: Literal["event"] = "event"


def subject_event(
    event_id: str,
    event_type: str,
    subject_id: str,
    at: datetime,
    facts: Mapping[str, Any] | None = None,
) -> Event:
    """Return the event of a type, about one thing, at an aware moment.

    The body is thin (`data` holds the thing's id), so that a receiver reads the rest with its own
    key and a leaked body tells nothing. `facts` (JSON values) stand beside the id; for what can be
    read nowhere else, such as which threshold was reached.

    Raises:
        ValueError: there is no such type.
    """
    if event_type not in EVENT_TYPES:
        raise ValueError(f"there is no event {event_type!r}")
    body = _Body(
        id=event_id,
        type=event_type,
        created_at=int(at.timestamp()),
        data={"id": subject_id, **(facts or {})},
    )
    return Event(id=event_id, type=event_type, created_at=at, body=msgspec.json.encode(body))


def job_event(event_id: str, *, job_id: str, status: str, at: datetime) -> Event:
    """Return the event of a job that has just reached a final state.

    Raises:
        ValueError: `status` is not final.
    """
    kind = f"job.{status}"
    if kind not in JOB_EVENTS:
        raise ValueError(f"{status!r} is not a final state of a job")
    return subject_event(event_id, kind, job_id, at)
