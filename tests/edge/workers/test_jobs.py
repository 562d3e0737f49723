"""A job's life in the database: accepted, run under a lease, ended once."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from shared.errors import (
    BudgetExceeded,
    ChainFailed,
    DeadlineExceeded,
    FailedAttempt,
    InvalidRequest,
    NotFound,
    QueueFull,
    StoreUnavailable,
)
from shared.jobs.books import JobBooks, position_of
from shared.jobs.cancel import cancel
from shared.jobs.commits import Commits
from shared.jobs.expire import expire_waiting
from shared.jobs.lease import Interrupt, LeaseLost, Reason
from shared.jobs.rescue import rescue_jobs
from shared.jobs.results import MOST_INLINE_BYTES, forget, with_answer
from shared.jobs.run import Ran, Reply, _Run, run_job
from shared.ledger.books import Outcome
from shared.store.claims import release_owner, request_cancel
from shared.store.jobs import attempts_of
from shared.store.webhooks import claim_deliveries
from tests.edge.workers.makers import (
    ANSWER,
    COST,
    ESTIMATE,
    Script,
    claimed,
    claimed_one,
    make_charge,
    make_opening,
    make_past,
    outcomes,
    read_job,
    spent,
    submitted,
    with_call,
)

pytestmark = pytest.mark.anyio

HOOK = "https://hooks.example/sluiceway"


async def told(desk) -> list[tuple[str, str]]:
    """Return the events that are due, with the URLs they go to."""
    async with desk.store.write() as tx:
        due = await claim_deliveries(tx, owner="courier", lease_s=60.0, limit=10)
    return [(row.event_type, row.url) for row in due]


async def run(desk, **how) -> Ran:
    return await run_job(await claimed_one(desk, **how), desk, Interrupt())


async def cancel_(desk, job_id, tenant_id="acme"):
    return await cancel(desk.store, desk.bell, desk.ids, tenant_id=tenant_id, job_id=job_id)


# Submitting


async def test_a_submitted_job_waits_and_the_bell_rings(desk, bell):
    job = await submitted(desk, priority="batch", metadata={"a": "b"})

    assert ("queued", "batch", {"a": "b"}) == (job.status, job.priority, job.metadata)
    assert ["jobs:batch"] == bell.rung


async def test_a_postponed_job_does_not_ring(desk, bell):
    job = await submitted(desk, not_before=(datetime.now(UTC) + timedelta(hours=1)).isoformat())

    assert "scheduled" == job.status
    assert [] == bell.rung
    assert [] == await claimed(desk)


async def test_a_tenant_cannot_queue_without_end(desk, bell):
    await submitted(desk, limit=1)

    with pytest.raises(QueueFull) as refused:
        await submitted(desk, limit=1)

    assert refused.value.retry_after_s <= 120
    assert 1 == len(bell.rung)


async def test_an_unknown_endpoint_is_refused(desk):
    with pytest.raises(InvalidRequest) as refused:
        await submitted(desk, endpoint="/v1/nothing")

    assert "endpoint" == refused.value.param


# Running


async def test_success_is_one_answer_one_ledger_row_one_event(desk):
    job = await submitted(desk, webhook_url=HOOK)

    assert Ran.FINISHED == await run(desk)

    done = await read_job(desk, job.id)
    assert ("succeeded", 200, ANSWER) == (done.status, done.response_status, done.response_body)
    assert COST == done.cost_nanousd
    assert ["succeeded"] == await outcomes(desk, job.id)
    assert (1, COST) == await spent(desk)
    assert [("job.succeeded", HOOK)] == await told(desk)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_without_a_ledger_a_job_knows_its_cost_and_nothing_is_booked(desk):
    """Not even what a dead worker lost."""
    desk = msgspec.structs.replace(desk, commits=Commits(desk.store, booked=False))
    job = await submitted(desk)
    dead = await claimed_one(desk, lease_s=0.0)
    await JobBooks(desk.store, dead).open(make_opening(dead))
    await rescue_jobs(desk.store, desk.bell, desk.ids, booked=False)

    assert Ran.FINISHED == await run(desk)

    assert COST == (await read_job(desk, job.id)).cost_nanousd
    assert ["lost", "succeeded"] == await outcomes(desk, job.id)
    assert (0, 0) == await spent(desk)


async def test_a_run_that_lost_its_lease_writes_nothing(desk):
    """The slow worker's answer must not appear beside the second one's."""
    job = await submitted(desk, webhook_url=HOOK)
    slow = await claimed_one(desk, owner="slow", lease_s=0.0)
    await rescue_jobs(desk.store, desk.bell, desk.ids)

    assert Ran.LEASE_LOST == await run_job(slow, desk, Interrupt())

    assert "queued" == (await read_job(desk, job.id)).status
    assert (0, 0) == await spent(desk)
    assert [] == await told(desk)


async def test_a_lease_lost_during_the_call_loses_the_answer_not_the_money(desk):
    """What the zombie's call cost is booked as lost; its late answer changes nothing."""
    job = await submitted(desk)
    slow_call = Script(0.2)
    zombie = await claimed_one(desk, owner="slow", lease_s=0.0)
    running = asyncio.create_task(run_job(zombie, with_call(desk, slow_call), Interrupt()))
    await slow_call.working.wait()
    await rescue_jobs(desk.store, desk.bell, desk.ids)

    assert Ran.LEASE_LOST == await running
    assert Ran.FINISHED == await run(desk, owner="quick")

    assert "succeeded" == (await read_job(desk, job.id)).status
    assert ["lost", "succeeded"] == await outcomes(desk, job.id)
    assert (2, ESTIMATE + COST) == await spent(desk)


