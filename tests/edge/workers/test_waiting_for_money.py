"""Jobs that wait for their budget, from the claim to the answer: real gateway, stopped clock."""

from datetime import timedelta

import msgspec
import pytest

from shared.config.kinds import KindNeeds
from shared.config.load import load_config
from shared.errors import NotFound
from shared.gateway.admission import Admission
from shared.gateway.catalog import Catalog
from shared.gateway.runner import Kit
from shared.gateway.service import Gateway
from shared.health.book import HealthBook
from shared.ids import new_id
from shared.jobs.expire import expire_waiting
from shared.jobs.holds import job_holds
from shared.jobs.lease import Interrupt
from shared.jobs.object import job_object
from shared.jobs.raising import Raise, raise_budget, raises_of, unraise_budget
from shared.jobs.run import Ran, run_job
from shared.ledger.budgets import BudgetTable
from shared.limits.local import LocalLimiter
from shared.limits.scopes import ScopeBook
from shared.providers.mock import MockTransport
from shared.store.budgets import standing_of
from shared.store.claims import claim
from shared.store.engine import open_store
from shared.store.jobs import insert_job
from shared.store.records import JobRow
from tests.contract.store.makers import START, StoppedClock, make_job
from tests.edge.workers.makers import CLASSES, PRINCIPAL, RecordingBell, make_desk, read_job
from workers.calls import GatewayCall

pytestmark = pytest.mark.anyio

