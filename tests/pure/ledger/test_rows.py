"""A charge becomes the row of its attempt, each value in its own column."""

from datetime import UTC, datetime, timedelta

import msgspec

from shared.chat.usage import Usage
from shared.ledger.books import Charge, Opening, Outcome
from shared.ledger.rows import ledger_parts
from shared.store.ledger_rows import FIELDS
from shared.store.records import BudgetRef

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_each_value_stands_in_its_own_column():
    opening = Opening(
        attempt_id="att_1",
        request_id="req_1",
        job_id="job_1",
        batch_id="batch_1",
        number=3,
        tenant_id="acme",
        key_id="key_1",
        user="ann",
        tags={"team": "search"},
        endpoint="/v1/embeddings",
        route="route",
        provider="alpha",
        model="alpha-1",
        credential="second",
        stream=True,
        started_at=AT,
        estimate_nanousd=99,
        price_source="config",
        price_version="v7",
        budgets=(BudgetRef(budget_id="day", starts_at=AT),),
        grant="p_1",
    )
    counts = {name: number for number, name in enumerate(Usage.__struct_fields__, start=10)}
    usage = Usage(**counts | {"estimated": True, "service_tier": "flex"})
    charge = Charge(
        opening=opening,
        outcome=Outcome.INTERRUPTED,
        usage=usage,
        cost_nanousd=7,
        code="stream_interrupted",
        status_code=206,
        reported_model="alpha-1-0301",
        duration_ms=8,
        first_token_ms=9,
        ended_at=AT + timedelta(seconds=1),
    )
    known = msgspec.structs.asdict(opening) | msgspec.structs.asdict(charge)
    known |= {"outcome": "interrupted", "adjusts": None, "reason": None}

    own, common, *documents, owner = ledger_parts(charge)
    values = dict(zip(FIELDS, (*own, *common, *documents), strict=True))

    assert {name: known[name] for name in FIELDS if name in known} | msgspec.structs.asdict(
        usage
    ) == values
    assert "p_1" == owner
