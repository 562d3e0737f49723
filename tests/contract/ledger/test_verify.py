"""`ledger verify`: books that agree pass, and every planted fault is found and named."""

import asyncio
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from shared.chat.usage import Usage
from shared.config.model import Budget, Config, TenantConfig
from shared.config.price import Price
from shared.ledger.books import Charge, Opening, Outcome, lost
from shared.ledger.cost import cost_of
from shared.ledger.given import from_config
from shared.ledger.keeper import REFUSED
from shared.ledger.settle import write_charges
from shared.ledger.verify import verify
from shared.ledger.windows import close_hours
from shared.store.adjustments import insert_correction, rows_of
from shared.store.batches import NewBatch, insert_batch
from shared.store.budgets import trade
from shared.store.engine import open_store
from shared.store.groups import insert_attempts
from shared.store.jobs import insert_job
from shared.store.keys import ensure_tenant, insert_key
from shared.store.records import BudgetRef
from tests.contract.store.makers import (
    HOUR,
    SECOND,
    START,
    StoppedClock,
    make_attempt,
    make_job,
    make_key,
)

PRICE = from_config(Price(input_per_mtok="1", output_per_mtok="2"))
USED = Usage(input_tokens=1_000_000, output_tokens=500_000)
COST = 2_000_000_000
DAY = BudgetRef(
    budget_id="tenant:acme/day", starts_at=START.replace(hour=0, minute=0, second=0, microsecond=0)
)
CONFIG = Config(
    tenants=(TenantConfig(id="acme", budgets=(Budget(window="day", limit_usd="100"),)),)
)


def make_opening(attempt_id: str, **values: object) -> Opening:
    known = {
        "request_id": f"req_of_{attempt_id}",
        "number": 1,
        "tenant_id": "acme",
        "key_id": "key_1",
        "endpoint": "/v1/chat/completions",
        "route": "m",
        "provider": "p",
        "model": "pm",
        "started_at": START - SECOND,
        "estimate_nanousd": 3 * COST,
        "price_source": PRICE.source,
        "price_version": PRICE.version,
        "budgets": (DAY,),
    }
    return Opening(attempt_id=attempt_id, **{**known, **values})


def make_charge(attempt_id: str, usage: Usage = USED, **values: object) -> Charge:
    return Charge(
        opening=make_opening(attempt_id, **values),
        outcome=Outcome.SUCCEEDED,
        usage=usage,
        cost_nanousd=cost_of(usage, PRICE),
        ended_at=START,
    )


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
async def books(store_url: str, clock: StoppedClock):
    """Books that agree: calls and lost calls, a job, a batch of one line, a grant, closed hours."""
    store = await open_store(store_url, clock=clock)
    async with store.write() as tx:
        await ensure_tenant(tx, "acme", "sealed", START)
        await insert_key(tx, make_key())
        for name, batch_id in (("job_1", None), ("job_2", "batch_1")):
            if batch_id is not None:
                await insert_batch(tx, make_batch(batch_id), START)
            await insert_job(tx, make_job(name, batch_id=batch_id, line_no=1), START)
            await insert_attempts(tx, [make_attempt(f"att_{name}", job_id=name)])
            charge = make_charge(f"att_{name}", job_id=name, batch_id=batch_id)
            await write_charges(tx, [charge])
        await run(tx, f"UPDATE job SET status = 'succeeded', cost_nanousd = {COST}")
        await run(tx, f"UPDATE batch SET status = 'completed', cost_nanousd = {COST}")
        await run(tx, "UPDATE attempt SET outcome = 'succeeded', duration_ms = 5")
        await trade(tx, owner="api:1", refs=[DAY], decide=lambda _: {DAY: 50}, lifetime_s=1e5)
        gone = lost(make_opening("att_lost"), START)
        await write_charges(tx, [make_charge("att_1"), make_charge("att_2"), gone])
        (row,) = await rows_of(tx, "att_2")
        refund = msgspec.structs.replace(
            row, attempt_id="adj_1", adjusts="att_2", reason="asked twice", usage=Usage(),
            outcome="adjusted", cost_nanousd=-COST // 2, price_source=None,
        )  # fmt: skip
        await insert_correction(tx, refund)
    clock.forward(4 * 3600)
    async with store.write() as tx:
        await close_hours(tx, clock.now())
    yield store
    await asyncio.shield(store.close())


def make_batch(id_: str) -> NewBatch:
    return NewBatch(
        id=id_, tenant_id="acme", key_id="key_1", request_id="req_b",
        endpoint="/v1/chat/completions", input_file_id="file_1", completion_window="24h",
        expires_at=START + HOUR,
    )  # fmt: skip


async def run(tx, *statements: str) -> None:
    for statement in statements:
        await tx.connection.execute(sa.text(statement))


async def found_in(store, folder: Path, config: Config = CONFIG, since=None):
    return await verify(store, config, since=since, priced=lambda *_named: PRICE, spool_dir=folder)


