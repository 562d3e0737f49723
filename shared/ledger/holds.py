"""Setting money aside for a call before it is made, so that concurrent calls keep to a budget."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from copy import copy
from typing import ClassVar, Protocol

import msgspec
from typing_extensions import override

from shared.clock import Clock, Deadline
from shared.config.model import Config
from shared.crowd import NEXT_TURN
from shared.errors import BudgetExceeded, StoreUnavailable
from shared.identity import Principal
from shared.ids import IdMaker, new_id
from shared.ledger.accounts import SLACK_S
from shared.ledger.binding import NOTHING_ASKED, Asked, Bound, Stop
from shared.ledger.budgets import MOST_KEYS, BudgetTable, longest_call_s
from shared.ledger.envelopes import Enclosure, Envelope, Envelopes
from shared.ledger.grants import Grant
from shared.ledger.raises import follow_raises
from shared.ledger.settle import Spent, Standings
from shared.ledger.trader import HOLD_WAIT_S, Trader
from shared.store.engine import Store
from shared.store.records import BudgetRef
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import BUDGET_REFUSED

log = get_logger("budgets")

CHOICE_WAIT_S = 0.3
"""How long a call waits for a place whose money is held, when it may go elsewhere."""


class Hold(msgspec.Struct, eq=False, gc=False):
    """Money of one call: so much is `left` of it in each of the grants.

    The refs of `at` and the `owner` go into the openings of its attempts. One without grants (of a
    job, or of budgets that only warn) holds nothing in memory. A Struct, because each call makes
    one: a class's takes twice as long.
    """

    everywhere: Enclosure
    owner: str
    left: int = 0
    grants: tuple[Grant, ...] = ()
    trader: Trader | None = None

    is_good_everywhere: ClassVar[bool] = True
    """Whether the call may go to all of its places."""

    @property
    def refs(self) -> tuple[BudgetRef, ...]:
        """The windows of all budgets around the call."""
        return self.everywhere.refs

    def at(self, route: str, provider: str) -> Enclosure:  # noqa: ARG002 (see HoldApart)
        """Return what binds an attempt there."""
        return self.everywhere

    def covers(self, route: str, provider: str) -> bool:  # noqa: ARG002
        """Return whether the call may go there: no budget of the place's own is spent."""
        return True

    def spend(self, cost_nanousd: int, refs: tuple[BudgetRef, ...]) -> None:  # noqa: ARG002
        """Turn a part of what is held into what is spent; once per attempt that was closed.

        `refs` are those of its place. More than what is held is spent too. Never waits, never
        fails.
        """
        left = self.left
        if cost_nanousd <= left:
            self.left = left - cost_nanousd
            for grant in self.grants:
                grant.spent += cost_nanousd
            return
        self.left = 0
        for grant in self.grants:
            grant.spent += cost_nanousd
            grant.taken += cost_nanousd - left

    def release(self) -> None:
        """Let the rest go, at the end of the call; a second time changes nothing.

        Never waits, never fails.
        """
        left = self.left
        if not left:
            return
        self.left = 0
        for grant in self.grants:
            grant.taken -= left
        if self.trader is not None and self.trader.waiters:
            self.trader.wake()


class HoldApart(Hold, eq=False, gc=False):
    """One whose budgets depend on the place: `apart` are those it is good for.

    It has `lefts` in place of `left`: so much is left in each grant.
    """

    apart: Mapping[Stop, Enclosure] = {}
    lefts: list[int] = []

    is_good_everywhere: ClassVar[bool] = False

    @override
    def at(self, route: str, provider: str) -> Enclosure:
        return self.apart.get((route, provider), self.everywhere)

    @override
    def covers(self, route: str, provider: str) -> bool:
        return (route, provider) in self.apart

    @override
    def spend(self, cost_nanousd: int, refs: tuple[BudgetRef, ...]) -> None:
        for number, grant in enumerate(self.grants):
            if grant.ref in refs:
                part = min(cost_nanousd, self.lefts[number])
                self.lefts[number] -= part
                grant.spent += cost_nanousd
                grant.taken += cost_nanousd - part

    @override
    def release(self) -> None:
        if not any(self.lefts):
            return
        for grant, left in zip(self.grants, self.lefts, strict=True):
            grant.taken -= left
        self.lefts = [0] * len(self.grants)
        if self.trader is not None and self.trader.waiters:
            self.trader.wake()


def hold_of(
    everywhere: Enclosure,
    apart: Mapping[Stop, Enclosure] | None,
    owner: str,
    amount: int = 0,
    grants: tuple[Grant, ...] = (),
    trader: Trader | None = None,
) -> Hold:
    """Return the hold of what the grants have given: the amount each."""
    if apart is None:
        return Hold(everywhere, owner, amount, grants, trader)
    lefts = [amount] * len(grants)
    return HoldApart(everywhere, owner, 0, grants, trader, apart, lefts)


def patience_of(bound: Bound) -> float:
    """Return how long a call waits at first for money that others hold."""
    return CHOICE_WAIT_S if bound.has_choice else HOLD_WAIT_S


