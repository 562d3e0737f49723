"""The store on the event loop of production."""

import asyncio
import gc

import pytest

from shared.store.claims import claim, finish
from shared.store.jobs import insert_job
from tests.contract.store.makers import START, ended, make_job


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio", {"use_uvloop": True}


async def test_jobs_run_and_cancelled_ones_leave_the_connections_usable(store):
    assert "uvloop" in type(asyncio.get_running_loop()).__module__
    async with store.write() as tx:
        for number in range(30):
            await insert_job(tx, make_job(f"job_{number:02}"), START)

    async def work(owner, *, stuck):
        async with store.write() as tx:
            (job,) = await claim(tx, owner=owner, lease_s=30, limit=1, classes=["default"])
            if stuck:
                await asyncio.Event().wait()
            return await finish(tx, job_id=job.id, token=job.lease_token, end=ended())

    stuck = [asyncio.create_task(work(f"stuck_{n}", stuck=True)) for n in range(5)]
    await asyncio.sleep(0.05)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    done = await asyncio.gather(*(work(f"w{n}", stuck=False) for n in range(20)))

    assert [True] * 20 == done
    await store.close()
    gc.collect()
