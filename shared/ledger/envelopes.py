"""The budgets around calls, with the windows and grants of the moment."""

from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from shared.ledger.accounts import FORGET_S
from shared.ledger.binding import NOTHING_ASKED, Around, Asked, Bound, Stop
from shared.ledger.grants import Grant
from shared.ledger.rule import BudgetRule
from shared.ledger.trader import Trader
from shared.store.records import BudgetRef

MOST_SORTS = 10_000
"""Sorts of calls that are remembered of one key: users come and go."""

_GOOD_FOR = timedelta(seconds=FORGET_S / 2)


class Enclosure(msgspec.Struct, frozen=True, kw_only=True):
    """What encloses the attempts at one place.

    `rejects` says that a budget is a wall there, so nothing may be called whose price is unknown.
    """

    refs: tuple[BudgetRef, ...]
    rejects: bool


def enclosures_of(
    bound: Bound, refs: Mapping[BudgetRule, BudgetRef]
) -> tuple[Enclosure, dict[Stop, Enclosure] | None]:
    """Return what encloses attempts at all places together, and at each where they differ."""

    def around(rules: Sequence[BudgetRule]) -> Enclosure:
        return Enclosure(
            refs=tuple(refs[rule] for rule in rules), rejects=any(rule.rejects for rule in rules)
        )

    if bound.apart is None:
        return around(bound.common), None
    apart = {stop: around((*bound.common, *rules)) for stop, rules in bound.apart.items()}
    return around(bound.rules), apart


class Envelope:
    """The budgets around some calls, and of each the window of the moment."""

    __slots__ = ("apart", "bound", "everywhere", "good_until_s", "grants", "warning")

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.everywhere = Enclosure(refs=(), rejects=False)
        self.apart: dict[Stop, Enclosure] | None = None
        self.grants: tuple[Grant, ...] = ()
        self.warning: tuple[Grant, ...] = ()  # never held in: these only know what is settled
        self.good_until_s = 0.0

    def turn_over(self, trader: Trader, now: datetime) -> None:
        """Move on to the windows of the moment; calls that run stay in theirs."""
        grants = {rule: trader.grant(rule, now) for rule in self.bound.rules}
        self.grants = tuple(grant for grant in grants.values() if grant.rule.rejects)
        self.warning = tuple(grant for grant in grants.values() if not grant.rule.rejects)
        refs = {rule: grant.ref for rule, grant in grants.items()}
        self.everywhere, self.apart = enclosures_of(self.bound, refs)
        # An account that nobody asks for is forgotten in time; who asks anew gets the known one.
        good_until = min(now + _GOOD_FOR, *(grant.ends_at for grant in grants.values()))
        self.good_until_s = good_until.timestamp()


class Envelopes:
    """The envelopes of one key, by the sort of call: most keys have but one."""

    __slots__ = ("_around", "_by_sort", "only")

    def __init__(self, around: Around) -> None:
        self._around = around
        self._by_sort: dict[Hashable, Envelope | None] = {}
        self.only = None if around.bindings else _enveloped(around.bound(NOTHING_ASKED))

    def of(self, asked: Asked) -> Envelope | None:
        """Return the envelope of a call, None when no budget is around it."""
        if not self._around.bindings:
            return self.only
        sort = self._around.sort_of(asked)
        if sort not in self._by_sort:
            if len(self._by_sort) >= MOST_SORTS:
                self._by_sort.clear()
            self._by_sort[sort] = _enveloped(self._around.bound(asked))
        return self._by_sort[sort]


def _enveloped(bound: Bound) -> Envelope | None:
    return Envelope(bound) if bound.rules else None