async def test_a_rate_limit_defers_without_costing_a_try(desk):
    error = ChainFailed("rate_limit_exceeded", "slow down", attempts=(), retry_after_s=60.0)
    job = await submitted(desk)

    assert Ran.RESCHEDULED == await run(with_call(desk, Script(error)))

    waiting = await read_job(desk, job.id)
    assert ("scheduled", 0, 1) == (waiting.status, waiting.attempts_spent, waiting.deferrals)
    left = waiting.not_before - datetime.now(UTC)
    assert timedelta(seconds=55) < left <= timedelta(seconds=66)
    assert ["failed"] == await outcomes(desk, job.id)
    assert (1, 0) == await spent(desk)


async def test_an_outage_is_a_delay_and_the_job_says_what_it_waits_for(desk):
    job = await submitted(desk)
    error = ChainFailed("upstream_unavailable", "500", attempts=())
    down = with_call(desk, Script(error))
    for _ in range(7):
        assert Ran.RESCHEDULED == await run(down)
        waiting = await read_job(desk, job.id)
        assert ("scheduled", "upstream_unavailable") == (waiting.status, waiting.waits_for)
        await make_past(desk, job.id, "not_before")

    assert Ran.FINISHED == await run(desk)

    done = await read_job(desk, job.id)
    assert ("succeeded", 0, 7, None) == (
        done.status,
        done.attempts_spent,
        done.deferrals,
        done.waits_for,
    )


async def test_a_job_that_waited_until_its_deadline_has_expired_and_says_why(desk):
    job = await submitted(desk)
    error = ChainFailed("upstream_timeout", "silence", attempts=())
    await run(with_call(desk, Script(error)))
    await make_past(desk, job.id, "deadline")

    await expire_waiting(desk.store, desk.bell, desk.ids)

    done = await read_job(desk, job.id)
    assert ("expired", "expired") == (done.status, done.error["code"])
    assert "waited for upstream_timeout" in done.error["message"]


async def test_an_answer_nobody_can_read_costs_a_try(desk):
    job = await submitted(desk)
    error = ChainFailed("upstream_malformed", "no JSON", attempts=())

    assert Ran.RESCHEDULED == await run(with_call(desk, Script(error)))

    waiting = await read_job(desk, job.id)
    assert ("scheduled", 1, 0) == (waiting.status, waiting.attempts_spent, waiting.deferrals)


@pytest.mark.parametrize(("on_budget", "status"), [("wait", "scheduled"), (None, "failed")])
async def test_a_job_may_wait_for_its_budget(desk, on_budget, status):
    resets_at = int(datetime.now(UTC).timestamp()) + 3600
    spent_all = BudgetExceeded("no money", limit_source="tenant:acme/hour", resets_at=resets_at)
    job = await submitted(desk, on_budget=on_budget)

    await run(with_call(desk, Script(spent_all)))

    after = await read_job(desk, job.id)
    assert status == after.status
    if on_budget:
        assert "budget" == after.waits_for
        assert 0 <= (after.not_before.timestamp() - resets_at) <= 5


# Where the chain goes on


def failing(books, job, code="upstream_timeout"):
    """Book an attempt that failed."""
    opening = make_opening(job)
    return books.open(opening), msgspec.structs.replace(
        make_charge(opening, Outcome.FAILED), code=code
    )


