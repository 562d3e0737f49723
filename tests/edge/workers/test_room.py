"""How many jobs may wait, and what those are told who come too late."""

from datetime import timedelta

import pytest

from shared.config.conduct import QueueConfig
from shared.errors import QueueFull
from shared.jobs.room import MARGIN, Room
from shared.store.claims import end_unleased
from shared.store.engine import open_store
from shared.store.jobs import get_job, insert_job
from shared.store.pauses import pause
from shared.store.workers import Presence, be_seen
from tests.contract.store.makers import START, StoppedClock, ended, make_job

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture
async def store(sqlite_url, clock):
    opened = await open_store(sqlite_url, clock=clock)
    yield opened
    await opened.close()


async def put(store, room, *jobs) -> None:
    """Insert jobs that there is room for."""
    async with store.write() as tx:
        for job in jobs:
            await room.check(tx, job)
            await insert_job(tx, job, START)


async def refusal(store, room, job) -> QueueFull:
    with pytest.raises(QueueFull) as refused:
        await put(store, room, job)
    return refused.value


async def test_a_class_may_be_bounded_for_all_tenants_together(store, clock):
    room = Room(QueueConfig(max_queued={"batch": 2}), clock)
    await put(
        store,
        room,
        make_job("a", priority="batch"),
        make_job("b", priority="batch", tenant_id="other"),
    )

    assert "class batch" in (await refusal(store, room, make_job("c", priority="batch"))).message
    await put(store, room, make_job("d", priority="default"))


@pytest.mark.parametrize(("done", "retry_s"), [(0, 120.0), (3, 40.0), (600, 1.0)])
async def test_who_comes_too_late_is_told_how_long_the_queue_takes(store, clock, done, retry_s):
    """Two jobs wait; so many were done in the last minute."""
    room = Room(QueueConfig(max_queued_per_tenant=2), clock)
    async with store.write() as tx:
        for number in range(done):
            await insert_job(tx, make_job(f"done_{number}"), START)
            await end_unleased(tx, f"done_{number}", ended(at=START))
    await put(store, room, make_job("a"), make_job("b"))

    assert retry_s == (await refusal(store, room, make_job("c"))).retry_after_s


async def test_far_below_the_limit_jobs_are_counted_once_a_second(store, clock):
    """What other processes have inserted is seen a second later; own jobs count at once."""
    ours = Room(QueueConfig(max_queued_per_tenant=MARGIN + 3), clock)
    theirs = Room(QueueConfig(), clock)
    await put(store, ours, make_job("a"))
    await put(store, theirs, *(make_job(f"b{number}") for number in range(MARGIN + 2)))

    await put(store, ours, make_job("c"))
    clock.forward(1.5)

    assert (await refusal(store, ours, make_job("d"))).retry_after_s > 0


@pytest.mark.parametrize(
    ("running", "waited_s", "paused", "starts_in_s"),
    [
        (9, 0.0, None, 0.0),
        (10, 0.0, None, 30.0),
        (9, 5.0, None, 30.0),
        (9, 0.0, "tenant:acme", 30.0),
        (9, 0.0, "class:default", 30.0),
        (9, 0.0, "tenant:other", 0.0),
        (None, 0.0, None, 30.0),
    ],
)
async def test_where_a_worker_is_free_a_job_starts_at_once(
    store, clock, running, waited_s, paused, starts_in_s
):
    """Otherwise it waits as long as the queue took lately: two jobs a minute."""
    room = Room(QueueConfig(), clock)
    async with store.write() as tx:
        for number in range(2):
            await insert_job(tx, make_job(f"done_{number}"), START)
            await end_unleased(tx, f"done_{number}", ended(at=START))
        await insert_job(tx, make_job("a"), START)
        if running is not None:
            here = {"owner": "w", "host": "h", "started_at": START, "slots": 10}
            await be_seen(tx, Presence(**here, running=running))
        if paused is not None:
            await pause(tx, paused, None)
    clock.forward(waited_s)

    async with store.read() as tx:
        row = await get_job(tx, "acme", "a")
        starts_at = await room.starts_at(tx, row, 1)

    assert timedelta(seconds=starts_in_s) == starts_at - clock.now()
