"""Budgets in SQL: what is settled and granted per window, and who has the grants.

Every change locks the rows of its windows first, in one order for all: whoever has a window's row
may read and change its grants, and nobody waits for each other in a circle.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from shared.store import budget_rows
from shared.store.budget_rows import GrantRow, Owned, WindowRow
from shared.store.columns import micros
from shared.store.engine import Run, Tx
from shared.store.money_tables import budget_grant, budget_window
from shared.store.raises import raised
from shared.store.records import BudgetRef, BudgetStanding

Decide = Callable[[Mapping[BudgetRef, BudgetStanding]], Mapping[BudgetRef, int]]
"""From how an owner stands in locked windows to the amounts it shall have; pure."""

AT_ONCE = 200
"""Grants taken back per transaction."""

_OF_WINDOW = sa.tuple_(budget_window.c.budget_id, budget_window.c.starts_at)


async def settle(
    tx: Tx,
    costs: Mapping[tuple[str | None, BudgetRef], int],
    *,
    release: Collection[str] = (),
) -> dict[Owned, BudgetStanding]:
    """Add costs to their windows and take them off the grants they were held in.

    A grant shrinks by what it has at most; a cost without an owner, or whose grant is gone, is
    settled all the same. The grants of the owners in `release` are taken back as a whole.

    Returns:
        How each owner of a cost stands in its window afterwards.
    """
    freed = await _names(tx, budget_grant.c.owner.in_(release)) if release else []
    if not costs and not freed:
        return {}
    sums: dict[BudgetRef, int] = {ref: 0 for _, ref in freed}
    for (_, ref), cost in costs.items():
        sums[ref] = sums.get(ref, 0) + cost
    names = [(owner, ref) for owner, ref in costs if owner is not None]

    def work(run: Run) -> dict[Owned, BudgetStanding]:
        windows = budget_rows.lock(run, sums)
        grants = budget_rows.grants(run, [*names, *freed])
        for name in names:
            if (grant := grants.get(name)) is not None:
                part = min(grant.amount, costs[name])
                grant.amount -= part
                windows[name[1]].granted -= part
        gone = [name for name in grants if name[0] in release]
        for name in gone:
            windows[name[1]].granted -= grants.pop(name).amount
        budget_rows.keep(run, windows, grants)
        budget_rows.delete(run, gone)
        return {name: _standing(windows[name[1]], grants.get(name)) for name in names}

    return await tx.together(work)


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """A change of one owner's grants to what `decide` says; they last `lifetime_s` from then.

    `decide` sees the windows locked, with what their limits are raised by, and answers for the
    amounts: settled + granted may not grow past a limit and its raises.
    """

    owner: str
    refs: tuple[BudgetRef, ...]
    decide: Decide
    lifetime_s: float


async def trade(
    tx: Tx, *, owner: str, refs: Iterable[BudgetRef], decide: Decide, lifetime_s: float
) -> dict[BudgetRef, BudgetStanding]:
    """Make one trade; return how its owner then stands."""
    one = Trade(owner=owner, refs=tuple(refs), decide=decide, lifetime_s=lifetime_s)
    return (await trade_all(tx, [one]))[0]


async def trade_all(tx: Tx, trades: Sequence[Trade]) -> list[dict[BudgetRef, BudgetStanding]]:
    """Make trades one after the other; return how each owner stood after its own."""
    names = [(one.owner, ref) for one in trades for ref in one.refs]
    windows, grants = await _locked(tx, names)
    for ref, more in (await raised_of(tx, windows)).items():
        windows[ref].raised = more
    now = await tx.now()
    changed: dict[Owned, GrantRow] = {}
    stood: list[dict[BudgetRef, BudgetStanding]] = []
    for one in trades:
        before = _standings(one, windows, grants)
        expires_us = micros(now + timedelta(seconds=one.lifetime_s))
        for ref, amount in one.decide(before).items():
            windows[ref].granted += amount - before[ref].amount_nanousd
            grants[one.owner, ref] = changed[one.owner, ref] = GrantRow(amount, expires_us)
        stood.append(_standings(one, windows, grants))
    await tx.together(lambda run: budget_rows.keep(run, windows, changed))
    return stood


async def release_expired(tx: Tx) -> int:
    """Take back up to 200 grants whose owners have neither renewed nor returned them; how many."""
    now = await tx.now()
    names = await _names(tx, budget_grant.c.expires_at <= now, limit=AT_ONCE)
    if not names:
        return 0
    windows, grants = await _locked(tx, names)
    gone = [name for name, grant in grants.items() if grant.expires_us <= micros(now)]
    for name in gone:
        windows[name[1]].granted -= grants[name].amount

    def work(run: Run) -> None:
        budget_rows.keep(run, windows, {})
        budget_rows.delete(run, gone)

    await tx.together(work)
    return len(gone)


async def standing_of(tx: Tx, ref: BudgetRef, owner: str = "") -> BudgetStanding:
    """Return how a window stands, and what `owner` has of it; all zero before its first call."""
    return (await standings_of(tx, [ref], owner))[ref]


async def standings_of(
    tx: Tx, refs: Collection[BudgetRef], owner: str = ""
) -> dict[BudgetRef, BudgetStanding]:
    """Return how windows stand, their raises included, and what `owner` has of each."""
    windows = {
        ref: WindowRow(0, 0, 0, 0, more) for ref, more in (await raised_of(tx, refs)).items()
    }
    found = await tx.connection.execute(
        sa.select(budget_window).where(_OF_WINDOW.in_([_key(ref) for ref in refs]))
    )
    for row in found:
        window = windows[BudgetRef(budget_id=row.budget_id, starts_at=row.starts_at)]
        window.settled, window.granted = row.settled_nanousd, row.granted_nanousd
        window.version = row.version
    names = [(owner, ref) for ref in refs] if owner else []
    grants = await tx.together(lambda run: budget_rows.grants(run, names)) if names else {}
    return {ref: _standing(window, grants.get((owner, ref))) for ref, window in windows.items()}


async def used_since(
    tx: Tx, prefix: str, starts: Collection[datetime], limit: int
) -> list[BudgetRef]:
    """Return windows that began then, of budgets whose ids begin so, the most spent first."""
    rows = await tx.connection.execute(
        sa.select(budget_window.c.budget_id, budget_window.c.starts_at)
        .where(
            budget_window.c.budget_id.startswith(prefix, autoescape=True),
            budget_window.c.starts_at.in_(starts),
        )
        .order_by(budget_window.c.settled_nanousd.desc(), budget_window.c.budget_id)
        .limit(limit)
    )
    return [BudgetRef(budget_id=row.budget_id, starts_at=row.starts_at) for row in rows]


async def raised_of(tx: Tx, refs: Collection[BudgetRef]) -> dict[BudgetRef, int]:
    """Return by how much the limit of each window is higher now."""
    more = await raised(tx, {ref.budget_id for ref in refs}) if refs else {}
    return {ref: more.get(ref.budget_id, 0) for ref in refs}


async def _locked(
    tx: Tx, names: Collection[Owned]
) -> tuple[dict[BudgetRef, WindowRow], dict[Owned, GrantRow]]:
    """Lock the windows of the grants; return them, and those of the grants that there are."""

    def work(run: Run) -> tuple[dict[BudgetRef, WindowRow], dict[Owned, GrantRow]]:
        return budget_rows.lock(run, {ref: 0 for _, ref in names}), budget_rows.grants(run, names)

    return await tx.together(work)


async def _names(
    tx: Tx, condition: sa.ColumnElement[bool], *, limit: int | None = None
) -> list[Owned]:
    found = await tx.connection.execute(
        sa.select(budget_grant.c.owner, budget_grant.c.budget_id, budget_grant.c.starts_at)
        .where(condition)
        .limit(limit)
    )
    return [
        (row.owner, BudgetRef(budget_id=row.budget_id, starts_at=row.starts_at)) for row in found
    ]


def _standing(window: WindowRow, grant: GrantRow | None) -> BudgetStanding:
    return BudgetStanding(
        amount_nanousd=0 if grant is None else grant.amount,
        settled_nanousd=window.settled,
        granted_nanousd=window.granted,
        raised_nanousd=window.raised,
        version=window.version,
    )


def _standings(
    trade: Trade, windows: Mapping[BudgetRef, WindowRow], grants: Mapping[Owned, GrantRow]
) -> dict[BudgetRef, BudgetStanding]:
    return {ref: _standing(windows[ref], grants.get((trade.owner, ref))) for ref in trade.refs}


def _key(ref: BudgetRef) -> tuple[str, datetime]:
    return ref.budget_id, ref.starts_at
