"""A worker is seen while it lives, and drains at a word."""

import asyncio

import pytest

from shared.store.workers import list_workers, set_drain
from tests.edge.workers.makers import FAST, Script, read_job, submitted, until, with_call
from workers.presence import Berth, keep_present
from workers.supply import Supply

pytestmark = pytest.mark.anyio


async def test_a_worker_that_drains_ends_what_it_runs_and_claims_no_more(desk):
    """Told to work again it does, and it says goodbye at its end."""
    call = Script(0.3, b'{"n": 2}')
    working = with_call(desk, call)
    supply = Supply(working, owner="w1", slots=4, queue=FAST)
    running = asyncio.create_task(supply.run())
    shown = asyncio.create_task(keep_present(supply, desk, Berth("w1", 4), heartbeat_s=0.05))

    async def seen():
        async with desk.store.read() as tx:
            return await list_workers(tx)

    async def tell(*, drains):
        async with desk.store.write() as tx:
            await set_drain(tx, "w1", at=await tx.now() if drains else None)

    async def status(job):
        return (await read_job(desk, job.id)).status

    async def drains():
        return supply.draining

    first = await submitted(desk)
    await call.working.wait()

    async def seen_running():
        return [one.running for one in await seen()] == [1]

    await until(seen_running)
    await tell(drains=True)
    await until(drains)
    second = await submitted(desk)
    supply.ring()

    async def first_ended():
        return await status(first) == "succeeded"

    await until(first_ended)
    assert "queued" == await status(second)

    await tell(drains=False)

    async def second_ended():
        return await status(second) == "succeeded"

    await until(second_ended)
    supply.stop()
    await running
    shown.cancel()
    await asyncio.gather(shown, return_exceptions=True)
    assert [] == await seen()