async def test_a_rescheduled_job_knows_what_it_has_tried(desk):
    job = await submitted(desk)
    error = ChainFailed("upstream_timeout", "silence", attempts=())

    await run(with_call(desk, Script(error)))

    position = position_of(await read_job(desk, job.id))
    assert [("p", "pm", None)] == [(one.provider, one.model, one.code) for one in position.tried]


async def test_a_rescued_job_goes_on_behind_the_targets_that_had_failed(desk):
    """Its worker died during the second call: the first target need not fail again."""
    await submitted(desk)
    dead = await claimed_one(desk, lease_s=0.0)
    books = JobBooks(desk.store, dead)
    opened, charge = failing(books, dead)
    await opened
    books.close(charge)
    await books.open(make_opening(dead))
    await rescue_jobs(desk.store, desk.bell, desk.ids)

    again = await claimed_one(desk)

    assert ["upstream_timeout", None] == [one.code for one in position_of(again).tried]


# Large answers

LARGE = b'{"text":"' + b"x" * MOST_INLINE_BYTES + b'"}'


async def test_a_large_answer_lies_in_the_object_store(desk):
    job = await submitted(desk)

    await run(with_call(desk, Script(LARGE)))

    done = await read_job(desk, job.id)
    assert ("succeeded", None) == (done.status, done.response_body)
    assert {done.result_key: LARGE} == desk.objects.kept
    assert LARGE == (await with_answer(desk.objects, done)).response_body


async def test_a_large_answer_survives_an_object_store_that_blinks(desk):
    job = await submitted(desk)
    desk.objects.away = True
    running = asyncio.create_task(run(with_call(desk, Script(LARGE))))
    await desk.objects.refused.wait()
    assert "running" == (await read_job(desk, job.id)).status

    desk.objects.away = False

    assert Ran.FINISHED == await running
    assert 1 == len(desk.objects.kept)


async def test_a_late_worker_does_not_replace_a_large_answer(desk):
    job = await submitted(desk)
    slow = await claimed_one(desk, owner="slow", lease_s=0.0)
    await rescue_jobs(desk.store, desk.bell, desk.ids)
    await run(with_call(desk, Script(LARGE)))
    zombie = _Run(slow, desk, Interrupt(), JobBooks(desk.store, slow))

    assert Ran.LEASE_LOST == await zombie.finish("succeeded", reply=Reply(body=LARGE + b" "))

    done = await read_job(desk, job.id)
    assert LARGE == (await with_answer(desk.objects, done)).response_body
    await forget(desk.objects, done)
    assert {} == desk.objects.kept


TRIED = FailedAttempt(id="att_x", provider="p", model="pm", outcome="failed", message="bad")


@pytest.mark.parametrize(
    "error",
    [
        ChainFailed("invalid_request", "bad field", attempts=(TRIED,)),
        DeadlineExceeded("bad field", attempts=(TRIED,)),
    ],
    ids=lambda error: error.code,
)
async def test_a_refused_request_ends_the_job_with_its_tries(desk, error):
    job = await submitted(desk, webhook_url=HOOK)

    assert Ran.FINISHED == await run(with_call(desk, Script(error)))

    done = await read_job(desk, job.id)
    assert ("failed", error.code, "bad field") == (
        done.status,
        done.error["code"],
        done.error["message"],
    )
    assert ["att_x"] == [one["id"] for one in done.error["attempts"]]
    assert [("job.failed", HOOK)] == await told(desk)


async def test_a_bug_is_tried_again_and_then_ends_the_job(desk):
    job = await submitted(desk)
    broken = with_call(desk, Script(ZeroDivisionError("secret detail")))
    for _ in range(4):
        assert Ran.RESCHEDULED == await run(broken)
        await make_past(desk, job.id, "not_before")

    assert Ran.FINISHED == await run(broken)

    done = await read_job(desk, job.id)
    assert ("failed", "internal_error") == (done.status, done.error["code"])
    assert "secret" not in str(done.error)


async def test_a_job_claimed_after_its_deadline_expires_without_a_call(desk):
    call = Script()
    job = await submitted(desk)
    await make_past(desk, job.id, "deadline")

    assert Ran.FINISHED == await run(with_call(desk, call))

    assert "expired" == (await read_job(desk, job.id)).status
    assert [] == call.openings


