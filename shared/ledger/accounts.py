"""What a process has of each window, and what it should trade about it now. No IO."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from shared.clock import Clock
from shared.ledger.grants import Grant, Need, Stock
from shared.ledger.rule import BudgetRule
from shared.store.records import BudgetRef

LOOK_S = 0.5
"""How often grants are looked at for what is idle, too much or due."""

IDLE_S = 2.0
"""After so long without a call a grant's free money goes back."""

FORGET_S = 120.0
"""After so long an account without money is forgotten: users come and go."""

RENEW_S = 30.0
"""How often a grant's life is prolonged."""

SLACK_S = 120.0
"""How much longer than any call a grant lives: a process may be late to renew it."""


class Waiting(Protocol):
    """A call that waits until every one of its grants covers it."""

    @property
    def grants(self) -> tuple[Grant, ...]:
        """Those it is to be held in."""

    @property
    def amount(self) -> int:
        """What it is to hold in each."""


class Account:
    """A grant, and what is remembered about it; moments are monotonic seconds."""

    def __init__(self, grant: Grant, now_s: float) -> None:
        self.grant = grant
        self.active_s = self.renewed_s = now_s
        self.tight_until_s = 0.0
        self.unsure = False  # a transaction failed, and may have been committed all the same


class Deal(msgspec.Struct, frozen=True, kw_only=True):
    """What to trade in one transaction, and for which calls."""

    stocks: dict[BudgetRef, Stock]
    needs: tuple[Need, ...] = ()


class Accounts:
    """The grants of one process; `lifetime_s` is how long SQL counts one that is not renewed."""

    def __init__(self, clock: Clock, *, lifetime_s: float) -> None:
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._accounts: dict[BudgetRef, Account] = {}
        self._wanting: dict[BudgetRef, Account] = {}
        self._raised: Mapping[str, int] = {}
        self._next_look_s = 0.0
        self._away_until_s = 0.0

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def __getitem__(self, ref: BudgetRef) -> Account:
        return self._accounts[ref]

    def find(self, ref: BudgetRef) -> Account | None:
        """Return the account of a window, None when this process has none."""
        return self._accounts.get(ref)

    def grant(self, rule: BudgetRule, now: datetime) -> Grant:
        """Return the grant of the window that a call belongs to which starts now."""
        raised = self._raised.get(rule.budget_id, 0)
        account = self._kept(Grant(rule, rule.period_at(now), raised))
        account.active_s = self._clock.monotonic()
        return account.grant

    def raise_limits(self, raised: Mapping[str, int]) -> None:
        """Hear by how much the limits of which budgets are higher now; the others are not."""
        self._raised = raised
        for account in self:
            account.grant.raised = raised.get(account.grant.rule.budget_id, 0)

    def want(self, grant: Grant) -> None:
        """Hear that a call has found the stock of a grant low."""
        grant.low = 0
        grant.wants = True
        self._wanting[grant.ref] = self._kept(grant)

    def keep(self, grants: Iterable[Grant]) -> None:
        """Know these grants, which may have been forgotten because their window has ended."""
        for grant in grants:
            self._kept(grant)

    def _kept(self, grant: Grant) -> Account:
        known = self._accounts.get(grant.ref)
        if known is None:
            known = self._accounts[grant.ref] = Account(grant, self._clock.monotonic())
        return known

    def leave_alone(self, until_s: float) -> None:
        """Trade nothing before then but what a call waits for: the database is away."""
        self._away_until_s = until_s

    def deal(self, waiting: Sequence[Waiting], now_s: float) -> Deal | None:
        """Return what to trade now, None when nothing is due."""
        looks = now_s >= self._next_look_s
        demand = _demand(waiting)
        if looks:
            self._next_look_s = now_s + LOOK_S
            self._look(now_s, demand)
        short = {ref for ref, amount in demand.items() if self._accounts[ref].grant.free < amount}
        due = {ref for ref in short if now_s >= self._accounts[ref].tight_until_s}
        stocks = {ref: self._short_of(ref) for ref in short}
        if now_s >= self._away_until_s:
            for ref, account in (self._accounts if looks else self._wanting).items():
                if ref in short:
                    continue
                stock = self._looked(account, now_s) if looks else self._asked(account, now_s)
                if stock is not None:
                    stocks[ref] = stock
                    due.add(ref)
            self._wanting = {}
        if not due:
            return None
        needs = (
            Need(
                refs=tuple(grant.ref for grant in waiter.grants if grant.ref in short),
                amount_nanousd=waiter.amount,
            )
            for waiter in waiting
        )
        return Deal(stocks=stocks, needs=tuple(need for need in needs if need.refs))

    def _short_of(self, ref: BudgetRef) -> Stock:
        """All that is free goes into the trade: it may be what another process lacks."""
        stock = returning(self._accounts[ref].grant)
        return msgspec.structs.replace(stock, fills=True)

    def _asked(self, account: Account, now_s: float) -> Stock | None:
        """Return what to trade of a grant whose stock a call has found low."""
        if account.grant.wants and not self._rests(account, now_s):
            return _filling(account.grant)
        return None

    def _looked(self, account: Account, now_s: float) -> Stock | None:
        """Return what to trade of a grant that nobody waits for."""
        grant = account.grant
        due = account.unsure or self._renews(account, now_s)
        if self._rests(account, now_s):
            return returning(grant) if due or grant.free > 0 else None
        more = grant.free - grant.share
        if more > grant.share:
            return returning(grant, more)
        return _filling(grant) if due or grant.wants else None

    def _rests(self, account: Account, now_s: float) -> bool:
        return now_s - account.active_s >= IDLE_S or self._ended(account.grant)

    def _renews(self, account: Account, now_s: float) -> bool:
        return account.grant.amount > 0 and now_s - account.renewed_s >= RENEW_S

    def _ended(self, grant: Grant) -> bool:
        return self._clock.now() >= grant.ends_at

    def _look(self, now_s: float, demand: Collection[BudgetRef]) -> None:
        """See which grants were used, forget ended windows, and trust none that SQL may take."""
        for ref, account in list(self._accounts.items()):
            grant = account.grant
            if grant.used:
                grant.used = False
                account.active_s = now_s
            if grant.amount and now_s - account.renewed_s > self._lifetime_s - SLACK_S / 2:
                grant.amount = min(grant.amount, max(0, grant.taken))
                account.unsure = True
            used = grant.amount or grant.held or grant.spent or account.unsure
            rests = self._ended(grant) or now_s - account.active_s > FORGET_S
            if rests and not used and ref not in demand:
                del self._accounts[ref]
                self._wanting.pop(ref, None)


def _demand(waiters: Iterable[Waiting]) -> dict[BudgetRef, int]:
    demand: dict[BudgetRef, int] = {}
    for waiter in waiters:
        for grant in waiter.grants:
            demand[grant.ref] = demand.get(grant.ref, 0) + waiter.amount
    return demand


def _filling(grant: Grant) -> Stock:
    return Stock(limit_nanousd=grant.rule.limit_nanousd, free_nanousd=grant.free, fills=True)


def returning(grant: Grant, amount: int | None = None) -> Stock:
    """Return the stock of a grant that gives back its free money, or that part of it."""
    returned = max(0, grant.free if amount is None else amount)
    return Stock(
        limit_nanousd=grant.rule.limit_nanousd,
        returned_nanousd=returned,
        free_nanousd=grant.free - returned,
    )
