"""One budget: its limit, its windows and its name. Pure."""

import hashlib
import math
from datetime import date, datetime
from decimal import Decimal

import msgspec

from shared.config.model import Budget, Window
from shared.errors import BudgetExceeded
from shared.ledger.cost import NANOUSD_PER_USD
from shared.ledger.periods import Period, period_at
from shared.store.records import BudgetRef

LONGEST_USER = 128
EACH = "*"
"""Stands for the user in the id of a template."""
_HASHED = "sha256:"


class BudgetRule(msgspec.Struct, frozen=True, kw_only=True):
    """A budget of the config. One that does not reject is counted and refuses nothing.

    `budget_id` is such as `tenant:acme/day` or `key:acme/ci/month`, with `-2` and so on where an
    owner has several of one window. `tenant_id` is who is told when `thresholds` (percent of the
    limit) are reached; None: the operator, for it is of no one tenant.
    """

    budget_id: str
    limit_nanousd: int
    rejects: bool
    window: Window
    timezone: str
    starts_on: date | None
    thresholds: tuple[int, ...] = ()
    tenant_id: str | None = None

    def period_at(self, now: datetime) -> Period:
        """Return the budget's period that holds the moment."""
        return period_at(now, self.window, timezone=self.timezone, starts_on=self.starts_on)

    def ref_at(self, now: datetime) -> BudgetRef:
        """Return the window that a call belongs to which starts now."""
        return BudgetRef(budget_id=self.budget_id, starts_at=self.period_at(now).starts_at)

    def of_user(self, user: str) -> "BudgetRule":
        """Return the user's own budget; the rule is a template."""
        return self.with_word(user_word(user))

    def with_word(self, word: str) -> "BudgetRule":
        """Return the budget of the user who has that word in ids; the rule is a template."""
        owner, _, window = self.budget_id.rpartition("/")
        own_id = f"{owner.removesuffix(EACH)}{word}/{window}"
        return msgspec.structs.replace(self, budget_id=own_id)

    def exceeded(self, ends_at: datetime, *, held: bool = False) -> BudgetExceeded:
        """Return the refusal in the window that ends then; `held`: by what runs, not yet spent."""
        why = "held by calls that run" if held else "spent"
        return BudgetExceeded(
            f"The budget {self.budget_id} does not cover this call: the rest is {why}.",
            limit_source=self.budget_id,
            resets_at=math.ceil(ends_at.timestamp()),
        )


def rule_of(budget_id: str, tenant_id: str | None, budget: Budget) -> BudgetRule:
    """Return a budget of the config under its id."""
    return BudgetRule(
        budget_id=budget_id,
        limit_nanousd=int(Decimal(budget.limit_usd) * NANOUSD_PER_USD),
        rejects=budget.action == "reject",
        window=budget.window,
        timezone=budget.timezone,
        starts_on=None if budget.starts_on is None else date.fromisoformat(budget.starts_on),
        thresholds=tuple(sorted(set(budget.thresholds))),
        tenant_id=tenant_id,
    )


def user_word(user: str) -> str:
    """Return a user's name as it stands in ids: as it is, unless a database would choke on it.

    Callers may call themselves anything; two of them never have the same word.
    """
    plain = user.isprintable() and user != EACH and not user.startswith(_HASHED)
    if plain and 0 < len(user) <= LONGEST_USER:
        return user
    digest = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
    return _HASHED + digest[:32]
