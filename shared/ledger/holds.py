"""Setting money aside for a call before it is made, so that concurrent calls keep to a budget."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from shared.clock import Clock, Deadline
from shared.config.model import Config
from shared.errors import BudgetExceeded, StoreUnavailable
from shared.identity import Principal
from shared.ids import IdMaker, new_id
from shared.ledger.accounts import SLACK_S
from shared.ledger.binding import NOTHING_ASKED, Asked, Stop
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


class Hold:
    """Money of one call. The refs of `at` and the `owner` go into the openings of its attempts.

    One without grants (of a job, or of budgets that only warn) holds nothing in memory. `apart` are
    the places it is good for, where the budgets depend on them.
    """

    __slots__ = ("_apart", "_everywhere", "_grants", "_left", "_lefts", "_trader", "owner")

    def __init__(
        self,
        everywhere: Enclosure,
        owner: str,
        amount: int = 0,
        grants: tuple[Grant, ...] = (),
        trader: Trader | None = None,
        *,
        apart: Mapping[Stop, Enclosure] | None = None,
    ) -> None:
        self.owner = owner
        self._everywhere = everywhere
        self._left = amount
        self._grants = grants
        self._trader = trader
        self._apart = apart
        self._lefts = None if apart is None else [amount] * len(grants)

    @property
    def refs(self) -> tuple[BudgetRef, ...]:
        """The windows of all budgets around the call."""
        return self._everywhere.refs

    @property
    def is_good_everywhere(self) -> bool:
        """Whether the call may go to all of its places."""
        return self._apart is None

    def at(self, route: str, provider: str) -> Enclosure:
        """Return what binds an attempt there."""
        if self._apart is None:
            return self._everywhere
        return self._apart.get((route, provider), self._everywhere)

    def covers(self, route: str, provider: str) -> bool:
        """Return whether the call may go there: no budget of the place's own is spent."""
        return self._apart is None or (route, provider) in self._apart

    def spend(self, cost_nanousd: int, refs: tuple[BudgetRef, ...]) -> None:
        """Turn a part of what is held into what is spent; once per attempt that was closed.

        `refs` are those of its place. More than what is held is spent too. Never waits, never
        fails.
        """
        if self._lefts is not None:
            self._spend_apart(cost_nanousd, refs, self._lefts)
            return
        part = self._left
        if cost_nanousd < part:  # noqa: PLR1730 (a call of min costs more than this line)
            part = cost_nanousd
        self._left -= part
        for grant in self._grants:
            grant.held -= part
            grant.spent += cost_nanousd

    def _spend_apart(
        self, cost_nanousd: int, refs: tuple[BudgetRef, ...], lefts: list[int]
    ) -> None:
        for number, grant in enumerate(self._grants):
            if grant.ref in refs:
                part = min(cost_nanousd, lefts[number])
                lefts[number] -= part
                grant.held -= part
                grant.spent += cost_nanousd

    def release(self) -> None:
        """Let the rest go, at the end of the call; a second time changes nothing.

        Never waits, never fails.
        """
        left, self._left = self._left, 0
        lefts = self._lefts
        if not left and not lefts:
            return
        if lefts is None:
            for grant in self._grants:
                grant.held -= left
        else:
            self._lefts = []
            for grant, rest in zip(self._grants, lefts, strict=False):
                grant.held -= rest
        if self._trader is not None and self._trader.waiters:
            self._trader.wake()


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
        now = self._clock.now()
        if now >= envelope.good_until:
            envelope.turn_over(self._trader, now)
        amount = amount_nanousd or 0
        trader = self._trader
        for grant in envelope.grants:
            if grant.amount - grant.held - grant.spent < amount:
                envelope = await self._waited(envelope, amount, deadline)
                break
        else:
            for grant in envelope.grants:  # as in Grant.take, without its call
                grant.held += amount
                grant.calls += 1
                if grant.amount - grant.held - grant.spent < grant.low:
                    trader.want(grant)
        for grant in envelope.warning:
            if grant.settled + amount > grant.limit:
                BUDGET_REFUSED.labels("warn").inc()
        return Hold(
            envelope.everywhere,
            trader.owner,
            amount,
            envelope.grants,
            trader,
            apart=envelope.apart,
        )

    async def _waited(self, envelope: Envelope, amount: int, deadline: Deadline) -> Envelope:
        """Return what the call is held in: without the places whose own budgets are spent."""
        while True:
            patience_s = CHOICE_WAIT_S if envelope.bound.has_choice else HOLD_WAIT_S
            try:
                await self._trader.wait(envelope.grants, amount, deadline, patience_s)
            except BudgetExceeded as refused:
                left = envelope.bound.without(refused.limit_source)
                if left is None:
                    raise
                envelope = Envelope(left)
                envelope.turn_over(self._trader, self._clock.now())
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
