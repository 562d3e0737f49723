"""Setting money aside for a call before it is made, so that concurrent calls keep to a budget."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Protocol

from shared.clock import Clock, Deadline
from shared.config.model import Config
from shared.errors import StoreUnavailable
from shared.identity import Principal
from shared.ids import IdMaker, new_id
from shared.ledger.accounts import SLACK_S
from shared.ledger.books import Charge
from shared.ledger.budgets import BudgetRule, BudgetTable, longest_call_s
from shared.ledger.grants import Grant
from shared.ledger.settle import Standings
from shared.ledger.trader import Trader
from shared.store.engine import Store
from shared.store.records import BudgetRef
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import BUDGET_REFUSED

log = get_logger("budgets")

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


class Hold:
    """Money of one call. `refs` and `owner` go into the openings of its attempts.

    One without grants (of a job, or of budgets that only warn) holds nothing in memory. `rejects`
    says that a budget is a wall here, so nothing may be called whose price is unknown.
    """

    __slots__ = ("_grants", "_left", "_trader", "owner", "refs", "rejects")

    def __init__(
        self,
        refs: tuple[BudgetRef, ...],
        owner: str,
        amount: int = 0,
        grants: tuple[Grant, ...] = (),
        trader: Trader | None = None,
        *,
        rejects: bool,
    ) -> None:
        self.rejects = rejects
        self.refs = refs
        self.owner = owner
        self._left = amount
        self._grants = grants
        self._trader = trader

    def spend(self, cost_nanousd: int) -> None:
        """Turn a part of what is held into what is spent; once per attempt that was closed.

        More than what is held is spent too. Never waits, never fails.
        """
        part = self._left
        if cost_nanousd < part:  # noqa: PLR1730 (a call of min costs more than this line)
            part = cost_nanousd
        self._left -= part
        for grant in self._grants:
            grant.held -= part
            grant.spent += cost_nanousd

    def release(self) -> None:
        """Let the rest go, at the end of the call; a second time changes nothing.

        Never waits, never fails.
        """
        left = self._left
        if left:
            self._left = 0
            for grant in self._grants:
                grant.held -= left
            if self._trader is not None and self._trader.waiters:
                self._trader.wake()


class Holds(Protocol):
    """Who sets money aside: a process from its grants, a job in SQL."""

    async def hold(
        self, principal: Principal, amount_nanousd: int | None, *, deadline: Deadline
    ) -> Hold | None:
        """Hold the amount in all budgets around the key's calls, or in none.

        None when no budget is around them. An amount of None is not known and holds nothing.

        Raises:
            BudgetExceeded: the settled sum leaves no room, or the rest stays held by running
                calls too long. Nothing was held.
            StoreUnavailable: the database is away and nothing at hand covers it.
        """


class _Envelope:
    """The budgets around some calls, and of each the window of the moment."""

    __slots__ = ("ends_at", "grants", "refs", "rules", "warning")

    def __init__(self, rules: tuple[BudgetRule, ...]) -> None:
        self.rules = rules
        self.refs: tuple[BudgetRef, ...] = ()
        self.grants: tuple[Grant, ...] = ()
        self.warning: tuple[Grant, ...] = ()  # never held in: these only know what is settled
        self.ends_at = _LONG_AGO


class ProcessHolds:
    """Holds from the grants of this process; waits only when they do not cover a call."""

    def __init__(self, table: BudgetTable, trader: Trader, clock: Clock) -> None:
        self._trader = trader
        self._clock = clock
        self._of_keys = {key: _Envelope(rules) for key, rules in table.of_keys.items()}
        self._of_tenants = {tenant: _Envelope(rules) for tenant, rules in table.of_tenants.items()}

    async def hold(
        self, principal: Principal, amount_nanousd: int | None, *, deadline: Deadline
    ) -> Hold | None:
        """Hold the amount in all budgets around the key's calls; see `Holds`."""
        envelope = self._of_keys.get(principal.key_id)
        if envelope is None:
            envelope = self._of_tenants.get(principal.tenant_id)
            if envelope is None:
                return None
        now = self._clock.now()
        if now >= envelope.ends_at:
            self._turn_over(envelope, now)
        amount = amount_nanousd or 0
        trader, grants, refs = self._trader, envelope.grants, envelope.refs
        warning = envelope.warning
        for grant in grants:
            if grant.amount - grant.held - grant.spent < amount:
                await trader.wait(grants, amount, deadline)
                break
        else:
            for grant in grants:  # as in Grant.take, without its call
                grant.held += amount
                grant.calls += 1
                if grant.amount - grant.held - grant.spent < grant.low:
                    grant.low = 0
                    grant.wants = True
                    trader.wake()
        for grant in warning:
            if grant.settled + amount > grant.rule.limit_nanousd:
                BUDGET_REFUSED.labels("warn").inc()
        return Hold(refs, trader.owner, amount, grants, trader, rejects=bool(grants))

    def settled(self, charges: Sequence[Charge], standings: Standings) -> None:
        """Hear from the keeper that the charges are in SQL for good; never fails."""
        self._trader.settled(charges, standings)

    def _turn_over(self, envelope: _Envelope, now: datetime) -> None:
        """Move on to the windows of the moment; calls that run stay in theirs."""
        envelope.refs = tuple(rule.ref_at(now) for rule in envelope.rules)
        windows = [self._trader.grant(rule, now) for rule in envelope.rules]
        envelope.grants = tuple(grant for grant in windows if grant.rule.rejects)
        envelope.warning = tuple(grant for grant in windows if not grant.rule.rejects)
        envelope.ends_at = min(rule.period_at(now).ends_at for rule in envelope.rules)


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
    trading = asyncio.create_task(trader.run()) if table else None
    try:
        yield ProcessHolds(table, trader, clock)
    finally:
        if trading is not None:
            trading.cancel()
            with suppress(asyncio.CancelledError):
                await trading
            try:
                await trader.close()
            except StoreUnavailable as error:
                log.warning("budgets.left", why=error.message)
