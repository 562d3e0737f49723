"""Adjustments: a row beside the one it corrects, and every sum follows."""

import asyncio
from decimal import Decimal

import pytest
import sqlalchemy as sa

from shared.errors import Conflict, GatewayError, IdempotencyMismatch, InvalidRequest, NotFound
from shared.ids import new_id
from shared.ledger.adjust import ADJUSTED, Adjustment, account_of, adjust
from shared.ledger.settle import write_charges
from shared.ledger.verify import verify
from shared.ledger.windows import close_hours
from shared.store.budgets import standing_of
from shared.store.engine import open_store
from shared.store.jobs import insert_job
from shared.store.keys import ensure_tenant
from shared.store.ledger import usage_totals
from shared.store.windows import windows_of
from tests.contract.ledger.test_verify import CONFIG, COST, DAY, make_charge
from tests.contract.store.makers import HOUR, START, StoppedClock, make_job


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
async def store(store_url: str, clock: StoppedClock):
    """One call of 2 USD, in an hour that is closed."""
    opened = await open_store(store_url, clock=clock)
    async with opened.write() as tx:
        await write_charges(tx, [make_charge("att_1")])
    await closed(opened, clock)
    yield opened
    await asyncio.shield(opened.close())


async def closed(store, clock) -> None:
    clock.forward(3600)
    async with store.write() as tx:
        await close_hours(tx, clock.now())


async def ask(store, usd: str, *, attempt_id="att_1", reason="billed twice", key=None):
    asked = Adjustment(attempt_id=attempt_id, cost_usd=Decimal(usd), reason=reason)
    return await adjust(store, new_id, asked, key=key)


async def test_all_sums_follow_and_the_first_row_stays(store, clock):
    """The budget at once, the hour as what came late; the rest of the row is the call's."""
    account, row = await ask(store, "-0.5")
    await closed(store, clock)

    assert COST * 3 // 4 == account.net_nanousd
    assert (ADJUSTED, "att_1", "billed twice") == (row.outcome, row.adjusts, row.reason)
    assert account == await account_of(store, "att_1")
    assert COST == account.row.cost_nanousd
    async with store.read() as tx:
        standing = await standing_of(tx, DAY)
        windows = await windows_of(tx, "tenant:acme", START - HOUR, START + HOUR)
        totals = await usage_totals(tx, "acme", START - HOUR, START + HOUR)
    assert COST * 3 // 4 == standing.settled_nanousd == totals.cost_nanousd
    assert [(0, COST, 1, 1), (1, -COST // 4, 0, 0)] == [
        (one.sequence, one.cost_nanousd, one.attempts, one.requests) for one in windows
    ]
    assert (1, 1) == (totals.attempts, totals.requests)
    assert () == (await verify(store, CONFIG)).faults


async def test_a_job_costs_what_its_calls_cost_now(store):
    async with store.write() as tx:
        await ensure_tenant(tx, "acme", "sealed", START)
        await insert_job(tx, make_job(), START)
        await write_charges(tx, [make_charge("att_2", job_id="job_1")])
        done = f"UPDATE job SET status = 'succeeded', cost_nanousd = {COST}"
        await tx.connection.execute(sa.text(done))

    await ask(store, "1", attempt_id="att_2")

    async with store.read() as tx:
        cost = await tx.connection.scalar(sa.text("SELECT cost_nanousd FROM job"))
    assert COST * 3 // 2 == cost


async def test_with_a_key_it_is_written_once(store):
    first = await ask(store, "0.25", key="invoice-7")
    assert first == await ask(store, "0.25", key="invoice-7")

    with pytest.raises(IdempotencyMismatch):
        await ask(store, "0.26", key="invoice-7")
    async with store.write() as tx:
        await write_charges(tx, [make_charge("att_2")])
    with pytest.raises(IdempotencyMismatch):
        await ask(store, "0.25", attempt_id="att_2", key="invoice-7")


async def test_adjustments_at_once_never_make_a_call_cost_less_than_nothing(store):
    async def take_back() -> bool:
        try:
            await ask(store, "-0.75")
        except Conflict:
            return False
        return True

    taken = await asyncio.gather(*(take_back() for _ in range(6)))

    assert 2 == sum(taken)
    assert COST // 4 == (await account_of(store, "att_1")).net_nanousd


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("usd", "changes", "expected"),
    [
        ("0", {}, InvalidRequest),
        ("NaN", {}, InvalidRequest),
        ("1e9", {}, InvalidRequest),
        ("0.0000000001", {}, InvalidRequest),
        ("1", {"reason": "  "}, InvalidRequest),
        ("1", {"attempt_id": "att_9"}, NotFound),
        ("-2.000000001", {}, Conflict),
    ],
)
async def test_what_makes_no_sense_is_refused(
    store, usd: str, changes: dict[str, str], expected: type[GatewayError]
):
    with pytest.raises(expected):
        await ask(store, usd, **changes)
    assert () == (await account_of(store, "att_1")).corrections


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_an_adjustment_is_not_adjusted(store):
    _, row = await ask(store, "1")

    with pytest.raises(Conflict, match="att_1"):
        await ask(store, "1", attempt_id=row.attempt_id)
