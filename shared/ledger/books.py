"""The port that records attempts: opened before a provider is called, closed after it.

Two kinds keep them: the API's append to the process's spool file, a worker's write the attempt
row on `open` and hand all charges to the job's finish transaction.
"""

import enum
from datetime import datetime
from typing import Protocol

import msgspec

from shared.chat.usage import Usage
from shared.store.records import BudgetRef


class Outcome(enum.Enum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    LOST = "lost"


class Opening(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known before the call. `estimate_nanousd` is what a lost attempt is charged at.

    `credential` is the name of one, never the secret. The cost is settled in the windows of
    `budgets`, and taken off the grants that `grant` has in them: the name of the process's grants,
    or of the job's. What is said of it by place goes from the attempt to its caller and its target.
    """

    attempt_id: str
    request_id: str
    number: int
    started_at: datetime
    tenant_id: str
    key_id: str
    endpoint: str
    route: str
    provider: str
    model: str
    credential: str = ""
    stream: bool = False
    job_id: str | None = None
    batch_id: str | None = None
    user: str | None = None
    tags: dict[str, str] = {}
    estimate_nanousd: int | None = None
    estimate_usage: Usage = Usage(estimated=True)
    price_source: str | None = None
    price_version: str | None = None
    budgets: tuple[BudgetRef, ...] = ()
    grant: str | None = None


class Charge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is known after the call; one becomes one ledger row. None cost: price unknown."""

    opening: Opening
    outcome: Outcome
    usage: Usage
    cost_nanousd: int | None
    code: str | None = None
    status_code: int | None = None
    reported_model: str | None = None
    duration_ms: int = 0
    first_token_ms: int | None = None
    ended_at: datetime


class Books(Protocol):
    """Kept by whoever runs the chain. No method may be skipped on any exit path."""

    async def open(self, opening: Opening) -> None:
        """Record that the provider is about to be called.

        The record stands before anything is sent: at the return of this, or by what the transport
        waits for (see `Transport`), which then raises StoreUnavailable in its place.

        Raises:
            StoreUnavailable: it could not be recorded; the call must not be made.
        """

    def close(self, charge: Charge) -> None:
        """Record how the attempt ended; never waits and never fails."""


class NoBooks:
    """The books of a gateway that keeps no ledger."""

    async def open(self, opening: Opening) -> None:
        """Record nothing."""

    def close(self, charge: Charge) -> None:
        """Record nothing."""


def lost(opening: Opening, ended_at: datetime) -> Charge:
    """Return the charge of an attempt whose process died: its estimate, flagged."""
    return Charge(
        opening=opening,
        outcome=Outcome.LOST,
        usage=opening.estimate_usage,
        cost_nanousd=opening.estimate_nanousd,
        code="worker_lost" if opening.job_id else "internal_error",
        ended_at=ended_at,
    )
