"""The worker process itself: started by its command, stopped by signals, supervised."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.ids import new_id
from shared.store.engine import open_store
from shared.store.keys import ensure_tenant
from shared.webhooks.signature import new_secret
from tests.edge.workers.makers import RecordingBell, make_desk, submitted
from tests.fakes.stack import Child, Stack, eventually, running_stack
from tests.fakes.upstream import Upstream, says
from tests.fakes.vendor import running_vendor, slowly
from workers.supervisor import release_leases

pytestmark = pytest.mark.anyio

CONFIG = """
version: 1
providers:
  alpha: {{kind: openai_compatible, base_url: "{base_url}", api_key: sk-upstream}}
routes:
  - model: m
    targets: [{{provider: alpha, model: pm}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
queue: {{lease_s: 2, heartbeat_s: 0.5, poll_s: 0.1}}
"""


@pytest.fixture
def vendor() -> Iterator[Upstream]:
    with running_vendor() as running:
        yield running


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str, vendor: Upstream) -> Iterator[Stack]:
    config = CONFIG.format(base_url=vendor.base_url("alpha"))
    with running_stack(
        tmp_path / "stack", config, database_url=sqlite_url, covered=True
    ) as running:
        yield running


@pytest.fixture
async def submit(sqlite_url):
    """Submits jobs straight to the database: there is no API and no broker here."""
    store = await open_store(sqlite_url)
    async with store.write() as tx:
        await ensure_tenant(tx, "acme", new_secret(os.urandom), await tx.now())
    desk = make_desk(store=store, bell=RecordingBell(), clock=SystemClock(), ids=new_id)

    async def submit_(count: int) -> None:
        for _ in range(count):
            await submitted(desk)

    yield submit_
    await store.close()


def statuses(stack: Stack) -> list[str]:
    return [str(row["status"]) for row in stack.rows("SELECT status FROM job")]


def all_done(stack: Stack) -> bool:
    return {"succeeded"} == set(statuses(stack))


def children_of(child: Child) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(child.process.pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(pid) for pid in found.stdout.split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_worker_runs_jobs_without_any_broker(stack, submit, vendor):
    vendor.always("alpha", lambda _: says("hello"))
    stack.worker().wait_for_event("worker.started")
    await submit(5)

    eventually(lambda: all_done(stack), within_s=10)

    [row] = stack.rows("SELECT count(*) AS attempts FROM ledger")
    assert 5 == row["attempts"]


async def test_a_worker_starts_while_redis_is_away(stack, submit, vendor):
    vendor.always("alpha", lambda _: says("hello"))
    worker = stack.start("worker", env={"SLUICEWAY_REDIS_URL": "redis://127.0.0.1:1"})
    worker.wait_for_event("worker.started")
    await submit(1)

    eventually(lambda: all_done(stack), within_s=10)

    assert 0 == worker.stop()


async def test_sigterm_lets_running_jobs_end(stack, submit, vendor):
    vendor.always("alpha", lambda request: slowly(1.0, request))
    worker = stack.worker()
    worker.wait_for_event("worker.started")
    await submit(3)
    eventually(lambda: ["running"] * 3 == statuses(stack))

    assert 0 == worker.stop()

    assert ["succeeded"] * 3 == statuses(stack), worker.log.read_text()


async def test_sigterm_gives_back_what_does_not_end_within_the_grace(stack, submit, vendor):
    vendor.always("alpha", lambda request: slowly(30.0, request))
    worker = stack.worker("--grace=0.2")
    worker.wait_for_event("worker.started")
    await submit(1)
    eventually(lambda: ["running"] == statuses(stack))

    assert 0 == worker.stop()

    [job] = stack.rows("SELECT status, attempts_spent, recoveries FROM job")
    assert ("queued", 0, 0) == (job["status"], job["attempts_spent"], job["recoveries"])


async def test_a_second_signal_stops_at_once(stack, submit, vendor):
    vendor.always("alpha", lambda request: slowly(30.0, request))
    worker = stack.worker("--grace=60")
    worker.wait_for_event("worker.started")
    await submit(1)
    eventually(lambda: ["running"] == statuses(stack))

    worker.signal(signal.SIGTERM)
    worker.wait_for_event("worker.draining")
    worker.signal(signal.SIGINT)

    assert 0 == worker.process.wait(10)
    assert ["queued"] == statuses(stack)


async def test_a_supervisor_replaces_a_child_that_was_killed_and_its_jobs_go_on(
    stack, submit, vendor
):
    """The dead child's leases end at once, not after their time."""
    vendor.always("alpha", lambda request: slowly(1.0, request))
    supervisor = stack.worker("--processes=2", "--slots=2")
    eventually(lambda: 2 == len(supervisor.events("worker.started")), within_s=45)
    await submit(8)
    eventually(lambda: statuses(stack).count("running") == 4)
    victim, *_ = children_of(supervisor)

    os.kill(victim, signal.SIGKILL)

    eventually(lambda: all_done(stack), within_s=30)
    eventually(lambda: 3 == len(supervisor.events("worker.started")), within_s=30)
    assert 1 == len(supervisor.events("worker.died"))
    left = children_of(supervisor)
    assert 2 == len(left)
    assert 0 == supervisor.stop()
    assert [] == [pid for pid in left if alive(pid)]


def test_a_database_in_disorder_does_not_end_the_supervisor(tmp_path):
    """Leases then run out by themselves; the other children live on."""
    assert 0 == release_leases(f"sqlite:///{tmp_path}/no-tables.db", "worker-1")
