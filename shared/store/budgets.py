"""Budgets in SQL: what is settled and granted per window, and who has the grants.

Every change locks the rows of its windows first, in one order for all: whoever has a window's row
may read and change its grants, and nobody waits for each other in a circle.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.money_tables import budget_grant, budget_window
from shared.store.raises import raised
from shared.store.records import BudgetRef, BudgetStanding

Owned = tuple[str, BudgetRef]
"""A grant's name: who has it, and of which window."""

Decide = Callable[[Mapping[BudgetRef, BudgetStanding]], Mapping[BudgetRef, int]]
"""From how an owner stands in locked windows to the amounts it shall have; pure."""

AT_ONCE = 200
"""Grants taken back per transaction."""

_OF_GRANT = sa.tuple_(budget_grant.c.budget_id, budget_grant.c.starts_at)
_OF_WINDOW = sa.tuple_(budget_window.c.budget_id, budget_window.c.starts_at)


class _Window(msgspec.Struct):
    settled: int
    granted: int
    version: int
    was_granted: int
    raised: int | None = None


class _Grant(msgspec.Struct):
    amount: int
    expires_at: datetime


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
    windows = await _locked(tx, sums)
    names = [(owner, ref) for owner, ref in costs if owner is not None]
    grants = await _grants(tx, [*names, *freed])
    for name in names:
        if (grant := grants.get(name)) is not None:
            part = min(grant.amount, costs[name])
            grant.amount -= part
            windows[name[1]].granted -= part
    gone = [name for name in grants if name[0] in release]
    for name in gone:
        windows[name[1]].granted -= grants.pop(name).amount
    await _keep(tx, windows, grants)
    await _delete(tx, gone)
    return {name: _standing(windows[name[1]], grants.get(name)) for name in names}


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
    windows = await _locked(tx, {ref: 0 for one in trades for ref in one.refs})
    for ref, more in (await raised_of(tx, windows)).items():
        windows[ref].raised = more
    grants = await _grants(tx, [(one.owner, ref) for one in trades for ref in one.refs])
    now = await tx.now()
    changed: dict[Owned, _Grant] = {}
    stood: list[dict[BudgetRef, BudgetStanding]] = []
    for one in trades:
        before = _standings(one, windows, grants)
        expires_at = now + timedelta(seconds=one.lifetime_s)
        for ref, amount in one.decide(before).items():
            windows[ref].granted += amount - before[ref].amount_nanousd
            grants[one.owner, ref] = changed[one.owner, ref] = _Grant(amount, expires_at)
        stood.append(_standings(one, windows, grants))
    await _keep(tx, windows, changed)
    return stood


async def release_expired(tx: Tx) -> int:
    """Take back up to 200 grants whose owners have neither renewed nor returned them; how many."""
    expired = budget_grant.c.expires_at <= await tx.now()
    names = await _names(tx, expired, limit=AT_ONCE)
    if not names:
        return 0
    windows = await _locked(tx, {ref: 0 for _, ref in names})
    gone = await _grants(tx, names, expired)
    for (_, ref), grant in gone.items():
        windows[ref].granted -= grant.amount
    await _keep(tx, windows, {})
    await _delete(tx, list(gone))
    return len(gone)


async def standing_of(tx: Tx, ref: BudgetRef, owner: str = "") -> BudgetStanding:
    """Return how a window stands, and what `owner` has of it; all zero before its first call."""
    return (await standings_of(tx, [ref], owner))[ref]


async def standings_of(
    tx: Tx, refs: Collection[BudgetRef], owner: str = ""
) -> dict[BudgetRef, BudgetStanding]:
    """Return how windows stand, their raises included, and what `owner` has of each."""
    windows = {ref: _Window(0, 0, 0, 0, more) for ref, more in (await raised_of(tx, refs)).items()}
    found = await tx.connection.execute(
        sa.select(budget_window).where(_OF_WINDOW.in_([_key(ref) for ref in refs]))
    )
    for row in found:
        window = windows[BudgetRef(budget_id=row.budget_id, starts_at=row.starts_at)]
        window.settled, window.granted = row.settled_nanousd, row.granted_nanousd
        window.version = row.version
    grants = await _grants(tx, [(owner, ref) for ref in refs]) if owner else {}
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


