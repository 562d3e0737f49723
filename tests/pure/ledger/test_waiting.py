"""Calls that wait for money, while the windows turn."""

import asyncio
from datetime import datetime, timedelta

import pytest

from shared.clock import Deadline, SystemClock
from shared.config.model import Budget, Config, KeyConfig, TenantConfig
from shared.crowd import NEXT_TURN
from shared.identity import Principal, file_key_id
from shared.ledger.binding import NOTHING_ASKED
from shared.ledger.budgets import BudgetTable
from shared.ledger.holds import ProcessHolds
from shared.ledger.trader import Trader

pytestmark = pytest.mark.anyio

KEY = Principal(tenant_id="acme", key_id=file_key_id("acme", "ci"), key_name="ci")
MONTH = Budget(window="month", limit_usd="1000")
TENANT = TenantConfig(id="acme", keys=(KeyConfig(name="ci", key="ci"),), budgets=(MONTH,))


class LateClock(SystemClock):
    """The system's, and so many days later."""

    days = 0

    def now(self) -> datetime:
        return super().now() + timedelta(days=self.days)

    def wall_s(self) -> float:
        return self.now().timestamp()


async def begun() -> None:
    """Return when a hold that was asked for just now has stopped for others, and goes on."""
    for _ in range(2):
        await NEXT_TURN


async def test_a_call_that_waits_stays_in_the_windows_of_its_start():
    """It holds, and gives back, the money of the grants that have given it."""
    clock, table = LateClock(), BudgetTable(Config(tenants=(TENANT,)))
    trader = Trader(None, clock, owner="api", lifetime_s=60.0)  # type: ignore[arg-type]
    holds = ProcessHolds(table, trader, clock)
    [rule] = table.around(KEY).bound(NOTHING_ASKED).rules
    grant = trader.grant(rule, clock.now())
    grant.amount = 10

    def held(amount: int) -> asyncio.Task[object]:
        deadline = Deadline.after(9.0, clock)
        return asyncio.create_task(holds.hold(KEY, amount, deadline=deadline))

    first = await held(8)
    waiting = held(5)
    await begun()
    clock.days = 40
    later = held(1)  # moves on, and waits: nothing was granted there
    await begun()
    first.release()
    trader._serve(0.0)
    second = await waiting

    assert (grant,) == second.grants
    assert [grant.ref] == [*second.refs]
    assert 5 == grant.held
    second.release()
    assert 0 == grant.held
    later.cancel()
