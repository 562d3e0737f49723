"""A charge as the row the store keeps."""

from operator import attrgetter

from msgspec.structs import astuple

from shared.ledger.books import Charge
from shared.store.ledger import Values

_begun = attrgetter(
    "attempt_id", "request_id", "job_id", "batch_id", "tenant_id", "key_id", "user", "tags",
    "endpoint", "route", "provider", "model", "stream", "price_source", "price_version", "budgets",
    "started_at",
)  # fmt: skip
_ended = attrgetter(
    "reported_model", "code", "status_code", "cost_nanousd", "duration_ms", "first_token_ms",
    "ended_at",
)  # fmt: skip
_NO_CORRECTION = (None, None)


def ledger_values(charge: Charge) -> Values:
    """Return the one row of an attempt; its id is the attempt's, so it cannot stand twice."""
    return (
        *_begun(charge.opening),
        *_ended(charge),
        charge.outcome.value,
        *_NO_CORRECTION,
        *astuple(charge.usage),
    )
