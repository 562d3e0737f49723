"""Jobs and budgets: held before the call, settled and let go with the run's last transaction."""

import asyncio
import random

import msgspec
import pytest

from shared.clock import Deadline, SystemClock
from shared.config.model import Budget, Config, TenantConfig
from shared.errors import BudgetExceeded, CallerError, ChainFailed, RateLimitExceeded
from shared.jobs.books import JobBooks
from shared.jobs.commits import Commits
from shared.jobs.holds import job_holds
from shared.jobs.lease import Interrupt, LeaseLost, Reason
from shared.jobs.rescue import rescue_jobs
from shared.jobs.run import Ran, Reply, run_job
from shared.ledger.books import Outcome
from shared.ledger.budgets import BudgetTable
from shared.ledger.holds import Holds
from shared.store.budgets import standing_of
from shared.store.claims import claim
from shared.store.records import JobRow
from tests.contract.ledger.rig import CENT, Process, a_month, make_config, running
from tests.edge.workers.makers import (
    ANSWER,
    CLASSES,
    COST,
    ESTIMATE,
    PRINCIPAL,
    claimed_one,
    make_charge,
    make_opening,
    read_job,
    submitted,
    with_call,
)

CLOCK = SystemClock()
LIMIT = 2 * ESTIMATE
CONFIG = Config(
    tenants=(
        TenantConfig(id="acme", budgets=(Budget(window="month", limit_usd=f"0.{LIMIT:09d}"),)),
    )
)


@pytest.fixture
def desk(desk):
    """The desk of a tenant with a budget."""
    return msgspec.structs.replace(desk, holds=job_holds(desk.store, CONFIG, CLOCK))


class HoldingCall:
    """A call that holds an estimate and then answers, raises or hangs, as the gateway does."""

    def __init__(self, step=ANSWER, *, amount=ESTIMATE) -> None:
        self._step = step
        self._amount = amount
        self.working = asyncio.Event()

    async def __call__(self, job: JobRow, *, deadline, books, holds) -> Reply:
        hold = await holds.hold(PRINCIPAL, self._amount, deadline=deadline)
        opening = msgspec.structs.replace(make_opening(job), budgets=hold.refs, grant=hold.owner)
        try:
            await books.open(opening)
            self.working.set()
            if isinstance(self._step, float):
                await asyncio.sleep(self._step)
            if isinstance(self._step, Exception):
                raise self._step
            books.close(make_charge(opening, Outcome.SUCCEEDED))
        except BaseException:
            books.close(make_charge(opening, Outcome.FAILED))
            raise
        finally:
            hold.release()
        return Reply(body=ANSWER)


def make_holds(desk, job) -> Holds:
    return job_holds(desk.store, CONFIG, CLOCK)(job)


async def run(desk, call, *, interrupt=None) -> Ran:
    return await run_job(await claimed_one(desk), with_call(desk, call), interrupt or Interrupt())


async def sums(desk) -> tuple[int, int]:
    """Return what is settled and granted."""
    [rule] = BudgetTable(CONFIG).of(PRINCIPAL)
    async with desk.store.read() as tx:
        found = await standing_of(tx, rule.ref_at(CLOCK.now()))
    return found.settled_nanousd, found.granted_nanousd


async def test_a_finished_job_is_settled_and_its_hold_is_gone(desk):
    job = await submitted(desk)
    call = HoldingCall(0.2)
    running = asyncio.create_task(run(desk, call))
    await call.working.wait()
    assert (0, ESTIMATE) == await sums(desk)

    assert Ran.FINISHED == await running

    assert (COST, 0) == await sums(desk)
    assert COST == (await read_job(desk, job.id)).cost_nanousd


async def test_a_job_that_its_budget_does_not_cover_fails(desk):
    job = await submitted(desk)

    await run(desk, HoldingCall(amount=LIMIT + 1))

    ended = await read_job(desk, job.id)
    assert ("failed", "budget_exceeded") == (ended.status, ended.error["code"])
    assert (0, 0) == await sums(desk)


@pytest.mark.parametrize(
    ("failure", "after"),
    [
        (CallerError("no"), "failed"),
        (ChainFailed("upstream_unavailable", "down", attempts=()), "scheduled"),
    ],
)
async def test_a_run_that_failed_lets_its_hold_go(desk, failure, after):
    job = await submitted(desk)

    await run(desk, HoldingCall(failure))

    assert after == (await read_job(desk, job.id)).status
    assert (0, 0) == await sums(desk)


@pytest.mark.parametrize("reason", [Reason.STOPPING, Reason.CANCELLED])
async def test_a_run_that_was_ended_from_outside_lets_its_hold_go(desk, reason):
    await submitted(desk)
    interrupt, call = Interrupt(), HoldingCall(30.0)
    running = asyncio.create_task(run(desk, call, interrupt=interrupt))
    await call.working.wait()
    interrupt.stop(reason)
    await running

    assert (0, 0) == await sums(desk)


