"""A charge as the row the store keeps."""

from shared.ledger.books import Charge
from shared.store.records import LedgerRow


def ledger_row(charge: Charge) -> LedgerRow:
    """Return the one row of an attempt; its id is the attempt's, so it cannot stand twice."""
    opening = charge.opening
    return LedgerRow(
        attempt_id=opening.attempt_id,
        request_id=opening.request_id,
        job_id=opening.job_id,
        batch_id=opening.batch_id,
        tenant_id=opening.tenant_id,
        key_id=opening.key_id,
        user=opening.user,
        tags=opening.tags,
        endpoint=opening.endpoint,
        route=opening.route,
        provider=opening.provider,
        model=opening.model,
        reported_model=charge.reported_model,
        stream=opening.stream,
        outcome=charge.outcome.value,
        code=charge.code,
        status_code=charge.status_code,
        usage=charge.usage,
        cost_nanousd=charge.cost_nanousd,
        price_source=opening.price_source,
        price_version=opening.price_version,
        budgets=opening.budgets,
        duration_ms=charge.duration_ms,
        first_token_ms=charge.first_token_ms,
        started_at=opening.started_at,
        ended_at=charge.ended_at,
    )