class Holds(Protocol):
    """Who sets money aside: a process from its grants, a job in SQL."""

    async def hold(
        self,
        principal: Principal,
        amount_nanousd: int | None,
        *,
        deadline: Deadline,
        asked: Asked = NOTHING_ASKED,
    ) -> Hold | None:
        """Hold the amount in all budgets around the call, or in none.

        None when no budget is around it. An amount of None is not known and holds nothing. A place
        whose own budget is spent is left out as long as there is another: see `Hold.covers`.

        Raises:
            BudgetExceeded: the settled sum leaves no room, or the rest stays held by running
                calls too long. Nothing was held.
            StoreUnavailable: the database is away and nothing at hand covers it.
        """


class ProcessHolds:
    """Holds from the grants of this process; waits only when they do not cover a call."""

    def __init__(self, table: BudgetTable, trader: Trader, clock: Clock) -> None:
        self._table = table
        self._trader = trader
        self._clock = clock
        self._of_keys: dict[str, Envelopes] = {}

    async def hold(
        self,
        principal: Principal,
        amount_nanousd: int | None,
        *,
        deadline: Deadline,
        asked: Asked = NOTHING_ASKED,
    ) -> Hold | None:
        """Hold the amount in all budgets around the call; see `Holds`."""
        envelopes = self._of_keys.get(principal.key_id) or self._met(principal)
        envelope = envelopes.only or envelopes.of(asked)
        if envelope is None:
            return None
        await NEXT_TURN
        if self._clock.wall_s() >= envelope.good_until_s:
            envelope.turn_over(self._trader, self._clock.now())
        amount = amount_nanousd or 0
        for grant in envelope.grants:
            taken = grant.taken + amount
            if grant.amount - taken < grant.low:
                envelope = await self._held(envelope, grant, amount, deadline)
                break
            grant.taken = taken
        else:
            for grant in envelope.grants:
                grant.used = True
        for grant in envelope.warning:
            if grant.settled + amount > grant.limit:
                BUDGET_REFUSED.labels("warn").inc()
        trader = self._trader
        return hold_of(
            envelope.everywhere, envelope.apart, trader.owner, amount, envelope.grants, trader
        )

    async def _held(
        self, envelope: Envelope, low: Grant, amount: int, deadline: Deadline
    ) -> Envelope:
        """Return what the call is held in, though the stock of `low` is, or does not cover it.

        Those before it have given the amount already.
        """
        for grant in envelope.grants:
            if grant is low:
                break
            grant.taken -= amount
        if any(grant.free < amount for grant in envelope.grants):
            return await self._waited(envelope, amount, deadline)
        for grant in envelope.grants:
            grant.take(amount)
            if grant.free < grant.low:
                self._trader.want(grant)
        return envelope

    async def _waited(self, envelope: Envelope, amount: int, deadline: Deadline) -> Envelope:
        """Return what the call is held in: without the places whose own budgets are spent."""
        envelope = copy(envelope)  # while it waits, others may move theirs on to the next windows
        patience_s = patience_of(envelope.bound)
        while True:
            try:
                await self._trader.wait(envelope.grants, amount, deadline, patience_s)
            except BudgetExceeded as refused:
                left = envelope.bound.without(refused.limit_source)
                if left is not None:
                    envelope = Envelope(left)
                    envelope.turn_over(self._trader, self._clock.now())
                    patience_s = patience_of(left)
                elif patience_s == CHOICE_WAIT_S:
                    patience_s = HOLD_WAIT_S - CHOICE_WAIT_S  # to go elsewhere would not help
                else:
                    raise
            else:
                return envelope

    def held(self, ref: BudgetRef) -> int:
        """Return what the running calls of this process hold in a window."""
        return self._trader.held(ref)

    def idle(self, ref: BudgetRef) -> int:
        """Return what this process was granted in a window and no call has taken."""
        return self._trader.idle(ref)

    def holding(self) -> Iterable[tuple[BudgetRef, int, int]]:
        """Yield each window that they hold in, with what is settled of it, and what they hold."""
        return self._trader.holding()

    def settled(self, spent: Spent, standings: Standings) -> None:
        """Hear from the keeper what is in SQL for good; never fails."""
        self._trader.settled(spent, standings)

    def _met(self, principal: Principal) -> Envelopes:
        if len(self._of_keys) >= MOST_KEYS:
            self._of_keys.clear()
        found = self._of_keys[principal.key_id] = Envelopes(self._table.around(principal))
        return found


@asynccontextmanager
async def open_holds(
    store: Store, config: Config, owner: str, clock: Clock, ids: IdMaker = new_id
) -> AsyncIterator[ProcessHolds]:
    """Open a process's holds, and its trade with SQL behind them.

    To be closed after the spool's last flush; what is not spent then goes back. `owner` names the
    process; two of the same name keep apart.
    """
    table = BudgetTable(config)
    trader = Trader(
        store,
        clock,
        owner=f"{owner}:{ids('grant')}",
        lifetime_s=longest_call_s(config) + SLACK_S,
    )
    background = (trader.run(), follow_raises(store, clock, trader)) if table else ()
    tasks = [asyncio.create_task(one) for one in background]
    try:
        yield ProcessHolds(table, trader, clock)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks:
            try:
                await trader.close()
            except StoreUnavailable as error:
                log.warning("budgets.left", why=error.message)