async def test_attempts_are_numbered_on_over_runs(desk):
    job = await submitted(desk)
    error = ChainFailed("upstream_timeout", "late", attempts=())
    call = Script(error, ANSWER)
    await run(with_call(desk, call))
    await make_past(desk, job.id, "not_before")
    await run(with_call(desk, call))

    async with desk.store.read() as tx:
        assert [1, 2] == [row.number for row in await attempts_of(tx, job.id)]


async def test_an_answer_survives_a_database_that_blinks(desk):
    """What has been paid for is written as soon as it can be."""
    job = await submitted(desk)
    held = await claimed_one(desk)
    hurried = msgspec.structs.replace(desk, store=Blinking(desk.store, failures=2))

    assert Ran.FINISHED == await run_job(held, hurried, Interrupt())

    assert "succeeded" == (await read_job(desk, job.id)).status
    assert (1, COST) == await spent(desk)


class Blinking:
    """A store whose writes fail a few times after the first one."""

    def __init__(self, store, *, failures):
        self.backend = store.backend
        self._store = store
        self._writes = 0
        self._failures = failures

    def read(self):
        return self._store.read()

    def write(self):
        self._writes += 1
        if 1 < self._writes <= 1 + self._failures:
            raise StoreUnavailable("blink")
        return self._store.write()


# Ended from outside


async def test_a_cancelled_run_ends_the_call_and_books_it(desk):
    job = await submitted(desk, webhook_url=HOOK)
    call, interrupt = Script(30.0), Interrupt()
    running = asyncio.create_task(
        run_job(await claimed_one(desk), with_call(desk, call), interrupt)
    )
    await call.working.wait()
    assert "cancelling" == (await cancel_(desk, job.id)).status

    interrupt.stop(Reason.CANCELLED)

    assert Ran.FINISHED == await running
    done = await read_job(desk, job.id)
    assert ("cancelled", "cancelled") == (done.status, done.error["code"])
    assert ["cancelled"] == await outcomes(desk, job.id)
    assert [("job.cancelled", HOOK)] == await told(desk)


async def test_a_run_that_would_be_put_off_ends_a_job_that_was_cancelled_meanwhile(desk):
    job = await submitted(desk, webhook_url=HOOK)
    error = ChainFailed("rate_limit_exceeded", "slow down", attempts=(), retry_after_s=60.0)

    class Cancelled(Script):
        async def __call__(self, *args, **how):
            await cancel_(desk, job.id)
            return await super().__call__(*args, **how)

    assert Ran.FINISHED == await run(with_call(desk, Cancelled(error)))

    done = await read_job(desk, job.id)
    assert ("cancelled", "cancelled", 0) == (done.status, done.error["code"], done.deferrals)
    assert ["failed"] == await outcomes(desk, job.id)
    assert [("job.cancelled", HOOK)] == await told(desk)


async def test_a_stopping_worker_gives_the_job_back_at_no_cost(desk):
    job = await submitted(desk)
    call, interrupt = Script(30.0), Interrupt()
    running = asyncio.create_task(
        run_job(await claimed_one(desk), with_call(desk, call), interrupt)
    )
    await call.working.wait()

    interrupt.stop(Reason.STOPPING)

    assert Ran.RELEASED == await running
    back = await read_job(desk, job.id)
    assert ("queued", 0, 0, 0) == (
        back.status,
        back.attempts_spent,
        back.deferrals,
        back.recoveries,
    )
    assert (1, 0) == await spent(desk)
    assert Ran.FINISHED == await run(desk)


async def test_an_interrupt_before_the_call_stops_it_from_being_made(desk):
    await submitted(desk)
    call, interrupt = Script(), Interrupt()
    interrupt.stop(Reason.STOPPING)

    assert Ran.RELEASED == await run_job(await claimed_one(desk), with_call(desk, call), interrupt)
    assert [] == call.openings


async def test_a_task_that_is_cancelled_itself_stays_cancelled(desk):
    """Then nothing is written; the lease runs out."""
    await submitted(desk)
    call = Script(30.0)
    running = asyncio.create_task(
        run_job(await claimed_one(desk), with_call(desk, call), Interrupt())
    )
    await call.working.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


async def test_books_refuse_to_open_without_the_lease(desk):
    await submitted(desk)
    held = await claimed_one(desk, lease_s=0.0)
    await rescue_jobs(desk.store, desk.bell, desk.ids)

    with pytest.raises(LeaseLost):
        await JobBooks(desk.store, held).open(make_opening(held))


# Cancelling and expiring what waits