TEXT = """
providers: {mock: {kind: mock}}
routes:
- {model: mock, targets: [{provider: mock, model: x}], hold_output_tokens: 100,
   price: {input_per_mtok: 0, output_per_mtok: 0, per_request_usd: 1}}
tenants:
- {id: acme, budgets: [{window: hour, limit_usd: "1.5"}]}
budgets: [{match: {key: made}, window: day, limit_usd: 20}]
"""
BODY = b'{"model":"mock","max_tokens":5,"messages":[{"role":"user","content":"Hello"}]}'
CONFIG = load_config(TEXT, {}, {"mock": KindNeeds()}).config
HOUR_S = 3600.0
TURNS_AT = START.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
TO_TURN_S = (TURNS_AT - START).total_seconds()


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture
async def store(store_url, clock):
    opened = await open_store(store_url, clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
def desk(store, tenant, clock):
    """A desk whose calls go through a gateway to the mock, at a dollar each."""
    kit = Kit(
        catalog=Catalog(CONFIG, clock.now()),
        transport=MockTransport(clock),
        clock=clock,
        ids=new_id,
        admission=Admission(LocalLimiter(clock), ScopeBook(CONFIG), clock, new_id),
        health=HealthBook(clock),
    )
    return make_desk(
        store=store,
        bell=RecordingBell(),
        clock=clock,
        draw=lambda: 0.5,
        call=GatewayCall(Gateway(kit, lambda: 0.0), store, CONFIG),
        holds=job_holds(store, CONFIG, clock),
    )


async def submitted(desk, *, on_budget="wait", left_s=2 * HOUR_S) -> str:
    own_id, deadline = new_id("job"), desk.clock.now() + timedelta(seconds=left_s)
    job = make_job(own_id, body=BODY, on_budget=on_budget, deadline=deadline)
    async with desk.store.write() as tx:
        await insert_job(tx, job, desk.clock.now())
    return own_id


async def ran(desk) -> tuple[Ran, JobRow] | None:
    """Run the next job, if one is due; return what came of it."""
    async with desk.store.write() as tx:
        found = await claim(tx, owner="w1", lease_s=600.0, limit=1, classes=CLASSES)
    if not found:
        return None
    return await run_job(found[0], desk, Interrupt()), await read_job(desk, found[0].id)


async def spent_usd(desk) -> float:
    [rule, *_] = BudgetTable(CONFIG).of(PRINCIPAL)
    async with desk.store.read() as tx:
        return (await standing_of(tx, rule.ref_at(desk.clock.now()))).settled_nanousd / 1e9


async def test_a_job_waits_until_the_window_turns_and_then_runs(desk, clock):
    await submitted(desk)
    second = await submitted(desk)

    assert Ran.FINISHED == (await ran(desk))[0]
    outcome, waiting = await ran(desk)

    assert (Ran.RESCHEDULED, second) == (outcome, waiting.id)
    assert ("scheduled", "budget", 0) == (waiting.status, waiting.waits_for, waiting.attempts_spent)
    assert timedelta(0) <= waiting.not_before - TURNS_AT <= timedelta(seconds=5)
    assert await ran(desk) is None, "not before"
    clock.forward(TO_TURN_S + 5)
    outcome, done = await ran(desk)
    assert (Ran.FINISHED, "succeeded", 10**9) == (outcome, done.status, done.cost_nanousd)
    assert 1.0 == await spent_usd(desk), "in the new window"


async def test_its_job_object_says_what_it_waits_for(desk):
    await submitted(desk)
    await submitted(desk)
    await ran(desk)
    _, waiting = await ran(desk)

    shown = msgspec.to_builtins(job_object(waiting))

    assert ("scheduled", "budget", "wait") == (
        shown["status"], shown["waits_for"], shown["on_budget"],
    )  # fmt: skip


@pytest.mark.parametrize(("on_budget", "left_s"), [(None, 2 * HOUR_S), ("wait", TO_TURN_S - 60)])
async def test_a_job_that_cannot_wait_fails_clearly(desk, on_budget, left_s):
    await submitted(desk)
    await ran(desk)
    await submitted(desk, on_budget=on_budget, left_s=left_s)

    _, failed = await ran(desk)

    error = failed.error
    assert ("failed", "budget_exceeded") == (failed.status, error["code"])
    assert ("tenant:acme/hour", TURNS_AT.timestamp()) == (
        error["limit_source"], error["resets_at"],
    )  # fmt: skip


async def test_a_job_that_waited_too_long_says_for_what(desk, clock):
    await submitted(desk)
    await ran(desk)
    second = await submitted(desk, left_s=TO_TURN_S + 60)
    await ran(desk)
    clock.forward(TO_TURN_S + 61)

    assert 1 == await expire_waiting(desk.store, desk.bell, desk.ids)

    expired = await read_job(desk, second)
    assert "expired" == expired.status
    assert "budget" in expired.error["message"]


async def test_a_raise_lets_waiting_jobs_run_at_once(desk):
    table = BudgetTable(CONFIG)
    await submitted(desk)
    second = await submitted(desk)
    await ran(desk)
    await ran(desk)

    row = await raise_budget(
        desk.store, desk.bell, desk.ids, table, "tenant:acme/hour", Raise(amount_usd="0.5")
    )
    outcome, done = await ran(desk)

    assert TURNS_AT == row.expires_at, "the window's end"
    assert (Ran.FINISHED, second, "succeeded") == (outcome, done.id, done.status)
    assert 2.0 == await spent_usd(desk)
    assert "jobs:default" in desk.bell.rung
    assert [row] == await raises_of(desk.store, table, "tenant:acme/hour")
    await unraise_budget(desk.store, "tenant:acme/hour", row.id)
    with pytest.raises(NotFound):
        await unraise_budget(desk.store, "tenant:acme/hour", row.id)
    await submitted(desk)
    assert Ran.RESCHEDULED == (await ran(desk))[0]


async def test_a_raise_that_is_over_is_none(desk, clock):
    await submitted(desk, left_s=9 * HOUR_S)
    await ran(desk)
    raising = Raise(amount_usd="9", expires_at=START + timedelta(minutes=1))
    await raise_budget(
        desk.store, desk.bell, desk.ids, BudgetTable(CONFIG), "tenant:acme/hour", raising
    )
    clock.forward(60)
    await submitted(desk)

    assert Ran.RESCHEDULED == (await ran(desk))[0]
