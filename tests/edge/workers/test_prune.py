"""Jobs and batches are kept for a while, and then nothing is left of them but what they cost."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from shared.jobs.lease import Interrupt
from shared.jobs.prune import prune_batches, prune_jobs
from shared.jobs.results import MOST_INLINE_BYTES
from shared.jobs.run import run_job
from shared.store.batches import NewBatch, change_batch, get_batch, insert_batch
from shared.store.jobs import attempts_of, get_job
from tests.edge.workers.makers import (
    COST,
    Script,
    claimed_one,
    make_past,
    outcomes,
    read_job,
    spent,
    submitted,
    with_call,
)

pytestmark = pytest.mark.anyio

DAY_S = 86_400.0
LARGE = b'"' + b"x" * MOST_INLINE_BYTES + b'"'


async def ended_long_ago(desk, body=LARGE) -> str:
    job = await submitted(desk)
    await run_job(await claimed_one(desk), with_call(desk, Script(body)), Interrupt())
    await make_past(desk, job.id, "finished_at")
    return job.id


async def test_a_job_that_ended_long_ago_leaves_only_its_cost(desk):
    job_id = await ended_long_ago(desk)
    assert 1 == len(desk.objects.kept)

    assert 1 == await prune_jobs(desk.store, desk.objects, keep_s=DAY_S)

    async with desk.store.read() as tx:
        assert await get_job(tx, "acme", job_id) is None
        assert [] == await attempts_of(tx, job_id)
    assert {} == desk.objects.kept
    assert (1, COST) == await spent(desk)
    assert 0 == await prune_jobs(desk.store, desk.objects, keep_s=DAY_S)


async def test_jobs_that_are_open_or_have_just_ended_stay(desk):
    done = await submitted(desk)
    await run_job(await claimed_one(desk), desk, Interrupt())
    waiting = await submitted(desk)

    assert 0 == await prune_jobs(desk.store, desk.objects, keep_s=DAY_S)

    assert ["succeeded"] == await outcomes(desk, done.id)
    assert "queued" == (await read_job(desk, waiting.id)).status


async def test_while_the_object_store_is_away_nothing_is_forgotten(desk):
    """A row that is gone would name no object any more."""
    job_id = await ended_long_ago(desk)
    desk.objects.away = True

    with pytest.raises(Exception, match="away"):
        await prune_jobs(desk.store, desk.objects, keep_s=DAY_S)

    assert "succeeded" == (await read_job(desk, job_id)).status


async def make_batch(desk, status: str | None = None, *, ended_s: float = 0, **values) -> str:
    """Insert a batch; with a status it ended so many seconds ago."""
    async with desk.store.write() as tx:
        now = await tx.now()
        new = NewBatch(
            id=desk.ids("batch"), tenant_id="acme", key_id="k", request_id="r",
            endpoint="/v1/chat/completions", input_file_id="f", completion_window="24h",
            expires_at=now,
        )  # fmt: skip
        await insert_batch(tx, new, now - timedelta(days=9))
        if status is not None:
            row = await get_batch(tx, "acme", new.id)
            assert row is not None
            moment = now - timedelta(seconds=ended_s)
            ended = {"status": status, f"{status}_at": moment, **values}
            assert await change_batch(tx, row, ended)
    return new.id


async def batches_left(desk, *batch_ids: str) -> list[str]:
    async with desk.store.read() as tx:
        return [one for one in batch_ids if await get_batch(tx, "acme", one) is not None]


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
async def test_batches_that_ended_long_ago_are_forgotten(desk, status):
    old = await make_batch(desk, status, ended_s=DAY_S + 60)
    young = await make_batch(desk, status, ended_s=DAY_S - 60)
    is_open = await make_batch(desk)

    assert 1 == await prune_batches(desk.store, keep_s=DAY_S)
    assert 0 == await prune_batches(desk.store, keep_s=DAY_S)

    assert [young, is_open] == await batches_left(desk, old, young, is_open)


async def test_a_batch_outlives_its_lines_and_says_what_they_came_to(desk):
    batch_id = await make_batch(desk, "completed", ended_s=2 * DAY_S, completed=1, cost_nanousd=5)
    job_id = await ended_long_ago(desk)
    async with desk.store.write() as tx:
        await tx.connection.execute(
            sa.text("UPDATE job SET batch_id = :batch WHERE id = :job"),
            {"batch": batch_id, "job": job_id},
        )
    assert 0 == await prune_batches(desk.store, keep_s=DAY_S)
    assert 1 == await prune_jobs(desk.store, desk.objects, keep_s=DAY_S)

    async with desk.store.read() as tx:
        row = await get_batch(tx, "acme", batch_id)
    assert row is not None
    assert (1, 5) == (row.completed, row.cost_nanousd)
    assert 1 == await prune_batches(desk.store, keep_s=DAY_S)
