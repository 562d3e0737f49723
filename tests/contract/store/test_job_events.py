"""Events of streamed jobs: in order, under a lease, of one generation."""

import pytest

from shared.store.claims import claim, expired_leases, request_cancel, requeue_lost
from shared.store.job_events import (
    ACCEPTED,
    Begun,
    EventRows,
    Refused,
    append_events,
    begun,
    events_after,
    insert_events,
    is_cancelling,
    status_of,
)
from shared.store.jobs import delete_job, insert_job
from tests.contract.store.makers import START, make_job

pytestmark = pytest.mark.anyio

CLASSES = ("interactive", "default", "batch")


def make_rows(first_no, last_no, *, token=1, job_id="job_1") -> EventRows:
    told = b"".join(b"data: %d\n\n" % number for number in range(first_no, last_no + 1))
    return EventRows(job_id=job_id, token=token, first_no=first_no, last_no=last_no, events=told)


@pytest.fixture
async def running(store):
    """Two jobs that run under the token 1."""
    async with store.write() as tx:
        for name in ("job_1", "job_2"):
            await insert_job(tx, make_job(name, streamed=True), START)
        await claim(tx, owner="w1", lease_s=30.0, limit=2, classes=CLASSES)


async def append(store, *rows):
    async with store.write() as tx:
        return await append_events(tx, rows, START)


async def kept(store, after=-1, job_id="job_1", limit=10):
    async with store.read() as tx:
        return await events_after(tx, job_id, after, limit=limit)


async def how_far(store, job_id="job_1"):
    async with store.read() as tx:
        return await begun(tx, job_id)


async def test_events_are_read_from_a_number_on(store, running):
    """A row that holds the wanted event is given whole; others do not come again."""
    await append(store, make_rows(0, 1), make_rows(0, 0, job_id="job_2"))
    await append(store, make_rows(2, 4))

    assert [make_rows(0, 1), make_rows(2, 4)] == await kept(store)
    assert [make_rows(2, 4)] == await kept(store, after=3)
    assert [] == await kept(store, after=4)
    assert [make_rows(0, 1)] == await kept(store, limit=1)
    assert Begun(last_no=4, by_worker=True) == await how_far(store)


async def test_a_write_whose_outcome_is_unknown_is_repeated(store, running):
    await append(store, make_rows(0, 1))

    assert Refused() == await append(store, make_rows(0, 1), make_rows(0, 0, job_id="job_2"))

    assert [make_rows(0, 1)] == await kept(store)


async def test_without_its_lease_a_job_tells_nothing(store, running):
    """The others of the same transaction are kept."""
    refused = await append(store, make_rows(0, 1, token=7), make_rows(0, 0, job_id="job_2"))

    assert Refused(lost=frozenset({"job_1"})) == refused
    assert [] == await kept(store)
    assert [make_rows(0, 0, job_id="job_2")] == await kept(store, job_id="job_2")


async def test_a_job_that_is_to_be_cancelled_tells_nothing_more(store, running):
    """Its run learns of it here; the others of the same transaction are kept."""
    async with store.write() as tx:
        await request_cancel(tx, "acme", "job_1", START)

    refused = await append(store, make_rows(0, 1), make_rows(0, 0, job_id="job_2"))

    assert Refused(cancelling=frozenset({"job_1"})) == refused
    assert [] == await kept(store)
    assert [make_rows(0, 0, job_id="job_2")] == await kept(store, job_id="job_2")


async def test_two_generations_are_never_mixed(store, running, clock):
    """Of two runs that begin at once, one finds its place taken."""
    clock.forward(60.0)
    async with store.write() as tx:
        for job in await expired_leases(tx, clock.now(), 10):
            await requeue_lost(tx, job, clock.now())
        await claim(tx, owner="w2", lease_s=30.0, limit=2, classes=CLASSES)
    await append(store, make_rows(0, 3, token=3))

    refused = await append(store, make_rows(0, 1, token=1))
    assert Refused(lost=frozenset({"job_1"})) == refused
    async with store.write() as tx:
        assert not await insert_events(tx, make_rows(0, 5, token=4), START)
    assert [make_rows(0, 3, token=3)] == await kept(store)


async def test_events_of_the_acceptance_are_no_workers(store, running):
    assert Begun() == await how_far(store)
    async with store.write() as tx:
        assert await insert_events(tx, make_rows(0, 1, token=ACCEPTED), START)

    assert Begun(last_no=1, by_worker=False) == await how_far(store)


async def test_events_go_with_their_job(store, running):
    await append(store, make_rows(0, 1))
    async with store.write() as tx:
        assert "running" == await status_of(tx, "job_1")
        assert not await is_cancelling(tx, "job_1")
        await tx.connection.exec_driver_sql("UPDATE job SET status = 'succeeded'")
        await delete_job(tx, "acme", "job_1")

    assert [] == await kept(store)
    async with store.read() as tx:
        assert await status_of(tx, "job_1") is None
