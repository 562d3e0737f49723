"""A process's trade with SQL: grants in when calls need them, back when nobody does.

One transaction at a time, for all that waits by then. What is going back counts as held meanwhile;
what SQL answers is taken over whole, so that a reply that was lost only has to be asked for again.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from shared.clock import Clock, Deadline
from shared.errors import GatewayError, StoreUnavailable
from shared.ledger.accounts import LOOK_S, Accounts, Deal, returning
from shared.ledger.grants import Grant, traded
from shared.ledger.rule import BudgetRule
from shared.ledger.settle import Spent, Standings
from shared.store.budgets import settle, trade
from shared.store.engine import Store
from shared.store.records import BudgetRef, BudgetStanding
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import GRANT_REFILLS, HOLD_WAIT_SECONDS

log = get_logger("budgets")

HOLD_WAIT_S = 5.0
"""How long a call may wait for money that other running calls hold."""

POLL_S = 0.1
"""How often SQL is asked again for what it could not give."""

TRADE_S = 2.0
"""How long a transaction may take; callers are waiting for it."""

AWAY_S = 1.0
"""Wait before a database that failed is asked for anything but what a call waits for."""


class _Waiter:
    """A call that waits until every one of its grants covers it."""

    def __init__(self, grants: tuple[Grant, ...], amount: int, until_s: float) -> None:
        self.grants = grants
        self.amount = amount
        self.until_s = until_s
        self.served: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Trader:
    """The grants of one process, under the name `owner`."""

    def __init__(self, store: Store, clock: Clock, *, owner: str, lifetime_s: float) -> None:
        self.owner = owner
        self.waiters: list[_Waiter] = []
        self._store = store
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._accounts = Accounts(clock, lifetime_s=lifetime_s)
        self._work = asyncio.Event()
        self._going: dict[BudgetRef, int] = {}

    def grant(self, rule: BudgetRule, now: datetime) -> Grant:
        """Return the grant of the window that a call belongs to which starts now."""
        return self._accounts.grant(rule, now)

    def held(self, ref: BudgetRef) -> int:
        """Return what running calls hold in a window."""
        account = self._accounts.find(ref)
        return 0 if account is None else account.grant.held - self._going.get(ref, 0)

    def idle(self, ref: BudgetRef) -> int:
        """Return what this process was granted in a window and no call has taken."""
        account = self._accounts.find(ref)
        free = 0 if account is None else max(0, account.grant.free)
        return free + self._going.get(ref, 0)

    def holding(self) -> Iterator[tuple[BudgetRef, int, int]]:
        """Yield each window that calls hold in, with what is settled of it, and what they hold."""
        for account in self._accounts:
            ref = account.grant.ref
            held = account.grant.held - self._going.get(ref, 0)
            if held:
                yield ref, account.grant.settled, held

    def wake(self) -> None:
        """Look soon whether somebody who waits can be served, or a stock filled."""
        self._work.set()

    def want(self, grant: Grant) -> None:
        """Hear that a call has found the stock of a grant low: it is filled up soon."""
        self._accounts.want(grant)
        self.wake()

    def raise_limits(self, raised: Mapping[str, int]) -> None:
        """Hear by how much the limits of which budgets are higher now; the others are not."""
        self._accounts.raise_limits(raised)
        if self.waiters:
            self.wake()

    async def wait(
        self,
        grants: tuple[Grant, ...],
        amount: int,
        deadline: Deadline,
        patience_s: float = HOLD_WAIT_S,
    ) -> None:
        """Return when the amount is held in all these grants.

        Raises:
            BudgetExceeded: the settled sum leaves no room, or what is left stayed held by running
                calls for `patience_s`, or until the deadline.
            StoreUnavailable: the grants do not cover it and the database cannot be asked.
        """
        if (full := _full(grants, amount)) is not None:
            raise full
        started_s = self._clock.monotonic()
        until_s = min(started_s + patience_s, deadline.at_s)
        self._accounts.keep(grants)
        waiter = _Waiter(grants, amount, until_s)
        self.waiters.append(waiter)
        self.wake()
        try:
            await waiter.served
        except asyncio.CancelledError:
            if _was_served(waiter):  # in the moment it gave up
                self._put_back(waiter)
            raise
        finally:
            HOLD_WAIT_SECONDS.observe(self._clock.monotonic() - started_s)

    def settled(self, spent: Spent, standings: Standings) -> None:
        """Hear what is in SQL for good; never fails."""
        for (owner, refs), cost in spent.items():
            if owner == self.owner and cost:
                for ref in refs:
                    if (account := self._accounts.find(ref)) is not None:
                        account.grant.written(cost)
        for (owner, ref), standing in standings.items():
            account = self._accounts.find(ref)
            if owner == self.owner and account is not None:
                account.grant.adopt(standing)
        if self.waiters:
            self.wake()

    async def run(self) -> None:
        """Trade for ever; cancelled by its owner, who then calls `close`."""
        while True:
            try:
                async with self._clock.timeout(POLL_S if self.waiters else LOOK_S):
                    await self._work.wait()
            except TimeoutError:
                pass
            try:
                await self.turn()
            except StoreUnavailable as error:
                log.warning("budgets.store_unavailable", why=error.message)
            except Exception as error:
                log.exception("budgets.failed")
                self._refuse_all(StoreUnavailable(f"The budgets could not be read: {error}."))
                await self._clock.sleep(POLL_S)

    async def turn(self) -> None:
        """Serve who waits, by a transaction where memory does not do.

        Raises:
            StoreUnavailable: all who waited have been told so.
        """
        self._work.clear()
        now_s = self._clock.monotonic()
        self._serve(now_s)
        deal = self._accounts.deal(self.waiters, now_s)
        if deal is None:
            return
        await self._trade(deal)
        now_s = self._clock.monotonic()
        self._serve(now_s)
        for waiter in self.waiters:
            for grant in waiter.grants:
                if grant.free < waiter.amount:
                    self._accounts[grant.ref].tight_until_s = now_s + POLL_S
        for ref in deal.stocks:
            grant = self._accounts[ref].grant
            grant.low = min(grant.share, max(0, grant.free)) // 2

    async def close(self) -> None:
        """Give back what no call of this process can still need; those who wait are refused.

        Raises:
            StoreUnavailable: the grants then count until they expire.
        """
        self._refuse_all(StoreUnavailable("This process is stopping."))
        grants = [account.grant for account in self._accounts]
        if any(grant.held or grant.spent for grant in grants):
            # Some of it lies in the spool; whoever replays that takes back the rest.
            stocks = {grant.ref: returning(grant) for grant in grants}
            await self._trade(Deal(stocks=stocks))
        elif any(one.grant.amount or one.unsure for one in self._accounts):
            try:
                async with self._clock.timeout(TRADE_S), self._store.write() as tx:
                    await settle(tx, {}, release=[self.owner])
            except TimeoutError as error:
                raise StoreUnavailable("The grants could not be returned in time.") from error

    def _serve(self, now_s: float) -> None:
        """Let those go on whom the grants cover now, and refuse whom nothing will cover."""
        if not self.waiters:
            return
        still = []
        for waiter in self.waiters:
            if waiter.served.done():
                continue
            if all(grant.free >= waiter.amount for grant in waiter.grants):
                for grant in waiter.grants:
                    grant.take(waiter.amount)
                waiter.served.set_result(None)
            elif (full := _full(waiter.grants, waiter.amount)) is not None:
                waiter.served.set_exception(full)
            elif now_s >= waiter.until_s:
                short = _shortest(waiter.grants, waiter.amount)
                waiter.served.set_exception(short.rule.exceeded(short.ends_at, held=True))
            else:
                still.append(waiter)
        self.waiters = still

    def _put_back(self, waiter: _Waiter) -> None:
        for grant in waiter.grants:
            grant.held -= waiter.amount
        self.wake()

    def _refuse_all(self, error: GatewayError) -> None:
        for waiter in self.waiters:
            if not waiter.served.done():
                waiter.served.set_exception(error)
        self.waiters = []

    async def _trade(self, deal: Deal) -> None:
        """Make the deal, or tell all who wait that it failed.

        Raises:
            StoreUnavailable: it may have been made all the same.
        """
        going = [(self._accounts[ref], stock) for ref, stock in deal.stocks.items()]
        for account, stock in going:
            account.grant.held += stock.returned_nanousd
            self._going[account.grant.ref] = stock.returned_nanousd
        answered: dict[BudgetRef, BudgetStanding] = {}
        committed = False
        started_s = self._clock.monotonic()
        try:
            async with self._clock.timeout(TRADE_S), self._store.write() as tx:
                answered = await trade(
                    tx,
                    owner=self.owner,
                    refs=deal.stocks,
                    decide=lambda standings: traded(deal.stocks, standings, deal.needs),
                    lifetime_s=self._lifetime_s,
                )
            committed = True
        except (StoreUnavailable, TimeoutError) as error:
            away = StoreUnavailable(f"The budgets could not be asked in time: {error}.")
            self._accounts.leave_alone(self._clock.monotonic() + AWAY_S)
            self._refuse_all(away)
            GRANT_REFILLS.labels("failed").inc()
            raise away from error
        finally:
            for account, stock in going:
                account.grant.held -= stock.returned_nanousd
                self._going.pop(account.grant.ref, None)
                if not committed:
                    account.grant.amount -= stock.returned_nanousd
                    account.unsure = True
        GRANT_REFILLS.labels("succeeded").inc()
        for account, _ in going:
            account.grant.adopt(answered[account.grant.ref])
            account.grant.wants = account.unsure = False
            account.renewed_s = started_s


def _was_served(waiter: _Waiter) -> bool:
    future = waiter.served
    return future.done() and not future.cancelled() and future.exception() is None


def _shortest(grants: Iterable[Grant], amount: int) -> Grant:
    """Return the budget to blame: SQL gives a call all that it needs or nothing of it.

    So one with room enough has nothing to give either, while another lacks some.
    """
    lacking = [grant for grant in grants if grant.free < amount]
    return next((grant for grant in lacking if grant.room < amount), lacking[0])


def _full(grants: Iterable[Grant], amount: int) -> GatewayError | None:
    """Return the refusal by a budget whose settled sum leaves no room."""
    for grant in grants:
        if grant.never_covers(amount):
            return grant.rule.exceeded(grant.ends_at)
    return None
