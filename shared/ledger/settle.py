"""Writing charges to SQL: the ledger's rows and the budgets they settle, together."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from shared.ledger.books import Charge
from shared.ledger.rows import ledger_parts
from shared.ledger.watch import BudgetWatch
from shared.store.budget_rows import Owned
from shared.store.budgets import settle
from shared.store.engine import Tx
from shared.store.ledger import insert_new, insert_values
from shared.store.ledger_rows import AlikeRows
from shared.store.records import BudgetRef, BudgetStanding

Standings = Mapping[Owned, BudgetStanding]
"""How the owners of settled costs stand in their windows."""

Spent = Mapping[tuple[str | None, tuple[BudgetRef, ...]], int]
"""What was spent, in nano-dollars, by whose grants it was held in and the windows around it."""


class Follower(Protocol):
    """Who keeps in memory what SQL knows of its grants."""

    def settled(self, spent: Spent, standings: Standings) -> None:
        """Hear what is in SQL for good; never fails."""


class Gathered:
    """Charges on their way to SQL: as rows, and what they have cost whom.

    They are taken apart as they come, while all that belongs to them is still in the processor's
    caches; half a second later that takes twice the time.
    """

    __slots__ = ("end", "rows")

    def __init__(self) -> None:
        self.rows = AlikeRows()
        self.end = 0
        """Where the last of them ends in its file."""

    def add(self, charges: Sequence[Charge], end: int) -> None:
        """Take charges of different attempts that end there."""
        self.rows.add(list(map(ledger_parts, charges)))
        self.end = end

    @property
    def spent(self) -> Spent:
        """What they have cost, by whose grants it was held in and the windows around it."""
        return self.rows.spent()


async def write_gathered(
    tx: Tx, gathered: Gathered, *, watch: BudgetWatch | None = None
) -> Standings:
    """Write what nobody has written before, and settle it; see `write_charges`.

    Raises:
        AlreadyThere: some of it is in the ledger; the transaction must be rolled back.
    """
    await insert_new(tx, gathered.rows)
    return await _settled(tx, gathered.spent, (), watch)


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
    new = await insert_values(tx, map(ledger_parts, charges))
    return await _settled(tx, spent_by(charges, new), release, watch)


async def _settled(
    tx: Tx, spent: Spent, release: Collection[str], watch: BudgetWatch | None
) -> Standings:
    standings = await settle(tx, costs_of(spent), release=release)
    if watch is not None and standings:
        await watch.settled(tx, standings)
    return standings


def costs_of(spent: Spent) -> dict[tuple[str | None, BudgetRef], int]:
    """Return the cost per grant."""
    costs: dict[tuple[str | None, BudgetRef], int] = {}
    for (owner, refs), cost in spent.items():
        for ref in refs:
            costs[owner, ref] = costs.get((owner, ref), 0) + cost
    return costs


def spent_by(charges: Iterable[Charge], new: Collection[str] | None = None) -> Spent:
    """Return what was spent, of the attempts that are `new` where that is said.

    What only others belong to costs nothing: its owner wants to know how it stands. Calls of one
    key share the very tuple of their windows: a sum for each takes a quarter of the time that
    looking up each call's windows does.
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
    spent: dict[tuple[str | None, tuple[BudgetRef, ...]], int] = {}
    for (owner, place), cost in sums.items():
        by = owner, named[place]
        spent[by] = spent.get(by, 0) + cost
    return spent
