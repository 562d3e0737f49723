"""Slots, heartbeats and draining, with real tasks on a real database."""

import asyncio

import msgspec
import pytest

from shared.errors import StoreUnavailable
from shared.jobs.cancel import cancel
from shared.jobs.commits import Commits, Ending
from shared.jobs.rescue import rescue_jobs
from shared.telemetry.context import current_ids
from tests.edge.workers.makers import (
    FAST,
    Script,
    Unheard,
    claimed_one,
    make_desk,
    outcomes,
    read_job,
    spent,
    submitted,
    until,
    with_call,
)
from workers.heartbeat import beat, keep_beating
from workers.supply import Supply

pytestmark = pytest.mark.anyio

SLOW = 30.0


class Counting(Script):
    """Counts how many calls are open at once."""

    def __init__(self, *steps) -> None:
        super().__init__(*steps)
        self.open = self.most = 0

    async def __call__(self, job, *, deadline, books, holds):
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            return await super().__call__(job, deadline=deadline, books=books, holds=holds)
        finally:
            self.open -= 1


def make_supply(desk, *, slots=10, queue=FAST) -> Supply:
    return Supply(desk, owner="w1", slots=slots, queue=queue)


async def ended(desk, *jobs, status="succeeded") -> None:
    async def all_ended():
        return all([(await read_job(desk, job.id)).status == status for job in jobs])

    await until(all_ended)


async def test_jobs_are_found_without_any_ring(desk):
    supply = make_supply(desk)
    running = asyncio.create_task(supply.run())
    jobs = [await submitted(desk) for _ in range(20)]

    await ended(desk, *jobs)

    await supply.drain(5.0, asyncio.Event())
    await running
    assert {} == supply.leases()


async def test_no_more_calls_than_slots(desk):
    call = Counting(0.02)
    jobs = [await submitted(desk) for _ in range(12)]
    supply = make_supply(with_call(desk, call), slots=3)
    running = asyncio.create_task(supply.run())

    await ended(desk, *jobs)

    assert 3 == call.most
    await supply.drain(5.0, asyncio.Event())
    await running


class Stuck(Commits):
    """Records no end of a job until it may."""

    def __init__(self, store) -> None:
        super().__init__(store)
        self.may = asyncio.Event()

    async def end(self, ending: Ending) -> bool:
        await self.may.wait()
        return await super().end(ending)


async def test_the_next_call_begins_while_the_last_one_is_recorded(desk):
    """As many ends as slots may wait for the database, and no more."""
    call = Counting(0.01)
    commits = Stuck(desk.store)
    desk = msgspec.structs.replace(with_call(desk, call), commits=commits)
    jobs = [await submitted(desk) for _ in range(6)]
    supply = make_supply(desk, slots=2)
    running = asyncio.create_task(supply.run())

    async def called():
        return len(call.openings) >= 4

    await until(called)
    await asyncio.sleep(5 * FAST.poll_s)
    assert 4 == len(call.openings)
    assert 4 == len(supply.leases())

    commits.may.set()
    await ended(desk, *jobs)
    assert 2 == call.most
    await supply.drain(5.0, asyncio.Event())
    await running


async def test_a_ring_wakes_an_idle_supply(desk):
    queue = FAST.__class__(lease_s=2.0, heartbeat_s=0.2, poll_s=60.0)
    supply = make_supply(desk, queue=queue)
    running = asyncio.create_task(supply.run())
    await asyncio.sleep(0.1)  # it has looked and found nothing
    job = await submitted(desk)

    supply.ring()

    await ended(desk, job)
    await supply.drain(5.0, asyncio.Event())
    await running


async def test_jobs_of_a_model_that_stands_still_take_no_slot(desk):
    """They wait in place and are claimed once it goes again; others pass them."""
    still = {"m"}
    waiting = [await submitted(desk, model="m") for _ in range(3)]
    other = await submitted(desk, model="n")
    supply = Supply(desk, owner="w1", slots=1, queue=FAST, standing_still=lambda: frozenset(still))
    running = asyncio.create_task(supply.run())
    await ended(desk, other)
    assert {"queued"} == {(await read_job(desk, job.id)).status for job in waiting}

    still.clear()

    await ended(desk, *waiting)
    await supply.drain(5.0, asyncio.Event())
    await running


