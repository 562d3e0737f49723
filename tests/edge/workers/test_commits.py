"""Runs that share transactions: each is written whole or not at all, whatever the others are."""

import asyncio

import msgspec
import pytest
import sqlalchemy as sa

from shared.clock import Deadline
from shared.config.model import Budget, Config, TenantConfig
from shared.errors import RateLimitExceeded, StoreUnavailable
from shared.jobs.books import JobBooks
from shared.jobs.commits import MOST, Commits, Ending
from shared.jobs.holds import job_holds
from shared.jobs.lease import Interrupt, LeaseLost
from shared.jobs.run import Ran, run_job
from shared.ledger.holds import Hold
from shared.store.records import Finish
from tests.edge.workers.makers import (
    COST,
    ESTIMATE,
    PRINCIPAL,
    claimed,
    make_opening,
    outcomes,
    read_job,
    spent,
    submitted,
)

pytestmark = pytest.mark.anyio


class Counting:
    """A store that counts its transactions, and refuses as many as it is told to."""

    def __init__(self, store) -> None:
        self._store = store
        self.backend = store.backend
        self.written = self.refuses = 0

    def read(self):
        return self._store.read()

    def write(self):
        if self.refuses:
            self.refuses -= 1
            raise StoreUnavailable("away")
        self.written += 1
        return self._store.write()


@pytest.fixture
def counting(store):
    return Counting(store)


@pytest.fixture
def commits(counting):
    return Commits(counting)


async def held(desk, count: int):
    for _ in range(count):
        await submitted(desk)
    return await claimed(desk, limit=count)


def ending(desk, job, *, token: int | None = None, breaks: Exception | None = None) -> Ending:
    async def write(page) -> bool:
        if breaks is not None:
            await page.tx.connection.execute(sa.text("DELETE FROM job"))  # goes with the rest
            raise breaks
        page.end(job.id, Finish(status="succeeded", at=desk.clock.now()))
        JobBooks(desk.store, job).enter(page)
        return True

    return Ending(lease=(job.id, job.lease_token if token is None else token), write=write)


async def statuses(desk, jobs) -> list[str]:
    return [(await read_job(desk, job.id)).status for job in jobs]


async def test_forty_runs_take_few_transactions(desk, counting, commits):
    """And each leaves its attempt, its ledger row and its end."""
    jobs = await held(desk, 40)
    desk = msgspec.structs.replace(desk, commits=commits)

    ran = await asyncio.gather(*(run_job(job, desk, Interrupt()) for job in jobs))

    assert {Ran.FINISHED} == set(ran)
    assert counting.written <= 10
    assert ["succeeded"] * 40 == await statuses(desk, jobs)
    assert (40, 40 * COST) == await spent(desk)
    assert [["succeeded"]] * 40 == [await outcomes(desk, job.id) for job in jobs]


async def test_more_runs_than_a_transaction_takes(desk, counting, commits):
    jobs = [job for _ in range(2) for job in await held(desk, MOST)]

    done = await asyncio.gather(*(commits.end(ending(desk, job)) for job in jobs))

    assert [True] * len(jobs) == done
    assert 2 <= counting.written <= 3
    assert {"succeeded"} == set(await statuses(desk, jobs))


async def test_one_that_cannot_be_written_fails_alone(desk, commits):
    jobs = await held(desk, 5)
    endings = [ending(desk, job) for job in jobs]
    endings[2] = ending(desk, jobs[2], breaks=OverflowError("too large"))

    done = await asyncio.gather(*(commits.end(one) for one in endings), return_exceptions=True)

    assert [True, True, OverflowError, True, True] == [
        type(one) if isinstance(one, Exception) else one for one in done
    ]
    assert ["running"] == [one for one in await statuses(desk, jobs) if one != "succeeded"]


async def test_one_without_its_lease_writes_nothing_and_the_others_all(desk, commits):
    jobs = await held(desk, 3)
    endings = [ending(desk, jobs[0]), ending(desk, jobs[1], token=7), ending(desk, jobs[2])]

    done = await asyncio.gather(*(commits.end(one) for one in endings))

    assert [True, False, True] == done
    assert ["succeeded", "running", "succeeded"] == await statuses(desk, jobs)


async def test_an_attempt_without_the_lease_is_not_made(desk, commits):
    jobs = await held(desk, 3)
    lost = msgspec.structs.replace(jobs[1], lease_token=7)
    books = [JobBooks(desk.store, job, commits) for job in (jobs[0], lost, jobs[2])]

    opened = await asyncio.gather(
        *(one.open(make_opening(job)) for one, job in zip(books, jobs, strict=True)),
        return_exceptions=True,
    )

    assert [None, LeaseLost, None] == [None if one is None else type(one) for one in opened]
    assert [[None], [], [None]] == [await outcomes(desk, job.id) for job in jobs]


async def test_who_is_cancelled_stops_nobody(desk, commits):
    jobs = await held(desk, 4)
    writes = [asyncio.create_task(commits.end(ending(desk, job))) for job in jobs]
    await asyncio.sleep(0)

    writes[0].cancel()
    writes[2].cancel()
    done = await asyncio.gather(*writes, return_exceptions=True)

    assert [True, True] == [done[1], done[3]]
    after = await statuses(desk, jobs)
    assert ["succeeded", "succeeded"] == [after[1], after[3]]


async def test_everybody_hears_that_the_database_is_away_and_goes_on_when_it_is_back(
    desk, counting, commits
):
    jobs = await held(desk, 3)
    counting.refuses = 1

    first = await asyncio.gather(
        *(commits.end(ending(desk, job)) for job in jobs), return_exceptions=True
    )
    again = await asyncio.gather(*(commits.end(ending(desk, job)) for job in jobs))

    assert [StoreUnavailable] * 3 == [type(one) for one in first]
    assert [True] * 3 == again


async def test_one_after_the_other_nobody_is_forgotten(desk, commits):
    """Who comes in the moment a group has been written begins the next."""
    [job] = await held(desk, 1)
    books = JobBooks(desk.store, job, commits)

    async with asyncio.timeout(20):
        for _ in range(30):
            await books.open(make_opening(job))

    assert [None] * 30 == await outcomes(desk, job.id)


async def test_holds_of_many_runs_do_not_pass_the_budget_together(desk, counting, commits):
    """As many as have room get it, although all ask in the same moment."""
    room = 3
    budget = Budget(window="month", limit_usd=f"0.{room * ESTIMATE:09d}")
    config = Config(tenants=(TenantConfig(id="acme", budgets=(budget,)),))
    jobs = await held(desk, 8)
    holds_of = job_holds(desk.store, config, desk.clock, commits)

    held_by = await asyncio.gather(
        *(
            holds_of(job).hold(PRINCIPAL, ESTIMATE, deadline=Deadline.after(0.0, desk.clock))
            for job in jobs
        ),
        return_exceptions=True,
    )

    assert room == len([one for one in held_by if isinstance(one, Hold)])
    assert 8 - room == len([one for one in held_by if isinstance(one, RateLimitExceeded)])
    assert counting.written <= 2