def kinds(report) -> set[str]:
    return {fault.kind for fault in report.faults}


NOON = int(START.timestamp()) // 3600 * 3600 * 1_000_000
LATER = NOON + 100_000_000_000
ALERT = f"('tenant:x/day', {NOON}, 'spent', 50, 'evt_1', {NOON})"
PLANTED = {
    "a job's call that is not in the ledger": (
        "DELETE FROM ledger WHERE attempt_id = 'att_job_1'",
        {"row_missing", "job_cost_off", "job_calls_off", "window_off", "settled_off"},
    ),
    "a call of the API that is not in the ledger any more": (
        "DELETE FROM ledger WHERE attempt_id = 'att_1'",
        {"window_off", "settled_off"},
    ),
    "a row that no call was made for": (
        "DELETE FROM attempt WHERE id = 'att_job_1'",
        {"row_unmade"},
    ),
    "a call that ended otherwise": (
        "UPDATE attempt SET outcome = 'failed' WHERE id = 'att_job_1'",
        {"outcome_off"},
    ),
    "a job that cost something else": (
        "UPDATE job SET cost_nanousd = 5 WHERE id = 'job_1'",
        {"job_cost_off"},
    ),
    "a job whose cost was forgotten": (
        "UPDATE job SET cost_nanousd = NULL WHERE id = 'job_1'",
        {"job_cost_off"},
    ),
    "a job that was paid twice": (
        "UPDATE ledger SET job_id = 'job_1' WHERE attempt_id = 'att_1'",
        {"row_unmade", "job_cost_off", "job_calls_off"},
    ),
    "a batch that cost something else": (
        "UPDATE batch SET cost_nanousd = cost_nanousd - 1",
        {"batch_cost_off"},
    ),
    "an edited cost": (
        "UPDATE ledger SET cost_nanousd = cost_nanousd + 1 WHERE attempt_id = 'att_1'",
        {"cost_off", "window_off", "settled_off"},
    ),
    "edited counts": (
        "UPDATE ledger SET output_tokens = 499999 WHERE attempt_id = 'att_1'",
        {"cost_off", "window_off"},
    ),
    "a cost below zero": (
        "UPDATE ledger SET cost_nanousd = -5 WHERE attempt_id = 'att_lost'",
        {"row_impossible", "window_off", "settled_off"},
    ),
    "a call with a price and no cost": (
        "UPDATE ledger SET cost_nanousd = NULL WHERE attempt_id = 'att_lost'",
        {"row_impossible", "window_off", "settled_off"},
    ),
    "a cost without a price": (
        "UPDATE ledger SET price_source = NULL WHERE attempt_id = 'att_1'",
        {"row_impossible"},
    ),
    "an end that no call has": (
        "UPDATE ledger SET outcome = 'paid' WHERE attempt_id = 'att_1'",
        {"row_impossible"},
    ),
    "a job's call with another tenant": (
        "UPDATE ledger SET tenant_id = 'other' WHERE attempt_id = 'att_job_1'",
        {"row_moved", "window_off"},
    ),
    "a call with a tenant that its key is not of": (
        "UPDATE ledger SET tenant_id = 'other', key_id = 'key_1' WHERE attempt_id = 'att_2'",
        {"row_moved", "window_off", "adjustment_off"},
    ),
    "a call with a tenant that its key in the file is not of": (
        "UPDATE ledger SET key_id = 'file:other/ci' WHERE attempt_id = 'att_1'",
        {"row_moved"},
    ),
    "a length below zero": (
        "UPDATE ledger SET duration_ms = -1 WHERE attempt_id = 'att_1'",
        {"row_impossible"},
    ),
    "a price by the provider below zero": (
        "UPDATE ledger SET reported_nanousd = -1 WHERE attempt_id = 'att_lost'",
        {"row_impossible"},
    ),
    "budgets that are cut off": (
        """UPDATE ledger SET budgets = '[{"budget_id": "tena' WHERE attempt_id = 'att_1'""",
        {"row_unreadable", "settled_off"},
    ),
    "budgets that are none": (
        "UPDATE ledger SET budgets = '7' WHERE attempt_id = 'att_1'",
        {"row_unreadable", "settled_off"},
    ),
    "tags that are none": (
        "UPDATE ledger SET tags = '' WHERE attempt_id = 'att_1'",
        {"row_unreadable"},
    ),
    "tags of an adjustment that are none": (
        "UPDATE ledger SET tags = '[1]' WHERE attempt_id = 'adj_1'",
        {"row_unreadable"},
    ),
    "a lost call without its flag": (
        "UPDATE ledger SET estimated = FALSE WHERE attempt_id = 'att_lost'",
        {"row_impossible", "window_off"},
    ),
    "a window of spending that says less": (
        "UPDATE spend_window SET cost_nanousd = cost_nanousd - 1",
        {"window_off"},
    ),
    "an hour that is missing among the closed": ("DELETE FROM spend_window", {"window_off"}),
    "a part of an hour that is missing": (
        "UPDATE spend_window SET sequence = 3",
        {"window_gap"},
    ),
    "hours that nobody closes": (
        f"UPDATE window_mark SET closed_until = {NOON}, checked_at = {NOON}",
        {"closing_late"},
    ),
    "a budget that has settled less": (
        "UPDATE budget_window SET settled_nanousd = settled_nanousd - 1",
        {"settled_off"},
    ),
    "a budget whose window is gone": (
        "DELETE FROM budget_window",
        {"settled_off", "granted_off"},
    ),
    "more granted than there are grants": (
        "UPDATE budget_window SET granted_nanousd = 60",
        {"granted_off"},
    ),
    "a grant that nobody counts": (
        f"INSERT INTO budget_grant VALUES ('api:2', 'tenant:acme/day', {NOON}, 9, {LATER})",
        {"granted_off"},
    ),
    "money held for a job that is over": (
        "UPDATE budget_grant SET owner = 'job:job_1'",
        {"grant_orphan"},
    ),
    "a grant that nobody took back": (
        "UPDATE budget_grant SET expires_at = 5",
        {"grant_orphan"},
    ),
    "a grant below zero": (
        "UPDATE budget_grant SET amount_nanousd = -5",
        {"budget_negative", "granted_off"},
    ),
    "an adjustment of a call that is not there": (
        "UPDATE ledger SET adjusts = 'att_9' WHERE attempt_id = 'adj_1'",
        {"adjustment_off"},
    ),
    "an adjustment of another tenant's call": (
        "UPDATE ledger SET adjusts = 'att_x' WHERE attempt_id = 'adj_1'",
        {"adjustment_off"},
    ),
    "an adjustment by more than the call cost": (
        f"UPDATE ledger SET cost_nanousd = {-3 * COST} WHERE attempt_id = 'adj_1'",
        {"adjustment_off", "window_off", "settled_off"},
    ),
    "an alert about nothing": (
        f"INSERT INTO budget_alert VALUES {ALERT}",
        {"alert_unfounded"},
    ),
}


