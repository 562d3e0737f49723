"""The arithmetic of grants: what a process may hold, and what it asks of SQL. Pure."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from shared.ledger.periods import Period
from shared.ledger.rule import BudgetRule
from shared.store.records import BudgetRef, BudgetStanding

SHARE = 8
"""A process has at most this part of what is left in stock, beside what its calls hold."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What one waiting call needs, of all its windows or of none."""

    refs: tuple[BudgetRef, ...]
    amount_nanousd: int


class Stock(msgspec.Struct, frozen=True, kw_only=True):
    """What a process brings to a trade about one window, whose limit is without its raises.

    `returned_nanousd` is given back, whoever gets it then. `free_nanousd` is kept and held by no
    call; below zero, calls have cost more than they held. `fills` asks for a share in stock.
    """

    limit_nanousd: int
    returned_nanousd: int = 0
    free_nanousd: int = 0
    fills: bool = False


def traded(
    stocks: Mapping[BudgetRef, Stock],
    standings: Mapping[BudgetRef, BudgetStanding],
    needs: Sequence[Need],
) -> dict[BudgetRef, int]:
    """Return the amounts the process shall have; none grows past its limit and its raises.

    First what it has overspent is covered, then the needs in turn, each whole or not at all. Where
    all are covered and it fills, up to an eighth of what is left comes into its stock.
    """
    spare: dict[BudgetRef, int] = {}
    amounts: dict[BudgetRef, int] = {}
    for ref, stock in stocks.items():
        now = standings[ref]
        returned = min(stock.returned_nanousd, now.amount_nanousd)
        left = limit_of(stock.limit_nanousd, now) - now.settled_nanousd - now.granted_nanousd
        left += returned
        overspent = max(0, -stock.free_nanousd)
        amounts[ref] = now.amount_nanousd - returned + max(0, min(overspent, left))
        spare[ref] = left - overspent
    short = _cover(needs, spare, amounts)
    for ref, stock in stocks.items():
        if stock.fills and ref not in short:
            free = max(0, stock.free_nanousd)
            more = share_of(spare[ref] + free) - free
            amounts[ref] += max(0, min(more, spare[ref]))
    return amounts


def limit_of(limit_nanousd: int, now: BudgetStanding) -> int:
    """Return what may be spent in a window, its raises included."""
    return limit_nanousd + (now.raised_nanousd or 0)


def share_of(left_nanousd: int) -> int:
    """Return what one process may have in stock when that much is left for all."""
    return max(0, left_nanousd) // SHARE


def _cover(
    needs: Iterable[Need], spare: dict[BudgetRef, int], amounts: dict[BudgetRef, int]
) -> set[BudgetRef]:
    """Move what the needs take from `spare` to `amounts`; return the windows that fell short."""
    short: set[BudgetRef] = set()
    for need in needs:
        lacking = [ref for ref in need.refs if spare[ref] < need.amount_nanousd]
        short.update(lacking)
        if lacking:
            continue
        for ref in need.refs:
            spare[ref] -= need.amount_nanousd
            amounts[ref] += need.amount_nanousd
    return short


class Grant:
    """A process's grant in memory, as SQL last told, and what its calls have taken of it.

    Plain attributes, in nano-dollars, because every call passes here: of what is `taken` the part
    `spent` is that of attempts whose rows are not in SQL yet, the rest is held. When the free money
    falls below `low`, never negative, the stock wants to be filled. `used` says that a call has
    held something since somebody looked who is idle. `raised` comes on top of the rule's limit.
    """

    __slots__ = (
        "amount",
        "ends_at",
        "granted",
        "low",
        "raised",
        "ref",
        "rule",
        "settled",
        "spent",
        "taken",
        "used",
        "version",
        "wants",
    )

    def __init__(self, rule: BudgetRule, period: Period, raised: int = 0) -> None:
        self.rule = rule
        self.raised = raised
        self.ref = BudgetRef(budget_id=rule.budget_id, starts_at=period.starts_at)
        self.ends_at = period.ends_at
        self.amount = self.taken = self.spent = 0
        self.settled = self.granted = self.version = 0
        self.low = 0
        self.wants = self.used = False

    @property
    def free(self) -> int:
        """What a call may still hold; below zero when calls cost more than they held."""
        return self.amount - self.taken

    @property
    def held(self) -> int:
        """What running calls hold, or what is on its way back to SQL."""
        return self.taken - self.spent

    @held.setter
    def held(self, held: int) -> None:
        self.taken = self.spent + held

    @property
    def limit(self) -> int:
        """What may be spent in the window now."""
        return self.rule.limit_nanousd + self.raised

    @property
    def room(self) -> int:
        """What a call could hold here if all that is left came to it, by what SQL last told."""
        return self.limit - self.settled - self.granted + max(0, self.free)

    @property
    def share(self) -> int:
        """What this process may have in stock, by what SQL last told."""
        return share_of(self.room)

    def take(self, amount: int) -> None:
        """Hold an amount; whoever calls this has looked at `free`."""
        self.taken += amount
        self.used = True

    def adopt(self, now: BudgetStanding) -> None:
        """Follow SQL, unless something newer was heard already."""
        if now.raised_nanousd is not None:
            self.raised = now.raised_nanousd
        if now.version <= self.version:
            return
        self.amount = now.amount_nanousd
        self.settled = now.settled_nanousd
        self.granted = now.granted_nanousd
        self.version = now.version

    def written(self, cost: int) -> None:
        """Hear that attempts of this cost are in SQL now."""
        written = min(cost, self.spent)
        self.spent -= written
        self.taken -= written

    def never_covers(self, amount: int) -> bool:
        """Say whether what is settled leaves no room; only a raise or the window's end helps."""
        return self.settled + amount > self.limit
