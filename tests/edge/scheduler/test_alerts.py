"""The ticks that tell of money: what nobody told, once, and a ring for the couriers."""

import asyncio
from datetime import UTC, datetime

import pytest

from scheduler.schedule import SCHEDULE, timetable
from shared.config.conduct import Alerts
from shared.config.model import Budget, Config, TenantConfig
from shared.ids import new_id
from shared.ledger.budgets import BudgetTable
from shared.queue.tasks import DELIVERIES
from shared.store.budgets import settle
from shared.store.webhooks import due_deliveries
from tests.edge.scheduler.test_schedule import RecordingBell

pytestmark = pytest.mark.anyio

CONFIG = Config(
    tenants=(TenantConfig(id="acme", budgets=(Budget(window="month", limit_usd="0.000001"),)),),
    alerts=Alerts(webhook="https://ops.example.com"),
)


def task(id_, config=CONFIG):
    [found] = [row for row in timetable(config) if row.id == id_]
    return found.task


def test_what_needs_the_config_stands_in_the_timetable_too():
    rows = timetable(CONFIG)

    assert set(SCHEDULE) < set(rows)
    assert len(rows) == len({row.id for row in rows})
    assert all(row.task.__name__ == row.id for row in rows)


async def test_a_threshold_that_nobody_told_is_told_by_one_of_two_schedulers(store):
    rule = BudgetTable(CONFIG).rule("tenant:acme/month")
    async with store.write() as tx:
        await settle(tx, {("p1", rule.ref_at(datetime.now(UTC))): 600})
    bell = RecordingBell()

    told = await asyncio.gather(*(task("tell_budgets")(store, bell, new_id) for _ in range(2)))

    async with store.read() as tx:
        due = await due_deliveries(tx, await tx.now())
    assert 1 <= due == sum(told)
    assert {DELIVERIES} == set(bell.rung)
    assert 0 == await task("tell_budgets")(store, bell, new_id)


@pytest.mark.parametrize("id_", ["tell_budgets", "tell_spikes"])
async def test_without_budgets_and_spending_nothing_is_told(store, id_):
    bell = RecordingBell()

    assert 0 == await task(id_, Config())(store, bell, new_id)
    assert 0 == await task(id_, Config(alerts=Alerts(spike_factor=None)))(store, bell, new_id)
    assert [] == bell.rung
