"""Windows and budgets by a clock that the test moves: each is closed, begun and told once."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import sqlalchemy as sa

from scheduler.schedule import timetable
from shared.config.conduct import Alerts, Billing
from shared.config.model import Budget, Config, TenantConfig, UserTemplate
from shared.ids import new_id
from shared.ledger.budgets import BudgetTable
from shared.queue.tasks import DELIVERIES
from shared.store.budgets import settle
from shared.store.endpoints import EndpointRow, insert_endpoint
from shared.store.engine import open_store
from shared.store.keys import ensure_tenant
from shared.store.ledger import insert_ledger
from shared.store.windows import windows_of
from shared.telemetry.metrics import REGISTRY
from shared.webhooks.event import BUDGET_RESET, OPERATOR, WINDOW_CLOSED
from shared.webhooks.wording import wording
from tests.contract.store.makers import HOUR, StoppedClock, make_row
from tests.edge.scheduler.test_schedule import RecordingBell

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
START = datetime(2026, 3, 28, 12, 30, tzinfo=UTC)
SLACK = "https://hooks.slack.example/secret"


@pytest.fixture
def clock():
    stopped = StoppedClock()
    stopped.moment = START
    return stopped


@pytest.fixture
async def store(store_url, clock):
    opened = await open_store(store_url, clock=clock)
    async with opened.write() as tx:
        for tenant_id in ("acme", "other", OPERATOR):
            await ensure_tenant(tx, tenant_id, "sealed", START)
    yield opened
    await asyncio.shield(opened.close())


class Schedulers:
    """Two of them, which run each tick at once, past the lease."""

    def __init__(self, store, clock, config) -> None:
        self.store = store
        self.clock = clock
        self.tables = [{row.id: row.task for row in timetable(config)} for _ in range(2)]
        self.bell = RecordingBell()

    async def tick(self, id_: str, moment: datetime | None = None) -> int:
        self.clock.moment = moment or self.clock.moment
        done = await asyncio.gather(
            *(table[id_](self.store, self.bell, new_id) for table in self.tables)
        )
        return sum(done)

    async def listen(self, event_type: str, *tenants: str) -> None:
        async with self.store.write() as tx:
            for tenant_id in tenants:
                endpoint = EndpointRow(
                    id=new_id("whe"), tenant_id=tenant_id, name="", url=f"https://{tenant_id}/",
                    event_types=(event_type,), secret="s", concurrency=1, created_at=START,
                )  # fmt: skip
                await insert_endpoint(tx, endpoint)

    async def spend(self, *rows) -> None:
        async with self.store.write() as tx:
            await insert_ledger(tx, rows)

    async def told(self) -> list[tuple[str, dict]]:
        """Return URL and data of each delivery, in the order of their bodies."""
        async with self.store.read() as tx:
            rows = await tx.connection.execute(
                sa.text(
                    "SELECT d.url, e.body FROM delivery d JOIN webhook_event e ON e.id = d.event_id"
                )
            )
            found = [(row.url, msgspec.json.decode(bytes(row.body))["data"]) for row in rows]
        return sorted(found, key=lambda one: (one[0], one[1]["id"]))


@pytest.fixture
def schedulers(store, clock):
    return lambda config=Config(): Schedulers(store, clock, config)  # noqa: B008 (frozen)


def shown(name, **labels):
    return REGISTRY.get_sample_value(name, labels)


# Spend windows


async def test_a_closed_day_is_told_once_to_its_tenant_and_to_the_operator(schedulers):
    two = schedulers(Config(billing=Billing(timezone="Europe/Berlin")))
    await two.listen(WINDOW_CLOSED, "acme", OPERATOR)
    await two.spend(
        make_row("a", ended_at=START), make_row("b", tenant_id="other", ended_at=START + HOUR)
    )
    for n in range(16):  # also the night in which the clocks are put forward
        await two.tick("close_windows", START + n * HOUR)

    acme, *operator = await two.told()
    assert [{"https://acme/"}, {"https://operator/"}] == [
        {url for url, _ in ones} for ones in ([acme], operator)
    ]
    day = {
        "id": "acme/day/2026-03-27T23:00:00Z/0", "tenant_id": "acme", "window": "day",
        "timezone": "Europe/Berlin", "starts_at": 1774652400, "ends_at": 1774652400 + 86400,
        "sequence": 0, "correction": False, "requests": 1, "attempts": 1, "input_tokens": 10,
        "output_tokens": 2, "cache_read_tokens": 0, "reasoning_tokens": 0, "cost_usd": 0.000001,
        "unpriced_attempts": 0, "estimated_attempts": 0,
    }  # fmt: skip
    other = {**day, "id": "other/day/2026-03-27T23:00:00Z/0", "tenant_id": "other"}
    assert [day, day, other] == [acme[1], *(data for _, data in operator)]
    assert DELIVERIES in two.bell.rung


async def test_a_correction_is_told_under_a_name_of_its_own(schedulers, clock):
    two = schedulers(Config(billing=Billing(tell=("hour", "month"))))
    await two.listen(WINDOW_CLOSED, "acme")
    await two.spend(make_row("a", ended_at=START))
    await two.tick("close_windows", START + 10 * DAY)
    await two.spend(make_row("late", ended_at=START, cost_nanousd=5))
    for n in range(3):
        await two.tick("close_windows", START + 10 * DAY + n * MINUTE)

    assert [
        ("acme/hour/2026-03-28T12:00:00Z/0", 0.000001),
        ("acme/hour/2026-03-28T12:00:00Z/1", 0.000000005),
        ("acme/month/2026-03-01T00:00:00Z/0", 0.000001),
        ("acme/month/2026-03-01T00:00:00Z/1", 0.000000005),
    ] == [(data["id"], data["cost_usd"]) for _, data in await two.told()]


async def test_after_three_hours_without_a_scheduler_each_hour_is_told_once(schedulers):
    two = schedulers(Config(billing=Billing(tell=("hour",))))
    await two.listen(WINDOW_CLOSED, "acme")
    for n in range(5):
        await two.spend(make_row(f"a{n}", ended_at=START + n * HOUR))
    await two.tick("close_windows", START + HOUR)
    for n in range(3):
        await two.tick("close_windows", START + 4 * HOUR + n * MINUTE)

    hours = [data["starts_at"] for _, data in await two.told()]
    first = int(START.replace(minute=0).timestamp())
    assert [first + n * 3600 for n in range(4)] == sorted(hours)


async def test_tenants_of_the_file_may_have_a_zone_of_their_own(schedulers, store):
    two = schedulers(Config(tenants=(TenantConfig(id="acme", timezone="Asia/Tokyo"),)))
    await two.spend(make_row("a", ended_at=START), make_row("b", tenant_id="other", ended_at=START))
    await two.tick("close_windows", START + 3 * HOUR)

    async with store.read() as tx:
        days = [
            await windows_of(tx, f"tenant:{name}", START - DAY, START + DAY, "day")
            for name in ("acme", "other")
        ]
    assert [["Asia/Tokyo"], []] == [[row.timezone for row in found] for found in days]


# Budgets


def budgets(*windows: str, timezone="UTC") -> tuple[Budget, ...]:
    return tuple(Budget(window=one, limit_usd="0.000001", timezone=timezone) for one in windows)


async def used(two, budget_id, config, amount=600, moment=START):
    rule = BudgetTable(config).rule(budget_id)
    async with two.store.write() as tx:
        await settle(tx, {(None, rule.ref_at(moment)): amount})


async def test_a_budget_that_begins_anew_is_told_once(schedulers):
    """The day that loses an hour in Berlin is told when it is midnight there."""
    config = Config(
        tenants=(TenantConfig(id="acme", budgets=budgets("day", timezone="Europe/Berlin")),)
    )
    two = schedulers(config)
    await two.listen(BUDGET_RESET, "acme")
    await two.tick("tell_resets")
    await used(two, "tenant:acme/day", config)
    moment = START.replace(hour=22, minute=50)
    for _ in range(4):
        await two.tick("tell_resets", moment)
        assert 0 == len(await two.told())
        moment += 2 * MINUTE

    assert 1 == await two.tick("tell_resets", START.replace(hour=23, minute=0))
    assert 0 == await two.tick("tell_resets", START.replace(hour=23, minute=0) + 10 * MINUTE)

    [(url, data)] = await two.told()
    assert "https://acme/" == url
    assert {
        "id": "tenant:acme/day", "tenant_id": "acme", "window": "day", "starts_at": 1774738800,
        "resets_at": 1774738800 + 23 * 3600, "action": "reject", "limit_usd": 0.000001,
        "last_spent_usd": 0.0000006,
    } == data  # fmt: skip
    assert {DELIVERIES} == set(two.bell.rung)


async def test_after_a_stop_what_has_begun_anew_is_told_and_quiet_budgets_are_not(schedulers):
    config = Config(
        tenants=(
            TenantConfig(
                id="acme",
                budgets=budgets("hour", "day", "month"),
                users=UserTemplate(budgets=budgets("day")),
            ),
        )
    )
    two = schedulers(config)
    await two.listen(BUDGET_RESET, "acme")
    await two.tick("tell_resets")
    for name in ("tenant:acme/hour", "tenant:acme/month", "user:acme/bob/day"):
        await used(two, name, config)
    await used(two, "tenant:acme/hour", config, moment=START + 2 * HOUR)

    for n in range(3):
        await two.tick("tell_resets", START + DAY + n * MINUTE)

    hours = [1774702800, 1774710000]
    assert [("tenant:acme/hour", hours[0]), ("tenant:acme/hour", hours[1])] == sorted(
        (data["id"], data["starts_at"]) for _, data in (await two.told())[:2]
    )
    assert ["user:acme/bob/day"] == [data["id"] for _, data in (await two.told())[2:]]


async def test_the_operator_hears_of_budgets_that_had_refused(schedulers):
    """Slack learns that calls go again, and is spared the rest."""
    tenants = (TenantConfig(id="acme", budgets=budgets("day", "hour")),)
    config = Config(tenants=tenants, alerts=Alerts(slack_url=SLACK))
    two = schedulers(config)
    await two.tick("tell_resets")
    await used(two, "tenant:acme/day", config, 1_000)
    await used(two, "tenant:acme/hour", config, 10)
    await two.tick("tell_budgets")

    assert 2 == await two.tick("tell_resets", START + DAY)

    async with two.store.read() as tx:
        bodies = await tx.connection.scalars(
            sa.text("SELECT body FROM webhook_event WHERE type = 'budget.reset'")
        )
        [headline] = [wording(bytes(body)).headline for body in bodies]
    assert headline.startswith("Budget tenant:acme/day has begun anew: $0.000001 until 2026-03-30")


# Comparing and forgetting


async def test_the_books_are_compared_once_an_hour(schedulers, store):
    two = schedulers()
    await two.spend(make_row("a", ended_at=START))
    await two.tick("close_windows", START + HOUR)
    await two.tick("close_windows", START + 2 * HOUR)
    assert 0 == await two.tick("compare_books")
    assert 0 == shown("sluiceway_ledger_drift_nanousd", what="hour")
    async with store.write() as tx:
        await tx.connection.execute(sa.text("UPDATE spend_window SET cost_nanousd = 7"))

    assert 0 == await two.tick("compare_books", START + 2 * HOUR + 20 * MINUTE)
    assert 0 < await two.tick("compare_books", START + 3 * HOUR)
    assert 993 == shown("sluiceway_ledger_drift_nanousd", what="hour")
    assert 1 == shown("sluiceway_ledger_differences", what="hour")


async def test_old_windows_are_forgotten(schedulers, store):
    config = Config(billing=Billing(keep_days=62))
    two = schedulers(config)
    await two.spend(make_row("a", ended_at=START))
    for days in (1, 70):
        await two.tick("close_windows", START + days * DAY)

    assert 1 == await two.tick("prune_windows")
    assert 0 == await two.tick("prune_windows")
    async with store.read() as tx:
        assert [] == await windows_of(tx, "tenant:acme", START - DAY, START, "hour")
        assert 1 == len(await windows_of(tx, "tenant:acme", START - DAY, START, "day"))
