"""What goes into the database and comes out of it. Moments are aware UTC, money is nano-dollars."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from shared.chat.usage import Usage

Priority = Literal["interactive", "default", "batch"]
OnBudget = Literal["fail", "wait"]
JobStatus = Literal[
    "scheduled", "queued", "running", "cancelling", "succeeded", "failed", "cancelled", "expired"
]
DeliveryStatus = Literal["pending", "delivering", "succeeded", "failed"]

WAITING: tuple[JobStatus, ...] = ("queued", "scheduled")
"""Nobody holds these jobs."""
LEASED: tuple[JobStatus, ...] = ("running", "cancelling")
"""A worker holds these jobs under a lease."""
OPEN: tuple[JobStatus, ...] = (*WAITING, *LEASED)
"""Every status that is not final."""


class TenantRow(msgspec.Struct, frozen=True, kw_only=True):
    """Who pays."""

    id: str
    webhook_secret: str  # sealed
    created_at: datetime


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """An API key. `key_hash` is hexadecimal, `hint` the key's last four characters."""

    id: str
    tenant_id: str
    name: str
    key_hash: str
    hint: str
    scopes: tuple[str, ...] = ()
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class BudgetRef(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The window of a budget that a call belongs to, fixed when it starts.

    `budget_id` is such as `tenant:acme/day`.
    """

    budget_id: str
    starts_at: datetime


class BudgetStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A budget's window, and what one owner has of it.

    `amount_nanousd` is the owner's part of `granted_nanousd`. A higher `version` is newer.
    `raised_nanousd` comes on top of the budget's limit now; None: it was not looked up.
    """

    amount_nanousd: int = 0
    settled_nanousd: int = 0
    granted_nanousd: int = 0
    raised_nanousd: int | None = None
    version: int = 0


class RaiseRow(msgspec.Struct, frozen=True, kw_only=True):
    """A budget's limit is so much higher until it expires."""

    id: str
    budget_id: str
    amount_nanousd: int
    reason: str | None = None
    created_at: datetime
    expires_at: datetime


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One provider attempt that has ended. No `cost_nanousd`: its price is unknown.

    With `adjusts`, the correction of another row, whose moments and budgets it has: its cost, of
    either sign, is added to that one's.
    """

    # As an attempt begins
    attempt_id: str
    request_id: str
    job_id: str | None = None
    batch_id: str | None = None
    tenant_id: str
    key_id: str
    user: str | None = None
    tags: dict[str, str] = {}
    endpoint: str
    route: str
    provider: str
    model: str
    stream: bool = False
    price_source: str | None = None
    price_version: str | None = None
    budgets: tuple[BudgetRef, ...] = ()
    started_at: datetime
    # As it ends
    reported_model: str | None = None
    code: str | None = None
    status_code: int | None = None
    cost_nanousd: int | None = None
    duration_ms: int = 0
    first_token_ms: int | None = None
    ended_at: datetime
    outcome: str
    # Of a correction
    adjusts: str | None = None
    reason: str | None = None
    usage: Usage


class ModelTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What one provider's model was used for, in a span of time."""

    provider: str
    model: str
    requests: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    reasoning_tokens: int
    cost_nanousd: int
    unpriced_attempts: int
    estimated_attempts: int


class UsageTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant used in a span of time.

    `requests` counts distinct request ids, so a request that fell back is one here and one in
    each of its models. `cost_nanousd` is the sum of the known costs; `unpriced_attempts` counts
    the others.
    """

    requests: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanousd: int = 0
    unpriced_attempts: int = 0
    estimated_attempts: int = 0
    by_model: tuple[ModelTotals, ...] = ()


class WindowRow(msgspec.Struct, frozen=True, kw_only=True):
    """A closed spend window, or (`sequence` above 0) what came in late for it.

    `timezone` is whose midnights bound it; a request counts in each hour that an attempt of its
    ended in.
    """

    scope: str
    window: str
    starts_at: datetime
    sequence: int
    ends_at: datetime
    timezone: str
    requests: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    reasoning_tokens: int
    cost_nanousd: int
    unpriced_attempts: int
    estimated_attempts: int
    closed_at: datetime


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's async request. `body` is what the endpoint will be asked, as it came."""

    id: str
    tenant_id: str
    key_id: str
    request_id: str
    endpoint: str
    body: bytes
    priority: Priority = "default"
    metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    user: str | None = None
    webhook_url: str | None = None
    deadline: datetime
    not_before: datetime | None = None
    batch_id: str | None = None
    line_no: int | None = None
    custom_id: str | None = None
    model: str | None = None
    streamed: bool = False
    response_id: str | None = None
    headers: dict[str, str] = {}
    on_budget: OnBudget | None = None


class JobRow(NewJob, frozen=True, kw_only=True):
    """A job as it stands.

    `attempts_spent` counts tries that cost one, `deferrals` waits that did not, `recoveries`
    workers that died. `lease_token` fences: it grows with every claim. `queued_at` is when it
    last began to wait, `started_at` its first claim. `body` is filled by `get_job` and `claim`
    only; everyone else sees it empty.
    """

    status: JobStatus
    created_at: datetime
    queued_at: datetime
    started_at: datetime | None = None
    cancelling_at: datetime | None = None
    finished_at: datetime | None = None
    attempts_spent: int = 0
    deferrals: int = 0
    recoveries: int = 0
    lease_owner: str | None = None
    lease_token: int = 0
    lease_until: datetime | None = None
    position: dict[str, object] | None = None
    waits_for: str | None = None
    response_status: int | None = None
    response_body: bytes | None = None
    result_key: str | None = None
    error: dict[str, object] | None = None
    usage: Usage | None = None
    cost_nanousd: int | None = None


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ends. `response_*` is the stored answer, `error` why there is none.

    `result_key` is where the answer lies that is too large for the database.
    """

    status: Literal["succeeded", "failed", "cancelled", "expired"]
    response_status: int | None = None
    response_body: bytes | None = None
    result_key: str | None = None
    error: Mapping[str, object] | None = None
    usage: Usage | None = None
    cost_nanousd: int | None = None
    at: datetime


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    """Job ids after a heartbeat. `cancelling` is the part of `kept` that should be aborted."""

    kept: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    cancelling: frozenset[str] = frozenset()


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """One provider call of a job; no `outcome`: it is under way, or its worker died.

    `opening` is the caller's own record of what it knew before the call, opaque to the store.
    """

    id: str
    job_id: str
    number: int
    route: str
    provider: str
    model: str
    outcome: str | None = None
    code: str | None = None
    status_code: int | None = None
    message: str | None = None
    duration_ms: int | None = None
    started_at: datetime
    opening: bytes


class AttemptClosing(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended."""

    id: str
    outcome: str
    code: str | None = None
    status_code: int | None = None
    message: str | None = None
    duration_ms: int | None = None


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """A fact told to callers. `body` is exactly what is signed and sent."""

    id: str
    tenant_id: str
    type: str
    created_at: datetime
    body: bytes


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way to one URL; `event_type` and `body` are the event's."""

    id: str
    event_id: str
    tenant_id: str
    endpoint_id: str | None = None
    url: str
    status: DeliveryStatus
    attempts: int = 0
    next_at: datetime | None = None
    lease_owner: str | None = None
    lease_token: int = 0
    lease_until: datetime | None = None
    last_status_code: int | None = None
    last_error: str | None = None
    event_type: str
    body: bytes


class DeliveryAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try to deliver. `answer_head` is the beginning of the receiver's answer."""

    at: datetime
    status_code: int | None = None
    duration_ms: int
    error: str | None = None
    answer_head: bytes = b""


AlertKind = Literal["spent", "forecast", "exceeded", "reset", "spike"]
Told = tuple[AlertKind, int]
"""What can be told once of a window: a kind and its threshold in percent, 0 where it has none."""


class AlertKey(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """What can be told once. A spike's `budget_id` is its tenant's scope, such as `tenant:acme`."""

    budget_id: str
    starts_at: datetime
    kind: AlertKind
    threshold: int = 0


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something to tell. `facts` are JSON values; without a `tenant_id` it is the operator's."""

    key: AlertKey
    tenant_id: str | None
    facts: Mapping[str, object]
