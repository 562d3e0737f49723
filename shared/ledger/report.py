"""How the budgets of a config stand now, for operators."""

from collections.abc import Sequence

import msgspec

from shared.ledger.budgets import BudgetTable
from shared.ledger.cost import usd_text
from shared.ledger.rule import BudgetRule
from shared.store.budgets import standings_of, used_since
from shared.store.engine import Store
from shared.store.raises import list_raises
from shared.store.records import BudgetRef, BudgetStanding, RaiseRow

MOST_USERS = 200
"""Budgets of users that a report shows, those who have spent most."""


class ShownRaise(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that is higher until `expires_at`."""

    object: str = "budget.raise"
    id: str
    budget_id: str
    amount_usd: str
    reason: str | None
    created_at: int
    expires_at: int


class ShownBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget in its window of the moment; amounts are USD as decimal text.

    `spent_usd` is in the ledger; `held_usd` is set aside for calls that run, with what processes
    have in stock for the next ones. `remaining_usd` is what nobody has. `each_user`: of so much
    each user has a budget, listed by itself once it is used.
    """

    object: str = "budget"
    id: str
    tenant: str | None
    window: str
    timezone: str
    action: str
    thresholds: tuple[int, ...]
    limit_usd: str
    raised_usd: str
    spent_usd: str
    held_usd: str
    remaining_usd: str
    starts_at: int
    resets_at: int
    each_user: bool = False
    raises: tuple[ShownRaise, ...] = ()


async def budgets_report(store: Store, table: BudgetTable) -> list[ShownBudget]:
    """Return every budget in the config's order, then those of users, who has spent most first."""
    templates = {one.rule.budget_id for one in table.bindings if one.each_user}
    async with store.read() as tx:
        now = await tx.now()
        rules = [one.rule for one in table.bindings]
        if templates:
            starts = {one.rule.period_at(now).starts_at for one in table.bindings if one.each_user}
            used = await used_since(tx, "user:", starts, MOST_USERS)
            found = [(ref, table.rule(ref.budget_id)) for ref in used]
            rules += [one for ref, one in found if one is not None and one.ref_at(now) == ref]
        refs = {rule: rule.ref_at(now) for rule in rules}
        standings = await standings_of(tx, list(refs.values()))
        raises = [shown_raise(row) for row in await list_raises(tx)]
    return [
        _shown(rule, ref, standings[ref], raises, each_user=rule.budget_id in templates)
        for rule, ref in refs.items()
    ]


def shown_raise(row: RaiseRow) -> ShownRaise:
    """Return a raise as it is shown."""
    return ShownRaise(
        id=row.id,
        budget_id=row.budget_id,
        amount_usd=usd_text(row.amount_nanousd),
        reason=row.reason,
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.expires_at.timestamp()),
    )


def _shown(
    rule: BudgetRule,
    ref: BudgetRef,
    now: BudgetStanding,
    raises: Sequence[ShownRaise],
    *,
    each_user: bool,
) -> ShownBudget:
    raised = now.raised_nanousd or 0
    left = rule.limit_nanousd + raised - now.settled_nanousd - now.granted_nanousd
    period = rule.period_at(ref.starts_at)
    return ShownBudget(
        id=rule.budget_id,
        tenant=rule.tenant_id,
        window=rule.window,
        timezone=rule.timezone,
        action="reject" if rule.rejects else "warn",
        thresholds=rule.thresholds,
        limit_usd=usd_text(rule.limit_nanousd),
        raised_usd=usd_text(raised),
        spent_usd=usd_text(now.settled_nanousd),
        held_usd=usd_text(now.granted_nanousd),
        remaining_usd=usd_text(max(0, left)),
        starts_at=int(period.starts_at.timestamp()),
        resets_at=int(period.ends_at.timestamp()),
        each_user=each_user,
        raises=tuple(one for one in raises if one.budget_id == rule.budget_id),
    )
