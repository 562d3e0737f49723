"""A tenant with very many jobs and one with a single job, on the same few slots."""

import asyncio

import pytest
import sqlalchemy as sa

from shared.identity import Principal
from tests.edge.workers.makers import FAST, Script, submitted, until, with_call
from workers.supply import Supply

pytestmark = pytest.mark.anyio

NOISE = 10_000
SLOTS = 8
JOB_S = 0.2
QUIET = Principal(tenant_id="quiet", key_id="key_2", key_name="ci")

COPIES = """
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :count)
INSERT INTO {table} ({columns})
SELECT {values} FROM {table} CROSS JOIN number WHERE {table}.{key} = :id
"""


async def multiplied(desk, job_id: str, count: int) -> None:
    """Queue so many copies of a job: submitting each would take longer than the test."""
    async with desk.store.write() as tx:
        for table, key in (("job", "id"), ("job_content", "job_id")):
            found = await tx.connection.execute(sa.text(f"SELECT * FROM {table} LIMIT 1"))
            names = [f'"{name}"' for name in found.keys()]  # noqa: SIM118 (it is no dict)
            values = [f"{name} || '_' || n" if name == f'"{key}"' else name for name in names]
            statement = COPIES.format(
                table=table, key=key, columns=", ".join(names), values=", ".join(values)
            )
            await tx.connection.execute(sa.text(statement), {"count": count, "id": job_id})


async def test_a_single_job_waits_less_than_two_job_lengths_behind_ten_thousand(desk):
    """Told by jobs, not by a clock: fewer others are begun before it than there are slots."""
    call = Script(JOB_S)
    desk = with_call(desk, call)
    noisy = await submitted(desk)
    await multiplied(desk, noisy.id, NOISE - 1)
    supply = Supply(desk, owner="w1", slots=SLOTS, queue=FAST)
    running = asyncio.create_task(supply.run())

    def begun() -> list[str]:
        return [str(opening.job_id) for opening in call.openings]

    async def busy():
        return len(begun()) >= 2 * SLOTS

    await until(busy)
    single = await submitted(desk, principal=QUIET)
    before = len(begun())

    async def started():
        return single.id in begun()

    await until(started)
    await supply.drain(5.0, asyncio.Event())
    await running
    assert begun().index(single.id) - before <= 2 * SLOTS
