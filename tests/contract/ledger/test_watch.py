"""Alerts about budgets: each once, whoever sees it first, and never in the books' way."""

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from shared.config.conduct import Alerts
from shared.config.model import (
    Budget,
    BudgetMatch,
    Config,
    KeyConfig,
    MatchedBudget,
    TenantConfig,
    UserTemplate,
)
from shared.errors import StoreUnavailable
from shared.ids import new_id
from shared.ledger.budgets import BudgetTable
from shared.ledger.grants import Need, Stock, traded
from shared.ledger.spikes import spike_rule, tell_spikes
from shared.ledger.watch import BudgetWatch
from shared.store.budgets import settle, standing_of, trade
from shared.store.engine import open_store
from shared.store.ledger import insert_ledger
from shared.store.money_tables import spend_window
from shared.store.records import BudgetRef, EventRow
from shared.store.webhooks import NewDelivery, claim_deliveries, insert_event
from shared.webhooks.alerting import Teller, addresses
from shared.webhooks.event import OPERATOR
from tests.contract.store.makers import HOUR, START, StoppedClock, make_row

pytestmark = pytest.mark.anyio

USD = 1_000_000_000
DAY = BudgetRef(
    budget_id="tenant:acme/day", starts_at=START.replace(hour=0, minute=0, second=0, microsecond=0)
)
CONFIG = Config(
    tenants=(
        TenantConfig(
            id="acme",
            keys=(KeyConfig(name="ci", key="k1"),),
            budgets=(Budget(window="day", limit_usd="10"),),
            users=UserTemplate(budgets=(Budget(window="month", limit_usd="10"),)),
        ),
    ),
    budgets=(
        MatchedBudget(
            match=BudgetMatch(provider="openai"), window="day", limit_usd="10", thresholds=(80,)
        ),
    ),
)


@pytest.fixture
def clock():
    """Ten at night: a forecast says hardly more than what is spent."""
    stopped = StoppedClock()
    stopped.moment = START.replace(hour=23, minute=59)
    return stopped


@pytest.fixture
async def store(store_url, clock):
    opened = await open_store(store_url, clock=clock)
    yield opened
    await asyncio.shield(opened.close())


class Told:
    """What was told, and has been committed."""

    def __init__(self, store) -> None:
        self._store = store

    async def __call__(self, tx, alert, event_id, at) -> None:
        """Use the outbox itself: what is rolled back was not told."""
        await Teller(ids=new_id, urls=("alerts:webhook",))(tx, alert, event_id, at)

    async def events(self):
        async with self._store.write() as tx:
            rows = await claim_deliveries(tx, owner="test", lease_s=10**7, limit=100)
        return [json.loads(row.body) | {"tenant_id": row.tenant_id} for row in rows]

    async def take(self):
        """Return what was told since the last time."""
        facts = [event["data"] for event in await self.events()]
        return sorted((one["id"], one["basis"], one["threshold"]) for one in facts)


@pytest.fixture
def told(store):
    return Told(store)


def make_watch(told, clock) -> BudgetWatch:
    return BudgetWatch(BudgetTable(CONFIG).rule, told, clock, new_id)


@pytest.fixture
def watch(told, clock):
    return make_watch(told, clock)


