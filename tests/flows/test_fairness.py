"""Nobody waits behind another tenant's queue, however long it is."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest

from shared.store.batch_lines import insert_lines
from shared.store.engine import open_store
from shared.store.records import NewJob
from tests.fakes.stack import Stack, eventually, running_stack

QUEUED = 10_000
SLOTS = 20
LENGTH_S = 1.0
"""How long a job's call takes."""
QUIET = ("sk-quiet-0123456789abcdef", 3)
"""Somebody's key, and how many jobs they submit, one after the other."""

CONFIG = f"""
version: 1
providers: {{mock: {{kind: mock}}}}
routes:
  - {{model: mock, targets: [{{provider: mock, model: mock-1}}]}}
tenants:
  - {{id: noisy, keys: [{{name: ci, key: sk-noisy-0123456789abcdef}}]}}
  - {{id: quiet, keys: [{{name: ci, key: {QUIET[0]}}}]}}
"""
CALL = {
    "model": "mock",
    "messages": [{"role": "user", "content": "hello"}],
    "mock": {"delay_ms": 1000 * LENGTH_S},
}
AT_WORK = "SELECT count(*) AS jobs FROM attempt WHERE outcome IS NULL"
WAITING = "SELECT count(*) AS jobs FROM job WHERE tenant_id = 'noisy' AND status = 'queued'"


@pytest.fixture
def stack(tmp_path: Path, store_url: str) -> Iterator[Stack]:
    with running_stack(tmp_path / "stack", CONFIG, database_url=store_url) as running:
        yield running


def test_a_noisy_tenant_delays_another_by_less_than_two_of_its_jobs(stack: Stack, store_url: str):
    """All slots are taken by one with 10,000 more jobs waiting; the other's next one has a turn."""
    api = stack.api()
    asyncio.run(queue(store_url, QUEUED))
    stack.worker(f"--slots={SLOTS}")
    eventually(lambda: SLOTS == count(stack, AT_WORK), within_s=30, what="calls of the noisy one")

    key, jobs = QUIET
    headers = {"authorization": f"Bearer {key}", "prefer": "respond-async, wait=30"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60) as quiet:
        ended = [quiet.post("/v1/chat/completions", json=CALL) for _ in range(jobs)]

    assert [200] * jobs == [answer.status_code for answer in ended]
    waits_s = [delayed_s(stack, answer.headers["x-sluiceway-job"]) for answer in ended]
    assert 2 * LENGTH_S > max(waits_s), waits_s
    assert QUEUED / 2 < count(stack, WAITING), "the queue was long all the time"


async def queue(store_url: str, jobs: int) -> None:
    """Queue so many jobs of the noisy tenant."""
    store = await open_store(store_url)
    try:
        async with store.write() as tx:
            now = await tx.now()
            await insert_lines(tx, [noisy(number, now) for number in range(jobs)], now)
    finally:
        await store.close()


def noisy(number: int, now: datetime) -> NewJob:
    return NewJob(
        id=f"job_{number:06}",
        tenant_id="noisy",
        key_id="file:noisy/ci",
        request_id=f"req_{number}",
        endpoint="/v1/chat/completions",
        body=msgspec.json.encode(CALL),
        deadline=now + timedelta(hours=1),
        model="mock",
    )


def count(stack: Stack, query: str) -> int:
    [found] = stack.rows(query)
    return int(str(found["jobs"]))


def delayed_s(stack: Stack, job_id: str) -> float:
    """Return how much longer a job took, from its acceptance to its end, than its call."""
    [job] = stack.rows("SELECT created_at, finished_at FROM job WHERE id = :id", id=job_id)
    took = int(str(job["finished_at"])) - int(str(job["created_at"]))
    return took / 1e6 - LENGTH_S