async def test_a_tenants_bound_is_kept_and_its_next_job_starts_at_once(desk):
    call = Counting(0.02)
    jobs = [await submitted(desk) for _ in range(6)]
    queue = msgspec.structs.replace(FAST, max_running_per_tenant=2, poll_s=60.0)
    supply = make_supply(with_call(desk, call), queue=queue)
    running = asyncio.create_task(supply.run())

    await ended(desk, *jobs)

    assert 2 == call.most
    await supply.drain(5.0, asyncio.Event())
    await running


async def test_a_crash_of_one_job_leaves_the_others(desk):
    """Not even a broken desk stops the supply; the caretakers find the job."""
    jobs = [await submitted(desk) for _ in range(3)]
    call = Breaking(jobs[1].id)
    supply = make_supply(with_call(desk, call))
    running = asyncio.create_task(supply.run())

    await ended(desk, jobs[0], jobs[2])

    await supply.drain(1.0, asyncio.Event())
    await running


class Breaking(Script):
    """Fails for one job in a way that no handler expects."""

    def __init__(self, job_id) -> None:
        super().__init__()
        self._job_id = job_id

    async def __call__(self, job, *, deadline, books, holds):
        if job.id == self._job_id:
            books.open = None
        return await super().__call__(job, deadline=deadline, books=books, holds=holds)


async def test_heartbeats_keep_a_long_job(desk):
    """The call lasts longer than its lease and nobody takes it away."""
    job = await submitted(desk)
    queue = FAST.__class__(lease_s=0.5, heartbeat_s=0.1, poll_s=0.05)
    supply = make_supply(with_call(desk, Script(1.2)), queue=queue)
    running = asyncio.create_task(supply.run())
    beating = asyncio.create_task(
        keep_beating(supply, desk.store, owner="w1", lease_s=0.5, heartbeat_s=0.1, clock=desk.clock)
    )

    async def done():
        await rescue_jobs(desk.store, desk.bell, desk.ids)
        return (await read_job(desk, job.id)).status == "succeeded"

    await until(done)
    beating.cancel()
    assert 0 == (await read_job(desk, job.id)).recoveries
    await supply.drain(1.0, asyncio.Event())
    await running


async def test_a_heartbeat_tells_of_a_cancelled_job(desk):
    job = await submitted(desk)
    call = Script(SLOW)
    supply = make_supply(with_call(desk, call))
    running = asyncio.create_task(supply.run())
    await call.working.wait()
    await cancel(desk.store, desk.bell, desk.ids, tenant_id="acme", job_id=job.id)

    await beat(supply, desk.store, owner="w1", lease_s=2.0)

    await ended(desk, job, status="cancelled")
    assert ["cancelled"] == await outcomes(desk, job.id)
    await supply.drain(1.0, asyncio.Event())
    await running


async def test_a_heartbeat_tells_of_a_lost_lease(desk, bell):
    """The call is ended and nothing is written about it."""
    job = await submitted(desk)
    call = Script(SLOW)
    queue = FAST.__class__(lease_s=0.2, heartbeat_s=60.0, poll_s=60.0)
    supply = make_supply(with_call(desk, call), queue=queue)
    running = asyncio.create_task(supply.run())
    await call.working.wait()

    async def taken_back():
        return await rescue_jobs(desk.store, bell, desk.ids) == 1

    await until(taken_back)
    supply.stop()  # or it would claim the job again
    await beat(supply, desk.store, owner="w1", lease_s=2.0)

    async def let_go():
        return not supply.leases()

    await until(let_go)
    assert "queued" == (await read_job(desk, job.id)).status
    assert ["lost"] == await outcomes(desk, job.id)
    assert 1 == (await spent(desk))[0]
    await supply.drain(1.0, asyncio.Event())
    await running


async def test_draining_waits_for_running_jobs(desk):
    job = await submitted(desk)
    call = Script(0.3)
    supply = make_supply(with_call(desk, call))
    running = asyncio.create_task(supply.run())
    await call.working.wait()

    await supply.drain(10.0, asyncio.Event())
    await running

    assert "succeeded" == (await read_job(desk, job.id)).status


