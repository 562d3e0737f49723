"""Which charge stands for the answer of a call."""

from datetime import UTC, datetime

import pytest

from shared.chat.usage import Usage
from shared.gateway.leading import NotedBooks
from shared.ledger.books import Charge, Opening, Outcome

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Books:
    """Books that keep nothing."""

    def close(self, charge):
        pass


def charge(number, outcome):
    opening = Opening(
        attempt_id=f"att_{number}",
        request_id="req_1",
        number=number,
        tenant_id="t",
        key_id="k",
        endpoint="/v1/chat/completions",
        route="r",
        provider="p",
        model="m",
        started_at=NOW,
    )
    return Charge(
        opening=opening, outcome=outcome, usage=Usage(), cost_nanousd=number, ended_at=NOW
    )


@pytest.mark.parametrize(
    ("outcomes", "good"),
    [
        ([], None),
        ([Outcome.SUCCEEDED], 0),
        ([Outcome.FAILED, Outcome.SUCCEEDED], 1),
        ([Outcome.SUCCEEDED, Outcome.CANCELLED], 0),
        ([Outcome.CANCELLED, Outcome.SUCCEEDED], 1),
        ([Outcome.INTERRUPTED, Outcome.SUCCEEDED], None),
        ([Outcome.INTERRUPTED], None),
        ([Outcome.CANCELLED], None),
    ],
)
def test_the_answer_came_from_the_one_attempt_that_succeeded(outcomes, good):
    """Others may have failed before it, or been asked beside it and left."""
    noted = NotedBooks(Books())
    for number, outcome in enumerate(outcomes):
        noted.close(charge(number, outcome))

    found = None if noted.good is None else noted.good.cost_nanousd
    assert good == found
