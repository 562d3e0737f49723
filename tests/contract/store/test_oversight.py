"""What operators see and say: stuck jobs, pauses, workers."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from shared.store.claims import claim, reschedule
from shared.store.jobs import insert_job
from shared.store.oversight import (
    STUCK,
    Wanted,
    count_by_status,
    count_stuck,
    find_job,
    list_overseen,
    queue_now,
)
from shared.store.pauses import pause, pauses, resume
from shared.store.tables import job
from shared.store.workers import (
    FORGOTTEN,
    Presence,
    be_seen,
    leave,
    list_workers,
    prune_workers,
    set_drain,
)
from tests.contract.store.makers import START, make_job

MINUTES = timedelta(minutes=1)


async def inserted(store, *new, **changes):
    """Insert jobs, and change their rows by hand."""
    async with store.write() as tx:
        for one in new:
            await insert_job(tx, one, await tx.now())
            if changes:
                await tx.connection.execute(
                    sa.update(job).where(job.c.id == one.id).values(changes)
                )


async def found(store, **wanted):
    async with store.read() as tx:
        return [(one.job.id, one.stuck) for one in await list_overseen(tx, Wanted(**wanted))]


HELD = {"status": "running", "lease_owner": "w", "lease_token": 1}


@pytest.mark.parametrize(
    ("changes", "stuck"),
    [
        ({**HELD, "lease_until": START - 2 * MINUTES}, "lease_ended"),
        ({**HELD, "lease_until": START - MINUTES / 2}, None),
        ({"deadline": START - 2 * MINUTES}, "past_deadline"),
        ({"deadline": START - MINUTES / 2}, None),
        ({**HELD, "lease_until": START + MINUTES, "recoveries": 2}, "kills_workers"),
        ({"queued_at": START - 11 * MINUTES}, "queued_long"),
        ({"queued_at": START - 11 * MINUTES, "priority": "batch"}, None),
        ({"queued_at": START - 9 * MINUTES}, None),
        ({"status": "failed", "recoveries": 4, "deadline": START - 2 * MINUTES}, None),
    ],
)
async def test_a_job_is_stuck_when_it_does_not_move_as_it_should(store, changes, stuck):
    await inserted(store, make_job(), **changes)

    async with store.read() as tx:
        overseen = await find_job(tx, "job_1")
        counts = await count_stuck(tx)

    assert overseen is not None
    assert b'{"model":"m"}' == overseen.job.body
    if changes.get("status") != "failed":
        assert stuck == overseen.stuck
    assert ({} if stuck is None else {stuck: 1}) == counts
    assert ([] if stuck is None else [("job_1", stuck)]) == await found(store, stuck=True)
    assert stuck in {None, *STUCK}


async def test_jobs_of_all_tenants_are_listed_in_pages(store, clock):
    for number, tenant in enumerate(("acme", "other", "acme")):
        clock.forward(1)
        priority = "batch" if number else "default"
        await inserted(store, make_job(f"job_{number}", tenant_id=tenant, priority=priority))

    assert ["job_2", "job_1"] == [own_id for own_id, _ in await found(store, limit=2)]
    assert [("job_0", None)] == await found(store, limit=2, after="job_1")
    assert [("job_1", None)] == await found(store, tenant_id="other")
    assert [("job_2", None)] == await found(store, tenant_id="acme", priority="batch")
    assert [] == await found(store, status="failed")
    async with store.read() as tx:
        assert {("default", "queued"): 1, ("batch", "queued"): 2} == await count_by_status(tx)
        assert await find_job(tx, "job_9") is None


async def test_a_job_that_is_put_off_is_queued_at_a_word(store):
    await inserted(store, make_job())
    async with store.write() as tx:
        [held] = await claim(tx, owner="w", lease_s=30, limit=1, classes=["default"])
        await reschedule(
            tx,
            job_id=held.id,
            token=held.lease_token,
            not_before=START + 60 * MINUTES,
            spent=False,
            waits_for="overloaded",
        )

    async with store.write() as tx:
        assert await queue_now(tx, "job_1")
        assert not await queue_now(tx, "job_1")

    async with store.read() as tx:
        overseen = await find_job(tx, "job_1")
    assert overseen is not None
    assert ("queued", None, None) == (
        overseen.job.status,
        overseen.job.waits_for,
        overseen.job.not_before,
    )


async def test_pauses_are_kept_until_they_are_lifted(store, clock):
    """A second pause changes the reason only."""
    async with store.write() as tx:
        await pause(tx, "tenant:acme", None)
        await pause(tx, "class:batch", "the provider is down")
    clock.forward(60)
    async with store.write() as tx:
        await pause(tx, "tenant:acme", "noisy")
        now = await pauses(tx)
        assert await resume(tx, "tenant:acme")
        assert not await resume(tx, "tenant:acme")
        after = await pauses(tx)

    assert [("class:batch", "the provider is down", START), ("tenant:acme", "noisy", START)] == [
        (one.scope, one.reason, one.since) for one in now
    ]
    assert ["class:batch"] == [one.scope for one in after]


def present(owner="w", *, started_at=START, running=0):
    return Presence(owner=owner, host="h", started_at=started_at, slots=8, running=running)


async def test_a_worker_hears_that_it_is_to_drain(store, clock):
    """Its next life under the same name works again."""
    async with store.write() as tx:
        assert not await be_seen(tx, present())
        assert await set_drain(tx, "w", at=await tx.now())
        assert not await set_drain(tx, "nobody", at=None)
    clock.forward(10)

    async with store.write() as tx:
        assert await be_seen(tx, present(running=3))
        [row] = await list_workers(tx)
        assert not await be_seen(tx, present(started_at=START + MINUTES))
    assert (3, START, START + timedelta(seconds=10)) == (row.running, row.drain_at, row.seen_at)


async def test_a_worker_works_on_when_the_word_is_taken_back(store):
    async with store.write() as tx:
        await be_seen(tx, present())
        await set_drain(tx, "w", at=START)
        await set_drain(tx, "w", at=None)

        assert not await be_seen(tx, present())


async def test_workers_that_end_or_died_long_ago_are_forgotten(store, clock):
    async with store.write() as tx:
        await be_seen(tx, present("ended"))
        await be_seen(tx, present("dead"))
        await leave(tx, "ended")
    clock.forward(FORGOTTEN.total_seconds() + 1)

    async with store.write() as tx:
        await be_seen(tx, present("alive"))
        assert 1 == await prune_workers(tx, await tx.now())
        assert ["alive"] == [one.owner for one in await list_workers(tx)]