async def spend(store, watch, cents, ref=DAY, owner="p1"):
    """Settle a cost, as books do."""
    async with store.write() as tx:
        standings = await settle(tx, {(owner, ref): cents * USD // 100})
        await watch.settled(tx, standings)


async def hold(store, cents, owner, ref=DAY):
    async with store.write() as tx:
        stocks = {ref: Stock(limit_nanousd=10 * USD)}
        needs = [Need(refs=(ref,), amount_nanousd=cents * USD // 100)]
        await trade(
            tx,
            owner=owner,
            refs=[ref],
            decide=lambda found: traded(stocks, found, needs),
            lifetime_s=60.0,
        )


def spent(*thresholds, ref=DAY):
    return sorted((ref.budget_id, "spent", threshold) for threshold in thresholds)


async def test_each_threshold_is_told_once(store, watch, told):
    await spend(store, watch, 499)
    assert [] == await told.take()

    await spend(store, watch, 1)
    assert spent(50) == await told.take()

    await spend(store, watch, 1)
    assert [] == await told.take()

    await spend(store, watch, 499)
    assert sorted([*spent(80, 100), (DAY.budget_id, "spent", 100)]) == await told.take()


async def test_what_is_told_says_how_it_stands(store, watch, told):
    await spend(store, watch, 812)

    [_, event] = sorted(await told.events(), key=lambda one: one["data"]["threshold"])

    assert ("budget.threshold_reached", "acme") == (event["type"], event["tenant_id"])
    assert {
        "id": "tenant:acme/day",
        "tenant_id": "acme",
        "window": "day",
        "starts_at": int(DAY.starts_at.timestamp()),
        "resets_at": int((DAY.starts_at + 24 * HOUR).timestamp()),
        "action": "reject",
        "limit_usd": 10,
        "spent_usd": 8.12,
        "held_usd": 0,
        "forecast_usd": pytest.approx(8.12, abs=0.02),
        "threshold": 80,
        "basis": "spent",
    } == event["data"]


async def test_many_processes_tell_each_threshold_once(store, told, clock):
    """Whoever settles, and the scheduler beside them."""
    draw = random.Random(7)
    watches = [make_watch(told, clock) for _ in range(4)]

    async def process(number):
        for _ in range(5):
            await spend(store, watches[number], draw.randint(40, 60), owner=f"p{number}")
            await make_watch(told, clock).sweep(store, CONFIG)

    await asyncio.gather(*(process(number) for number in range(4)))

    assert spent(50, 80) == [
        one for one in await told.take() if one[1:] in {("spent", 50), ("spent", 80)}
    ]


async def test_what_was_rolled_back_is_told_later(store, watch, told):
    async def settled_and_failed():
        async with store.write() as tx:
            await watch.settled(tx, await settle(tx, {("p1", DAY): 6 * USD}))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await settled_and_failed()
    assert [] == await told.take()

    await spend(store, watch, 600)

    assert spent(50) == await told.take()


async def test_an_alert_that_breaks_does_not_stop_the_books(store, clock, told):
    async def broken(tx, alert, event_id, at):
        event = await _duplicate(tx)
        raise AssertionError(event)

    watch = make_watch(broken, clock)
    with capture_logs() as logs:  # the traceback in colours takes seconds
        await spend(store, watch, 600)

    assert ["alerts.failed"] == [one["event"] for one in logs]
    async with store.read() as tx:
        assert 6 * USD == (await standing_of(tx, DAY)).settled_nanousd
    await make_watch(told, clock).sweep(store, CONFIG)
    assert spent(50) == await told.take()


async def _duplicate(tx):
    """Break the transaction as a database does: a statement of it fails."""
    event = EventRow(id="evt_x", tenant_id="acme", type="x", created_at=START, body=b"{}")
    for _ in range(2):
        await insert_event(tx, event, [NewDelivery(id="dlv_x", url="x")], START)


async def test_money_that_jobs_hold_counts(store, watch, told):
    await hold(store, 300, "job:j1")
    await spend(store, watch, 200)

    assert spent(50) == await told.take()


async def test_money_that_processes_have_in_stock_does_not_count(store, watch, told):
    """Nobody has spent it, and no call holds it."""
    await hold(store, 300, "p2")
    await spend(store, watch, 200)
    await watch.sweep(store, CONFIG)

    assert [] == await told.take()


class Holder:
    def __init__(self, *held):
        self._held = held

    def held(self, ref):
        return sum(amount for one, _, amount in self._held if one == ref)

    def holding(self):
        return iter(self._held)


async def test_money_that_running_calls_hold_is_told_while_they_run(store, watch, told):
    await spend(store, watch, 200)
    watch.holding = Holder((DAY, 2 * USD, 3 * USD))

    await watch.turn(store)
    await watch.turn(store)

    assert spent(50) == await told.take()


async def test_the_first_refusal_is_told(store, watch, told):
    """A call too dear for what is left is refused long before all is spent."""
    rule = BudgetTable(CONFIG).rule(DAY.budget_id)
    assert rule is not None
    error = rule.exceeded(DAY.starts_at + 24 * HOUR)
    for _ in range(3):
        watch.refused(error)
        await watch.turn(store)
    watch.refused(error)
    await watch.turn(store)

    assert [(DAY.budget_id, "refused", 100)] == await told.take()


async def test_a_refusal_is_kept_while_the_database_is_away(store, watch, told):
    class Away:
        def write(self):
            raise StoreUnavailable("away")

    rule = BudgetTable(CONFIG).rule(DAY.budget_id)
    watch.refused(rule.exceeded(DAY.starts_at + 24 * HOUR))
    with pytest.raises(StoreUnavailable):
        await watch.turn(Away())

    await watch.turn(store)

    assert [(DAY.budget_id, "refused", 100)] == await told.take()


async def test_what_books_did_not_tell_the_scheduler_does(store, told, clock):
    """And two schedulers tell it once."""
    async with store.write() as tx:
        await settle(tx, {("p1", DAY): 6 * USD})

    await asyncio.gather(*(make_watch(told, clock).sweep(store, CONFIG) for _ in range(3)))

    assert spent(50) == await told.take()


@pytest.mark.parametrize(("hours", "expected"), [(3, spent(50)), (12, [])])
async def test_a_scheduler_that_was_away_catches_up(store, told, clock, hours, expected):
    """A window that ended hours ago is looked at still, one of yesterday is not."""
    async with store.write() as tx:
        await settle(tx, {("p1", DAY): 6 * USD})
    clock.forward(hours * 3600)

    await make_watch(told, clock).sweep(store, CONFIG)
    await make_watch(told, clock).sweep(store, CONFIG)

    assert expected == await told.take()


BERLIN = Config(
    tenants=(
        TenantConfig(
            id="acme",
            budgets=(
                Budget(window="hour", limit_usd="10"),
                Budget(window="day", limit_usd="100", timezone="Europe/Berlin"),
            ),
        ),
    ),
)


@pytest.mark.parametrize(
    "day", [datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)]
)
async def test_over_the_ends_of_hours_days_and_clocks_each_is_told_once(store, told, clock, day):
    """Two days around a change of the clocks, and two schedulers that are away for three hours.

    Half of what is spent comes into SQL without a word.
    """
    clock.moment = day + timedelta(minutes=20)
    table = BudgetTable(BERLIN)
    rules = [one.rule for one in table.bindings]
    watch = BudgetWatch(table.rule, told, clock, new_id)
    sums: dict[BudgetRef, int] = {}
    seen = []
    for step in range(48):
        cost = (step % 9 + 1) * USD
        refs = [rule.ref_at(clock.moment) for rule in rules]
        async with store.write() as tx:
            standings = await settle(tx, {("p1", ref): cost for ref in refs})
            if step % 2:
                await watch.settled(tx, standings)
        for ref in refs:
            sums[ref] = sums.get(ref, 0) + cost
        if step % 12 not in {5, 6, 7}:
            sweeps = [BudgetWatch(table.rule, told, clock, new_id) for _ in range(2)]
            await asyncio.gather(*(one.sweep(store, BERLIN) for one in sweeps))
        seen += [one["data"] for one in await told.events()]
        clock.forward(3600)

    found = sorted(
        (one["id"], one["starts_at"], one["threshold"]) for one in seen if one["basis"] == "spent"
    )
    limits = {rule.budget_id: rule.limit_nanousd for rule in rules}
    expected = [
        (ref.budget_id, int(ref.starts_at.timestamp()), threshold)
        for ref, cost in sums.items()
        for threshold in (50, 80, 100, 100)
        if cost * 100 >= limits[ref.budget_id] * threshold
    ]
    assert sorted(expected) == found
    assert {23, 24, 25} & {(one["resets_at"] - one["starts_at"]) / 3600 for one in seen}


async def test_the_next_window_begins_anew(store, watch, told, clock):
    await spend(store, watch, 600)
    clock.forward(3600)
    await spend(
        store,
        watch,
        600,
        ref=BudgetRef(budget_id=DAY.budget_id, starts_at=DAY.starts_at + 24 * HOUR),
    )

    assert spent(50, 50) == await told.take()


async def test_a_forecast_is_told_ahead(store, watch, told, clock):
    clock.moment = DAY.starts_at + 6 * HOUR
    await spend(store, watch, 210)
    assert [(DAY.budget_id, "forecast", 50), (DAY.budget_id, "forecast", 80)] == await told.take()

    await spend(store, watch, 300)

    assert {("forecast", 100), ("spent", 50)} == {one[1:] for one in await told.take()}


async def test_a_raise_moves_the_thresholds(store, watch, told, clock):
    """While it lasts; what waits for it is looked at again, at most each second."""
    await raise_limit(store, 10, clock.moment + timedelta(seconds=30))
    await spend(store, watch, 600)
    await spend(store, watch, 10)
    assert [] == await told.take()

    clock.forward(31.0)
    await watch.turn(store)

    assert spent(50) == await told.take()


async def test_what_was_reached_is_forecast_no_more(store, watch, told, clock):
    """Also when it was raised since then, so that less of it is used."""
    clock.moment = DAY.starts_at + 12 * HOUR
    await spend(store, watch, 500)
    assert 3 == len(await told.take())
    await raise_limit(store, 20, clock.moment + HOUR)

    await spend(store, watch, 500)  # a third of the limit; two thirds by midnight

    assert [] == await told.take()


async def raise_limit(store, usd, expires_at):
    async with store.write() as tx:
        await tx.connection.execute(
            sa.text(
                "INSERT INTO budget_raise (id, budget_id, amount_nanousd, created_at, expires_at) "
                "VALUES ('r1', :budget, :amount, 0, :expires)"
            ),
            {
                "budget": DAY.budget_id,
                "amount": usd * USD,
                "expires": int(expires_at.timestamp() * 1e6),
            },
        )


@pytest.mark.parametrize(
    ("budget_id", "tenant_id"), [("user:acme/bob/month", "acme"), ("provider:openai/day", OPERATOR)]
)
async def test_every_kind_of_budget_is_watched(store, watch, told, clock, budget_id, tenant_id):
    rule = BudgetTable(CONFIG).rule(budget_id)
    await spend(store, watch, 850, ref=rule.ref_at(clock.now()))

    events = await told.events()

    assert {tenant_id} == {event["tenant_id"] for event in events}
    assert 80 in {event["data"]["threshold"] for event in events}


async def test_no_sql_without_news(store, watch):
    """The books ask nothing more than they did, as long as no threshold is near."""
    asked = []

    class Refusing:
        @property
        def connection(self):
            asked.append(1)
            raise AssertionError

    async with store.write() as tx:
        standings = await settle(tx, {("p1", DAY): USD})
    await watch.settled(Refusing(), standings)

    assert [] == asked


# Spikes


async def spend_at(store, moment, cents, tenant_id="acme"):
    async with store.write() as tx:
        row = make_row(
            new_id("att"), tenant_id=tenant_id, cost_nanousd=cents * USD // 100, ended_at=moment
        )
        await insert_ledger(tx, [row])


async def spike(store, told):
    return await tell_spikes(store, spike_rule(CONFIG), told, new_id)


@pytest.fixture
async def week(store, clock):
    """Twelve hours of two dollars each, in the days before."""
    clock.moment = START
    known = {"scope": "tenant:acme", "window": "hour", "sequence": 0, "cost_nanousd": 2 * USD}
    begins = START.replace(minute=0, second=0, microsecond=0) - timedelta(days=2)
    others = {
        column.name: 0 if isinstance(column.type, sa.Integer) else begins
        for column in spend_window.columns
        if column.name != "timezone"
    }
    rows = [
        {**others, "timezone": "UTC", **known, "starts_at": begins + number * HOUR}
        for number in range(12)
    ]
    async with store.write() as tx:
        await tx.connection.execute(sa.insert(spend_window), rows)


async def test_a_spike_is_told_once_a_day(store, told, clock, week):
    await spend_at(store, START, 601)

    counts = await asyncio.gather(*(spike(store, told) for _ in range(3)))
    clock.forward(3600)
    await spend_at(store, clock.moment, 900)
    again = await spike(store, told)

    [event] = await told.events()
    assert (1, 0) == (sum(counts), again)
    assert ("budget.spend_spike", "acme", "tenant:acme") == (
        event["type"],
        event["tenant_id"],
        event["data"]["id"],
    )
    assert (6.01, 2, 3.0) == tuple(
        event["data"][name] for name in ("spent_usd", "usual_usd", "factor")
    )


@pytest.mark.parametrize(("cents", "tenant_id"), [(600, "acme"), (90, "acme"), (5000, "newcomer")])
async def test_what_is_usual_little_or_new_is_no_spike(store, told, week, cents, tenant_id):
    await spend_at(store, START, cents, tenant_id)

    assert 0 == await spike(store, told)


def test_every_place_of_the_config_has_an_address():
    alerts = Alerts(
        webhook="https://a", slack_url="https://b", smtp="smtp://c", sns_topic_arn="arn:"
    )

    assert ("alerts:webhook", "alerts:slack", "alerts:mail", "alerts:sns") == addresses(alerts)
    assert () == addresses(Alerts())
