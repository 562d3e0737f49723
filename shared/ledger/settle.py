"""Writing charges to SQL: the ledger's rows and the budgets they settle, together."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from shared.ledger.books import Charge
from shared.ledger.rows import ledger_values
from shared.ledger.watch import BudgetWatch
from shared.store.budget_rows import Owned
from shared.store.budgets import settle
from shared.store.engine import Tx
from shared.store.ledger import insert_values
from shared.store.records import BudgetRef, BudgetStanding

Standings = Mapping[Owned, BudgetStanding]
"""How the owners of settled costs stand in their windows."""


class Follower(Protocol):
    """Who keeps in memory what SQL knows of its grants."""

    def settled(self, charges: Sequence[Charge], standings: Standings) -> None:
        """Hear that the charges are in SQL for good; never fails."""


async def write_charges(
    tx: Tx,
    charges: Sequence[Charge],
    *,
    release: Collection[str] = (),
    watch: BudgetWatch | None = None,
) -> Standings:
    """Write the rows of the charges, settle what is new, and take back whole grants.

    Charges that are in the ledger already settle nothing a second time. `watch` tells what that
    brings about, in the same transaction.
    """
    new = await insert_values(tx, map(ledger_values, charges))
    standings = await settle(tx, costs_of(charges, new), release=release)
    if watch is not None and standings:
        await watch.settled(tx, standings)
    return standings


def costs_of(
    charges: Sequence[Charge], new: Collection[str]
) -> dict[tuple[str | None, BudgetRef], int]:
    """Return the cost per grant of those attempts that are `new`.

    What only the others belong to costs nothing: its owner wants to know how it stands.
    """
    costs: dict[tuple[str | None, BudgetRef], int] = {}
    # Nearly always all are, and to look each up would take a third of the time.
    known = None if len(new) == len(charges) else new
    for owner, refs, cost in spent_together(charges, known):
        for ref in refs:
            costs[owner, ref] = costs.get((owner, ref), 0) + cost
    return costs


def spent_together(
    charges: Iterable[Charge], new: Collection[str] | None = None
) -> Iterable[tuple[str | None, tuple[BudgetRef, ...], int]]:
    """Yield owners, windows and costs, of the attempts that are `new` where that is said.

    Calls of one key share the very tuple of their windows: a sum for each takes a quarter of the
    time that looking up each call's windows does.
    """
    sums: dict[tuple[str | None, int], int] = {}
    named: dict[int, tuple[BudgetRef, ...]] = {}
    for charge in charges:
        opening = charge.opening
        refs = opening.budgets
        if refs:
            key = opening.grant, id(refs)
            named[key[1]] = refs
            cost = charge.cost_nanousd if new is None or opening.attempt_id in new else 0
            sums[key] = sums.get(key, 0) + (cost or 0)
    return ((owner, named[place], cost) for (owner, place), cost in sums.items())
