"""Which budgets bind whom, and which of their windows a moment lies in. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal

import msgspec

from shared.config.model import Budget, Config, Window
from shared.errors import BudgetExceeded
from shared.identity import Principal, file_key_id
from shared.ledger.cost import NANOUSD_PER_USD
from shared.ledger.periods import Period, period_at
from shared.store.records import BudgetRef


class BudgetRule(msgspec.Struct, frozen=True, kw_only=True):
    """A budget of the config. One that does not reject is counted and refuses nothing.

    `budget_id` is such as `tenant:acme/day` or `key:acme/ci/month`, with `-2` and so on where an
    owner has several of one window.
    """

    budget_id: str
    limit_nanousd: int
    rejects: bool
    window: Window
    timezone: str
    starts_on: date | None

    def period_at(self, now: datetime) -> Period:
        """Return the budget's period that holds the moment."""
        return period_at(now, self.window, timezone=self.timezone, starts_on=self.starts_on)

    def ref_at(self, now: datetime) -> BudgetRef:
        """Return the window that a call belongs to which starts now."""
        return BudgetRef(budget_id=self.budget_id, starts_at=self.period_at(now).starts_at)

    def exceeded(self, ends_at: datetime, *, held: bool = False) -> BudgetExceeded:
        """Return the refusal in the window that ends then; `held`: by what runs, not yet spent."""
        why = "held by calls that run" if held else "spent"
        return BudgetExceeded(
            f"The budget {self.budget_id} does not cover this call: the rest is {why}.",
            limit_source=self.budget_id,
            resets_at=math.ceil(ends_at.timestamp()),
        )


class BudgetTable:
    """The budgets of tenants and of the keys in the config."""

    def __init__(self, config: Config) -> None:
        self.of_tenants: Mapping[str, tuple[BudgetRule, ...]] = {
            tenant.id: tuple(_rules(f"tenant:{tenant.id}", tenant.budgets))
            for tenant in config.tenants
            if tenant.budgets
        }
        self.of_keys: Mapping[str, tuple[BudgetRule, ...]] = {
            file_key_id(tenant.id, key.name): (
                *self.of_tenants.get(tenant.id, ()),
                *_rules(f"key:{tenant.id}/{key.name}", key.budgets),
            )
            for tenant in config.tenants
            for key in tenant.keys
            if key.budgets
        }
        """Their tenant's come first."""

    def of(self, principal: Principal) -> tuple[BudgetRule, ...]:
        """Return all budgets around a key's calls."""
        own = self.of_keys.get(principal.key_id)
        return self.of_tenants.get(principal.tenant_id, ()) if own is None else own

    def __bool__(self) -> bool:
        return bool(self.of_tenants or self.of_keys)


def longest_call_s(config: Config) -> float:
    """Return how long any call may last, in seconds: the longest total of the routes."""
    return max((route.timeouts.total_s for route in config.routes), default=600.0)


def _rules(owner: str, budgets: Iterable[Budget]) -> Iterable[BudgetRule]:
    seen = Counter[str]()
    for budget in budgets:
        seen[budget.window] += 1
        number = seen[budget.window]
        yield BudgetRule(
            budget_id=f"{owner}/{budget.window}" + (f"-{number}" if number > 1 else ""),
            limit_nanousd=int(Decimal(budget.limit_usd) * NANOUSD_PER_USD),
            rejects=budget.action == "reject",
            window=budget.window,
            timezone=budget.timezone,
            starts_on=None if budget.starts_on is None else date.fromisoformat(budget.starts_on),
        )
