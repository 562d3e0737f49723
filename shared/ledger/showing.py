"""How the budgets around a key stand, for who has the key."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Protocol

import msgspec

from shared.identity import Principal
from shared.ledger.binding import Binding
from shared.ledger.budgets import BudgetTable
from shared.ledger.cost import usd_text
from shared.ledger.report import ShownRaise, shown_raise
from shared.ledger.rule import BudgetRule
from shared.store.budgets import standings_of
from shared.store.engine import Store
from shared.store.raises import list_raises
from shared.store.records import BudgetRef, BudgetStanding
from shared.store.usage import late_costs

LATE = timedelta(days=7)
LATE_ATTEMPTS = 500
"""Of a tenant: what its requests cost of late is seen in no more."""


class Stock(Protocol):
    """What a process has in stock for calls to come."""

    def idle(self, ref: BudgetRef) -> int:
        """Return what it was granted in a window and no call has taken, in nano-dollars."""


class OwnBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget around a key, in its window of the moment; amounts are USD as decimal text.

    `applies_to` says to which of the key's calls: all that is named must hold. `spent_usd` is in
    the ledger, `held_usd` set aside for calls that run. What others spend is not told: of one that
    is `shared` with other tenants only what remains. `estimated_requests_left` is how many more
    requests there may be that cost what the key's (else the tenant's) did of late.
    """

    object: str = "budget"
    id: str
    applies_to: dict[str, str]
    shared: bool
    window: str
    timezone: str
    action: str
    thresholds: tuple[int, ...]
    limit_usd: str | None
    raised_usd: str | None
    spent_usd: str | None
    held_usd: str | None
    remaining_usd: str
    estimated_requests_left: int | None
    starts_at: int
    resets_at: int
    raises: tuple[ShownRaise, ...] = ()


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The budgets around a key, and what its requests cost of late; None: nobody knows."""

    mean_nanousd: int | None
    budgets: tuple[OwnBudget, ...]


async def standing_of(
    store: Store, table: BudgetTable, stock: Stock, principal: Principal, user: str | None
) -> Standing:
    """Return how the budgets around a key's calls stand, for all of its users or for one.

    A budget that each user has is that user's, and left out where none is named.

    Raises:
        StoreUnavailable: the database is away.
    """
    rules = {binding.rule_for(user): binding for binding in _around(table, principal, user)}
    async with store.read() as tx:
        now = await tx.now()
        refs = {rule: rule.ref_at(now) for rule in rules}
        standings = await standings_of(tx, list(refs.values()))
        raises = await list_raises(tx, {rule.budget_id for rule in rules})
        late = await late_costs(tx, principal.tenant_id, now - LATE, limit=LATE_ATTEMPTS)
    mean = mean_cost(late, principal.key_id)
    return Standing(
        mean_nanousd=mean,
        budgets=tuple(
            _shown(
                rule,
                binding,
                refs[rule],
                _without(standings[refs[rule]], stock.idle(refs[rule])),
                [shown_raise(row) for row in raises if row.budget_id == rule.budget_id],
                mean,
            )
            for rule, binding in rules.items()
        ),
    )


def mean_cost(costs: Iterable[tuple[str, str, int]], key_id: str) -> int | None:
    """Return what a request of the key cost, else one of any key; of (key, request, cost).

    None when there was no request, or none that cost anything.
    """
    known = list(costs)
    own = [one for one in known if one[0] == key_id] or known
    requests = {request_id for _, request_id, _ in own}
    spent = sum(cost for _, _, cost in own)
    return -(-spent // len(requests)) if spent > 0 else None


def _around(table: BudgetTable, principal: Principal, user: str | None) -> Iterable[Binding]:
    for one in table.bindings:
        if not one.binds(principal) or (one.each_user and user is None):
            continue
        if user is None or one.user in {None, user}:
            yield one


def _without(now: BudgetStanding, idle: int) -> BudgetStanding:
    """Return how a window stands when nothing that no call has taken counts as granted."""
    return msgspec.structs.replace(now, granted_nanousd=max(0, now.granted_nanousd - idle))


def _shown(
    rule: BudgetRule,
    binding: Binding,
    ref: BudgetRef,
    now: BudgetStanding,
    raises: Sequence[ShownRaise],
    mean: int | None,
) -> OwnBudget:
    raised = now.raised_nanousd or 0
    left = rule.limit_nanousd + raised - now.settled_nanousd - now.granted_nanousd
    period = rule.period_at(ref.starts_at)
    own = binding.tenant is not None
    return OwnBudget(
        id=rule.budget_id,
        applies_to=_applies_to(binding),
        shared=not own,
        window=rule.window,
        timezone=rule.timezone,
        action="reject" if rule.rejects else "warn",
        thresholds=rule.thresholds,
        limit_usd=usd_text(rule.limit_nanousd) if own else None,
        raised_usd=usd_text(raised) if own else None,
        spent_usd=usd_text(now.settled_nanousd) if own else None,
        held_usd=usd_text(now.granted_nanousd) if own else None,
        remaining_usd=usd_text(max(0, left)),
        estimated_requests_left=None if mean is None else max(0, left) // mean,
        starts_at=int(period.starts_at.timestamp()),
        resets_at=int(period.ends_at.timestamp()),
        raises=tuple(raises) if own else (),
    )


def _applies_to(binding: Binding) -> dict[str, str]:
    tag = None if binding.tag is None else "=".join(binding.tag)
    named = {
        "tenant": binding.tenant,
        "key": binding.key,
        "user": "*" if binding.each_user else binding.user,
        "model": binding.route,
        "provider": binding.provider,
        "tag": tag,
    }
    return {name: value for name, value in named.items() if value is not None}
