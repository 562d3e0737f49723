"""Kill the process before and after each of its commits: whoever comes next makes it good.

Every life below is lived once to see what it writes, and then again and again, each time with a
crash at another write. Afterwards new processes go on, and every law must hold.
"""

import asyncio
import json
import os
from datetime import timedelta
from itertools import product

import msgspec
import pytest

from shared.ids import new_id
from shared.jobs.batch.submit import BatchOrder, submit_batch
from shared.jobs.lease import Reason
from shared.jobs.results import MOST_INLINE_BYTES
from shared.jobs.stream.scribe import ENOUGH
from shared.jobs.terms import Wishes
from shared.sealing import Sealer
from shared.store.endpoints import EndpointRow, insert_endpoint
from shared.store.engine import open_store
from shared.store.files import NewFile, insert_file, publish_file
from shared.store.keys import ensure_tenant
from shared.webhooks.signature import new_secret
from tests.chaos.crashing import CrashingStore, Moment, until_it_crashes
from tests.chaos.look import looking_at
from tests.chaos.world import HANGS, LATER, LEASE_S, SPENT, Process, World, WorldClock
from tests.contract.batches.rig import CHAT, good
from tests.edge.workers.makers import PRINCIPAL
from tests.edge.workers.receiver import running_receiver
from tests.edge.workers.test_streams import response_events

pytestmark = pytest.mark.anyio

MOMENTS: tuple[Moment, ...] = ("commit", "answer")
"""A crash at a begin leaves what one after the write before it leaves."""
FULL = "SLUICEWAY_CHAOS_FULL" in os.environ
MOST = {"sqlite": 16, "postgresql": 5}
"""Crashes of each life, spread evenly, unless the whole sweep is asked for."""
LARGE = b'{"text":"%b"}' % (b"x" * MOST_INLINE_BYTES)
LINES = 4


@pytest.fixture
async def world(store_url):
    clock = WorldClock()
    store = await open_store(store_url, clock=clock)
    secret = Sealer("k").seal(new_secret(os.urandom))
    async with running_receiver() as receiver:
        async with store.write() as tx:
            await ensure_tenant(tx, "acme", secret, clock.now())
            await insert_endpoint(
                tx,
                EndpointRow(
                    id="we_1",
                    tenant_id="acme",
                    name="batches",
                    url=receiver.url("/batches"),
                    event_types=("batch.completed",),
                    secret=secret,
                    concurrency=5,
                    created_at=clock.now(),
                ),
            )
        with looking_at(store_url) as rows:
            yield World(store, clock, rows, receiver.url("/jobs"))
    await asyncio.shield(store.close())


async def a_named_job(process: Process, key: str) -> None:
    """Asked for by name, run, told of."""
    await process.ask(key)
    await process.work()
    await process.post()


async def a_job_that_waits(process: Process, key: str) -> None:
    """Tried again twice: one run is counted, the other only put off."""
    process.world.provider.scripts[key] = [SPENT, LATER]
    await process.accept(key)
    for _ in range(3):
        await process.work()
        process.world.clock.forward(60)
    await process.post()


async def a_job_that_is_cancelled(process: Process, key: str) -> None:
    """While its provider is at it."""
    process.world.provider.scripts[key] = [HANGS]
    await process.accept(key)
    job, interrupt, running = await process.begin()
    await process.cancel(job)
    await process.beat(job, interrupt)
    await running
    await process.post()


async def a_job_that_is_cancelled_before_it_runs(process: Process, key: str) -> None:
    await process.cancel(await process.accept(key))
    await process.post()


async def a_job_that_is_given_back(process: Process, key: str) -> None:
    """By a worker that stops."""
    process.world.provider.scripts[key] = [HANGS, LARGE]
    await process.accept(key)
    _, interrupt, running = await process.begin()
    interrupt.stop(Reason.STOPPING)
    await running
    await process.work()


async def a_job_whose_worker_is_gone(process: Process, key: str) -> None:
    """Its call is written off, and it runs again."""
    process.world.provider.scripts[key] = [HANGS]
    await process.accept(key)
    _, _, running = await process.begin()
    process.world.clock.forward(LEASE_S + 1)
    await process.care()
    running.cancel()
    await process.work()
    await process.post()


async def a_job_that_is_too_late(process: Process, key: str) -> None:
    deadline = (process.world.clock.now() + timedelta(seconds=5)).isoformat()
    await process.accept(key, wishes=Wishes(webhook_url=process.world.hook, deadline=deadline))
    process.world.clock.forward(6)
    await process.care()
    await process.post()


async def a_response_that_is_streamed(process: Process, key: str) -> None:
    """In the background, kept while it comes."""
    words = [f"{number} " for number in range(2 * ENOUGH)]
    process.world.provider.scripts[key] = response_events(*words)
    await process.respond(key)
    await process.work()
    await process.post()


async def a_batch(process: Process, key: str) -> None:
    """From its file to its files, in groups."""
    content = good(LINES)

    async def pieces():
        yield content

    new = NewFile(id=new_id("file"), tenant_id="acme", purpose="batch", filename=key)
    async with process.store.write() as tx:
        row = await insert_file(tx, new)
    await process.world.objects.put(row.object_key, pieces())
    async with process.store.write() as tx:
        await publish_file(tx, msgspec.structs.replace(row, bytes=len(content)))
    order = BatchOrder(input_file_id=new.id, endpoint=CHAT, completion_window="24h", request_id=key)
    await submit_batch(process.store, process.desk.bell, new_id, principal=PRINCIPAL, order=order)
    for _ in range(3):
        await process.bring_on()
        await process.work()
        process.world.clock.forward(LEASE_S)
    await process.post()


GOOD = {"succeeded"}
LIVES = {
    a_named_job: GOOD,
    a_job_that_waits: GOOD,
    a_job_that_is_cancelled: {"cancelled", "succeeded"},
    a_job_that_is_cancelled_before_it_runs: {"cancelled", "succeeded"},
    a_job_that_is_given_back: GOOD,
    a_job_whose_worker_is_gone: GOOD,
    a_job_that_is_too_late: {"expired"},
    a_response_that_is_streamed: {"succeeded", "failed"},
    a_batch: GOOD,
}
"""And how their jobs may end; one that was not cancelled before the crash is not cancelled."""


@pytest.mark.parametrize("life", LIVES)
async def test_a_crash_at_any_write_is_made_good(world: World, life):
    """Every law holds in the end, whichever write it was."""
    rehearsal = CrashingStore(world.store)
    await life(world.process(rehearsal), new_id("req"))
    await world.goes_on()

    crashes = list(product(enumerate(rehearsal.writes), MOMENTS))
    # Odd, so that both moments have their turn.
    step = 1 if FULL else len(crashes) // MOST[world.store.backend] | 1
    for (number, writer), moment in crashes[step // 2 :: step]:
        process = CrashingStore(world.store, number=number, moment=moment)
        await until_it_crashes(life(world.process(process), new_id("req")), process)
        # How often events are kept is a matter of time: there may have been one write less.
        assert process.crashed.is_set() or life is a_response_that_is_streamed
        try:
            await world.goes_on()
            assert [] == world.wrongs()
        except AssertionError as error:
            error.add_note(f"after a crash at write {number}, {writer}, {moment}")
            raise
    assert LIVES[life] >= {row["status"] for row in world.rows("SELECT status FROM job")}
    codes = world.rows("SELECT error FROM job WHERE status = 'failed'")
    assert {"worker_lost"} >= {json.loads(row["error"])["code"] for row in codes}