async def test_draining_gives_back_what_does_not_end_in_time(desk):
    """Another worker starts it at once, and no try is spent."""
    job = await submitted(desk)
    call = Script(SLOW)
    supply = make_supply(with_call(desk, call))
    running = asyncio.create_task(supply.run())
    await call.working.wait()

    await supply.drain(0.1, asyncio.Event())
    await running

    assert job.id == (await claimed_one(desk, owner="w2")).id
    assert (0, 0) == (
        (await read_job(desk, job.id)).attempts_spent,
        (await read_job(desk, job.id)).recoveries,
    )


async def test_draining_gives_back_what_is_being_claimed(desk):
    """Its job is ours in the database, and we have not heard of it yet."""
    job = await submitted(desk)
    store = Unheard(desk.store)
    supply = make_supply(msgspec.structs.replace(with_call(desk, Script(SLOW)), store=store))
    running = asyncio.create_task(supply.run())
    await store.committed.wait()
    draining = asyncio.create_task(supply.drain(0.1, asyncio.Event()))
    await asyncio.sleep(5 * FAST.poll_s)
    store.heard.set()

    await draining
    running.cancel()  # as the process does then
    await asyncio.wait([running])

    assert job.id == (await claimed_one(desk, owner="w2")).id


async def test_a_second_signal_ends_the_wait(desk):
    await submitted(desk)
    call, hurry = Script(SLOW), asyncio.Event()
    supply = make_supply(with_call(desk, call))
    running = asyncio.create_task(supply.run())
    await call.working.wait()
    hurry.set()

    async with asyncio.timeout(10):
        await supply.drain(60.0, hurry)
    await running


async def test_no_class_waits_for_ever_behind_a_busier_one(store, bell, tenant):
    """One batch job is done long before a hundred interactive ones are."""
    desk = make_desk(store=store, bell=bell, call=Script(0.001))
    urgent = [await submitted(desk, priority="interactive", limit=1000) for _ in range(100)]
    patient = await submitted(desk, priority="batch", limit=1000)
    supply = make_supply(desk, slots=1)
    running = asyncio.create_task(supply.run())
    await ended(desk, patient)

    left = [job for job in urgent if (await read_job(desk, job.id)).status == "queued"]

    assert len(left) > 50
    await supply.drain(1.0, asyncio.Event())
    await running


async def test_a_drain_ends_although_the_database_is_away(desk):
    """Neither the answer nor the lease can be written: the process stops all the same."""
    await submitted(desk)
    call = Stubborn(SLOW)
    away = Away(desk.store)
    supply = make_supply(msgspec.structs.replace(desk, call=call, store=away))
    running = asyncio.create_task(supply.run())
    await call.working.wait()
    away.away = True

    async with asyncio.timeout(15):
        await supply.drain(0.1, asyncio.Event())
        await running


class Stubborn(Script):
    """A call that takes three seconds to clean up."""

    async def __call__(self, job, *, deadline, books, holds):
        try:
            return await super().__call__(job, deadline=deadline, books=books, holds=holds)
        except asyncio.CancelledError:
            await asyncio.sleep(3.0)
            raise


class Away:
    """A store that stops answering when told."""

    def __init__(self, store) -> None:
        self._store = store
        self.away = False

    def _open(self, kind):
        if self.away:
            raise StoreUnavailable("away")
        return getattr(self._store, kind)()

    def read(self):
        return self._open("read")

    def write(self):
        return self._open("write")


async def test_a_database_that_comes_back_is_used_again(desk):
    job = await submitted(desk)
    away = Away(desk.store)
    away.away = True
    supply = make_supply(msgspec.structs.replace(desk, store=away))
    running = asyncio.create_task(supply.run())
    await asyncio.sleep(0.2)  # it has failed at least once

    away.away = False

    await ended(desk, job)
    await supply.drain(1.0, asyncio.Event())
    await running


async def test_what_a_job_does_carries_its_ids(desk):
    """Every log line below reads them from the context, those of the gateway too."""
    seen = []

    async def call(job, *, deadline, books, holds):
        seen.append(current_ids())
        return await Script()(job, deadline=deadline, books=books, holds=holds)

    jobs = [await submitted(desk) for _ in range(3)]
    supply = make_supply(with_call(desk, call))
    running = asyncio.create_task(supply.run())

    await ended(desk, *jobs)

    await supply.drain(5.0, asyncio.Event())
    await running
    expected = [{"request_id": job.request_id, "job_id": job.id} for job in jobs]
    assert sorted(expected, key=str) == sorted(seen, key=str)
    assert {} == current_ids()