APART = (
    "an edited cost",
    "a cost below zero",
    "an adjustment of a call that is not there",
    "a job whose cost was forgotten",
    "a batch that cost something else",
    "a call that ended otherwise",
    "more granted than there are grants",
    "money held for a job that is over",
    "an alert about nothing",
    "a part of an hour that is missing",
)
"""Those that do not touch each other's rows."""


async def test_books_that_agree_have_no_fault(books, tmp_path):
    report = await found_in(books, tmp_path)

    assert [] == list(map(str, report.faults))
    assert 5 == report.rows


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("planted", PLANTED)
async def test_a_planted_fault_is_found_and_named(books, tmp_path, planted):
    statement, expected = PLANTED[planted]
    async with books.write() as tx:
        await run(tx, "PRAGMA defer_foreign_keys = ON", statement)

    assert expected == kinds(await found_in(books, tmp_path))


async def test_faults_are_found_beside_each_other_on_either_database(books, tmp_path):
    async with books.write() as tx:
        await run(tx, *(PLANTED[name][0] for name in APART))

    assert {kind for name in APART for kind in PLANTED[name][1]} == kinds(
        await found_in(books, tmp_path)
    )


async def test_what_was_spent_and_never_told_is_a_fault(books, clock, tmp_path):
    """But only once whoever tells has had its time."""
    dear = make_charge("att_dear", Usage(input_tokens=45_000_000))
    async with books.write() as tx:
        await write_charges(tx, [msgspec.structs.replace(dear, ended_at=clock.now())])
    at_once = await found_in(books, tmp_path)
    clock.forward(timedelta(minutes=11).total_seconds())

    assert set() == kinds(at_once)
    assert {"alert_missing"} == kinds(await found_in(books, tmp_path))


async def test_a_row_that_the_database_refused_is_a_fault(books, tmp_path):
    (tmp_path / REFUSED).write_bytes(msgspec.json.encode(make_charge("att_big")) + b"\n")

    (fault,) = (await found_in(books, tmp_path)).faults

    assert ("row_refused", "att_big") == (fault.kind, fault.subject)


async def test_a_line_of_what_was_refused_that_is_torn_is_a_fault(books, tmp_path):
    (tmp_path / REFUSED).write_bytes(
        b'{"opening": \n' + msgspec.json.encode(make_charge("att_big"))
    )

    faults = (await found_in(books, tmp_path)).faults

    assert [("row_refused", f"{REFUSED}:1"), ("row_refused", "att_big")] == [
        (fault.kind, fault.subject) for fault in faults
    ]


async def test_what_lies_before_since_is_left_alone(books, clock, tmp_path):
    async with books.write() as tx:
        await run(tx, "DELETE FROM ledger WHERE attempt_id = 'att_1'")

    report = await found_in(books, tmp_path, since=clock.now())

    assert (0, ()) == (report.rows, report.faults)