async def test_cancelling_a_waiting_job_ends_it_at_once_and_once(desk, bell):
    job = await submitted(desk, webhook_url=HOOK)

    first, second = await cancel_(desk, job.id), await cancel_(desk, job.id)

    assert ("cancelled", "cancelled") == (first.status, second.status)
    assert [("job.cancelled", HOOK)] == await told(desk)
    assert "deliveries" in bell.rung


async def test_a_job_that_is_over_is_not_cancelled(desk):
    job = await submitted(desk)
    await run(desk)

    assert "succeeded" == (await cancel_(desk, job.id)).status


async def test_nobody_cancels_another_tenant_s_job(desk):
    job = await submitted(desk)

    with pytest.raises(NotFound):
        await cancel_(desk, job.id, tenant_id="other")


async def test_waiting_jobs_expire_once(desk):
    """Two caretakers at once: one event per job."""
    job = await submitted(desk, webhook_url=HOOK)
    await make_past(desk, job.id, "deadline")

    counts = await asyncio.gather(
        *(expire_waiting(desk.store, desk.bell, desk.ids) for _ in range(3))
    )

    assert 1 == sum(counts)
    assert "expired" == (await read_job(desk, job.id)).status
    assert [("job.expired", HOOK)] == await told(desk)


# Rescue


async def test_a_dead_worker_s_job_waits_again_and_its_call_is_booked_as_lost(desk, bell):
    job = await submitted(desk)
    dead = await claimed_one(desk, owner="dead")
    await JobBooks(desk.store, dead).open(make_opening(dead))
    async with desk.store.write() as tx:
        assert 1 == await release_owner(tx, "dead")

    assert 1 == await rescue_jobs(desk.store, bell, desk.ids)

    back = await read_job(desk, job.id)
    assert ("queued", 1) == (back.status, back.recoveries)
    assert ["lost"] == await outcomes(desk, job.id)
    assert (1, ESTIMATE) == await spent(desk)
    assert "jobs:default" == bell.rung[-1]


async def test_two_rescuers_at_once_take_a_job_back_once(desk):
    job = await submitted(desk)
    dead = await claimed_one(desk, lease_s=0.0)
    await JobBooks(desk.store, dead).open(make_opening(dead))

    await asyncio.gather(*(rescue_jobs(desk.store, desk.bell, desk.ids) for _ in range(3)))

    assert 1 == (await read_job(desk, job.id)).recoveries
    assert (1, ESTIMATE) == await spent(desk)


async def test_a_job_that_kills_workers_is_ended(desk):
    job = await submitted(desk, webhook_url=HOOK)
    for _ in range(4):
        await claimed_one(desk, lease_s=0.0)
        await rescue_jobs(desk.store, desk.bell, desk.ids)

    done = await read_job(desk, job.id)
    assert ("failed", "worker_lost") == (done.status, done.error["code"])
    assert [("job.failed", HOOK)] == await told(desk)


async def test_a_job_that_ends_without_a_run_cost_what_its_runs_did(desk):
    """One that a caretaker ends, and one whose last run made no call."""
    lost, idle = await submitted(desk), await submitted(desk)
    for dead in await claimed(desk, lease_s=0.0):
        await JobBooks(desk.store, dead).open(make_opening(dead))
    async with desk.store.write() as tx:
        await request_cancel(tx, "acme", lost.id, await tx.now())
    await rescue_jobs(desk.store, desk.bell, desk.ids)
    refused = with_call(desk, Script(InvalidRequest("no")))
    again = await claimed_one(desk)
    run_ = _Run(again, refused, Interrupt(), JobBooks(desk.store, again))
    await run_.finish("failed", error=InvalidRequest("no"))

    costs = [(await read_job(desk, one.id)).cost_nanousd for one in (lost, idle)]
    assert [ESTIMATE, ESTIMATE] == costs


async def test_a_job_being_cancelled_when_its_worker_died_is_cancelled(desk):
    job = await submitted(desk)
    await claimed_one(desk, lease_s=0.0)
    async with desk.store.write() as tx:
        await request_cancel(tx, "acme", job.id, await tx.now())

    await rescue_jobs(desk.store, desk.bell, desk.ids)

    assert "cancelled" == (await read_job(desk, job.id)).status


async def test_a_job_past_its_deadline_when_its_worker_died_expires(desk):
    job = await submitted(desk)
    await claimed_one(desk, lease_s=0.0)
    await make_past(desk, job.id, "deadline")

    await rescue_jobs(desk.store, desk.bell, desk.ids)

    assert "expired" == (await read_job(desk, job.id)).status