async def _locked(tx: Tx, costs: Mapping[BudgetRef, int]) -> dict[BudgetRef, _Window]:
    """Lock the windows, made where they are missing, with the costs added to what is settled."""
    if not costs:
        return {}
    insert = tx.insert(budget_window)
    changed = await tx.connection.execute(
        insert.on_conflict_do_update(
            index_elements=["budget_id", "starts_at"],
            set_={
                "settled_nanousd": budget_window.c.settled_nanousd
                + insert.excluded.settled_nanousd,
                "version": budget_window.c.version + 1,
            },
        ).returning(*budget_window.c),
        [
            {
                "budget_id": ref.budget_id,
                "starts_at": ref.starts_at,
                "settled_nanousd": costs[ref],
                "granted_nanousd": 0,
                "version": 1,
            }
            for ref in sorted(costs, key=_key)
        ],
    )
    return {
        BudgetRef(budget_id=row.budget_id, starts_at=row.starts_at): _Window(
            row.settled_nanousd, row.granted_nanousd, row.version, row.granted_nanousd
        )
        for row in changed
    }


async def _names(
    tx: Tx, condition: sa.ColumnElement[bool], *, limit: int | None = None
) -> list[Owned]:
    rows = await tx.connection.execute(
        sa.select(budget_grant.c.owner, budget_grant.c.budget_id, budget_grant.c.starts_at)
        .where(condition)
        .limit(limit)
    )
    return [
        (row.owner, BudgetRef(budget_id=row.budget_id, starts_at=row.starts_at)) for row in rows
    ]


async def _grants(
    tx: Tx, names: Collection[Owned], *conditions: sa.ColumnElement[bool]
) -> dict[Owned, _Grant]:
    if not names:
        return {}
    wanted = set(names)
    rows = await tx.connection.execute(
        sa.select(budget_grant).where(
            budget_grant.c.owner.in_({owner for owner, _ in wanted}),
            _OF_GRANT.in_([_key(ref) for ref in {ref for _, ref in wanted}]),
            *conditions,
        )
    )
    found = {
        (row.owner, BudgetRef(budget_id=row.budget_id, starts_at=row.starts_at)): _Grant(
            row.amount_nanousd, row.expires_at
        )
        for row in rows
    }
    return {name: grant for name, grant in found.items() if name in wanted}


async def _keep(
    tx: Tx, windows: Mapping[BudgetRef, _Window], grants: Mapping[Owned, _Grant]
) -> None:
    changed = [
        {
            "b_budget": ref.budget_id,
            "b_starts": ref.starts_at,
            "b_granted": window.granted,
        }
        for ref, window in windows.items()
        if window.granted != window.was_granted
    ]
    if changed:
        await tx.connection.execute(
            sa.update(budget_window)
            .where(
                budget_window.c.budget_id == sa.bindparam("b_budget"),
                budget_window.c.starts_at == sa.bindparam("b_starts"),
            )
            .values(granted_nanousd=sa.bindparam("b_granted")),
            changed,
        )
    if grants:
        insert = tx.insert(budget_grant)
        await tx.connection.execute(
            insert.on_conflict_do_update(
                index_elements=["owner", "budget_id", "starts_at"],
                set_={
                    "amount_nanousd": insert.excluded.amount_nanousd,
                    "expires_at": insert.excluded.expires_at,
                },
            ),
            [
                {
                    "owner": owner,
                    "budget_id": ref.budget_id,
                    "starts_at": ref.starts_at,
                    "amount_nanousd": grant.amount,
                    "expires_at": grant.expires_at,
                }
                for (owner, ref), grant in grants.items()
            ],
        )


async def _delete(tx: Tx, names: Collection[Owned]) -> None:
    if names:
        await tx.connection.execute(
            sa.delete(budget_grant).where(
                budget_grant.c.owner == sa.bindparam("b_owner"),
                budget_grant.c.budget_id == sa.bindparam("b_budget"),
                budget_grant.c.starts_at == sa.bindparam("b_starts"),
            ),
            [
                {"b_owner": owner, "b_budget": ref.budget_id, "b_starts": ref.starts_at}
                for owner, ref in names
            ],
        )


def _standing(window: _Window, grant: _Grant | None) -> BudgetStanding:
    return BudgetStanding(
        amount_nanousd=0 if grant is None else grant.amount,
        settled_nanousd=window.settled,
        granted_nanousd=window.granted,
        raised_nanousd=window.raised,
        version=window.version,
    )


def _standings(
    trade: Trade, windows: Mapping[BudgetRef, _Window], grants: Mapping[Owned, _Grant]
) -> dict[BudgetRef, BudgetStanding]:
    return {ref: _standing(windows[ref], grants.get((trade.owner, ref))) for ref in trade.refs}


def _key(ref: BudgetRef) -> tuple[str, datetime]:
    return ref.budget_id, ref.starts_at