async def test_a_dead_worker_s_hold_is_taken_back_and_its_call_settled_at_the_estimate(desk):
    await submitted(desk)
    dead = await claimed_one(desk, lease_s=0.0)
    hold = await make_holds(desk, dead).hold(PRINCIPAL, ESTIMATE, deadline=soon())
    opening = msgspec.structs.replace(make_opening(dead), budgets=hold.refs, grant=hold.owner)
    await JobBooks(desk.store, dead).open(opening)

    await asyncio.gather(*(rescue_jobs(desk.store, desk.bell, desk.ids) for _ in range(3)))

    assert (ESTIMATE, 0) == await sums(desk)


async def test_a_worker_that_died_between_hold_and_call_leaves_nothing_held(desk):
    await submitted(desk)
    dead = await claimed_one(desk, lease_s=0.0)
    await make_holds(desk, dead).hold(PRINCIPAL, ESTIMATE, deadline=soon())

    await rescue_jobs(desk.store, desk.bell, desk.ids)

    assert (0, 0) == await sums(desk)


async def test_without_the_lease_nothing_is_held(desk):
    await submitted(desk)
    dead = await claimed_one(desk, lease_s=0.0)
    await rescue_jobs(desk.store, desk.bell, desk.ids)

    with pytest.raises(LeaseLost):
        await make_holds(desk, dead).hold(PRINCIPAL, ESTIMATE, deadline=soon())

    assert (0, 0) == await sums(desk)


async def test_a_job_whose_money_is_held_by_others_waits_for_them(desk):
    """First in its slot; then it is put off, which costs none of its tries."""
    for _ in range(2):
        await submitted(desk)
    rich, poor = await claimed_one(desk, limit=1), await claimed_one(desk, limit=1)
    await make_holds(desk, rich).hold(PRINCIPAL, LIMIT, deadline=soon())

    with pytest.raises(RateLimitExceeded):
        await make_holds(desk, poor).hold(PRINCIPAL, ESTIMATE, deadline=soon(0.1))

    async def freed() -> None:
        await asyncio.sleep(0.2)
        async with desk.store.write() as tx:
            await JobBooks(desk.store, rich).settle(tx)

    _, hold = await asyncio.gather(
        freed(), make_holds(desk, poor).hold(PRINCIPAL, ESTIMATE, deadline=soon())
    )
    assert f"job:{poor.id}" == hold.owner


@pytest.mark.behaviour(160)
async def test_calls_and_jobs_come_to_the_same_wall(desk, tmp_path):
    """60 calls and 30 jobs of 30 against 1,000: never over, at most one of them under."""
    wall, each = 1_000, 30
    config = make_config(a_month(wall))
    holds_of = job_holds(desk.store, config, CLOCK, Commits(desk.store))
    for _ in range(30):
        await submitted(desk)
    async with desk.store.write() as tx:
        jobs = await claim(tx, owner="w1", lease_s=60.0, limit=30, classes=CLASSES)

    async def called(process: Process) -> bool:
        try:
            hold = await process.hold(each, principal=PRINCIPAL)
        except BudgetExceeded:
            return False
        await process.spend(hold, each)
        hold.release()
        return True

    async def run_as_job(job: JobRow) -> bool:
        try:
            hold = await holds_of(job).hold(PRINCIPAL, each * CENT, deadline=soon(10.0))
        except BudgetExceeded:
            return False
        except RateLimitExceeded:  # its run would be put off
            return await run_as_job(job)
        books = JobBooks(desk.store, job)
        opening = msgspec.structs.replace(make_opening(job), budgets=hold.refs, grant=hold.owner)
        await books.open(opening)
        charge = make_charge(opening, Outcome.SUCCEEDED)
        books.close(msgspec.structs.replace(charge, cost_nanousd=each * CENT))
        async with desk.store.write() as tx:
            await books.settle(tx)
        return True

    async with running(desk.store, config, tmp_path / "spool") as process:
        asking = [called(process) for _ in range(60)] + [run_as_job(job) for job in jobs]
        random.Random(3).shuffle(asking)
        let_in = await asyncio.gather(*asking)
    ref = BudgetTable(config).of(PRINCIPAL)[0].ref_at(CLOCK.now())
    async with desk.store.read() as tx:
        standing = await standing_of(tx, ref)

    assert wall // each == sum(let_in)
    assert (wall // each * each * CENT, 0) == (standing.settled_nanousd, standing.granted_nanousd)


def soon(within_s: float = 5.0) -> Deadline:
    return Deadline.after(within_s, CLOCK)
