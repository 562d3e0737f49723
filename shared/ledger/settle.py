"""Writing charges to SQL: the ledger's rows and the budgets they settle, together."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from shared.ledger.books import Charge
from shared.ledger.rows import ledger_row
from shared.store.budgets import Owned, settle
from shared.store.engine import Tx
from shared.store.ledger import insert_ledger
from shared.store.records import BudgetRef, BudgetStanding

Standings = Mapping[Owned, BudgetStanding]
"""How the owners of settled costs stand in their windows."""


class Follower(Protocol):
    """Who keeps in memory what SQL knows of its grants."""

    def settled(self, charges: Sequence[Charge], standings: Standings) -> None:
        """Hear that the charges are in SQL for good; never fails."""


async def write_charges(
    tx: Tx, charges: Sequence[Charge], *, release: Collection[str] = ()
) -> Standings:
    """Write the rows of the charges, settle what is new, and take back whole grants.

    Charges that are in the ledger already settle nothing a second time.
    """
    new = await insert_ledger(tx, [ledger_row(charge) for charge in charges])
    return await settle(tx, costs_of(charges, new), release=release)


def costs_of(
    charges: Iterable[Charge], new: Collection[str]
) -> dict[tuple[str | None, BudgetRef], int]:
    """Return the cost per grant of those attempts that are `new`.

    What only the others belong to costs nothing: its owner wants to know how it stands.
    """
    costs: dict[tuple[str | None, BudgetRef], int] = {}
    for charge in charges:
        opening = charge.opening
        if not opening.budgets:
            continue
        cost = charge.cost_nanousd or 0 if opening.attempt_id in new else 0
        for ref in opening.budgets:
            name = (opening.grant, ref)
            costs[name] = costs.get(name, 0) + cost
    return costs
