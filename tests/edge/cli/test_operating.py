"""`sluiceway jobs|queue|workers`: the queue from a shell."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from compose.cli import main
from shared.ids import new_id
from shared.settings import VARIABLES
from shared.store.claims import end_unleased
from shared.store.engine import open_store
from shared.store.jobs import get_job, insert_job
from shared.store.keys import ensure_tenant
from shared.store.records import Finish, NewJob
from shared.store.workers import Presence, be_seen


@pytest.fixture
def run(sqlite_url, tmp_path):
    """Run a command on the test's database."""
    ours = dict.fromkeys(VARIABLES, "")
    env = {**ours, "SLUICEWAY_DATABASE_URL": sqlite_url, "SLUICEWAY_DATA_DIR": str(tmp_path)}

    def run(*arguments):
        return CliRunner().invoke(main, arguments, env=env)

    return run


@pytest.fixture
def in_store(sqlite_url):
    """Do something in the database."""

    def do(work):
        async def done():
            store = await open_store(sqlite_url)
            async with store.write() as tx:
                found = await work(tx)
            await store.close()
            return found

        return asyncio.run(done())

    return do


@pytest.fixture
def jobs(in_store):
    """A job that failed, then one that waits."""
    ids = [new_id("job"), new_id("job")]
    now = datetime.now(UTC)  # a job that waits for ten minutes is stuck

    async def work(tx):
        await ensure_tenant(tx, "acme", "sealed", now)
        for place, own_id in enumerate(ids):
            new = NewJob(
                id=own_id, tenant_id="acme", key_id="key_1", request_id=f"req_{place}",
                endpoint="/v1/chat/completions", body=b"{}", deadline=now + timedelta(hours=1),
                model="gpt-4o",
            )  # fmt: skip
            await insert_job(tx, new, now + timedelta(seconds=place))
        error = {"code": "worker_lost", "message": "three workers died"}
        await end_unleased(tx, ids[0], Finish(status="failed", error=error, at=now))

    in_store(work)
    return ids


def lines(result):
    assert 0 == result.exit_code, result.output
    return result.stdout.splitlines()


def test_jobs_are_listed_with_their_reasons(run, jobs):
    failed, waiting = jobs

    heads, first, second = lines(run("jobs", "list"))
    [listed] = json.loads(run("jobs", "list", "--status", "failed", "--json").stdout)

    assert heads.split()[:5] == ["ID", "AGE", "TENANT", "MODEL", "CLASS"]
    assert ["acme", "gpt-4o", "default"] == first.split()[2:5]
    assert first.split()[1][:-1].isdigit()
    assert first.startswith(waiting)
    assert "No worker" in first
    assert second.startswith(failed)
    assert "It failed: three workers died" in second
    assert ("ended", failed) == (listed["reason"]["code"], listed["id"])
    assert [] == lines(run("jobs", "list", "--stuck"))


def test_a_job_is_shown(run, jobs):
    shown = json.loads(run("jobs", "show", jobs[0]).stdout)

    assert ("acme", "worker_lost") == (shown["tenant_id"], shown["error"]["code"])
    assert 1 == run("jobs", "show", "job_9").exit_code
    assert "No job 'job_9'" in run("jobs", "show", "job_9").stderr


def test_jobs_are_retried_and_cancelled(run, jobs, in_store):
    failed, waiting = jobs

    [told] = lines(run("jobs", "retry", failed))
    refused = run("jobs", "retry", waiting)
    cancelled = lines(run("jobs", "cancel", waiting, failed))

    copy = told.split()[1].rstrip(",")
    assert f"queued {copy}, a copy of {failed}" == told
    assert "queued" == in_store(lambda tx: get_job(tx, "acme", copy)).status
    assert 1 == refused.exit_code
    assert "nothing to be retried" in refused.stderr
    assert [f"{waiting} is cancelled", f"{failed} is failed"] == cancelled
    assert "" == run("jobs", "cancel", waiting).stderr


def test_the_queue_is_shown_paused_and_resumed(run, jobs):
    _, *classes = lines(run("queue", "show"))
    paused = lines(run("queue", "pause", "tenant", "acme", "--reason", "noisy"))
    lines(run("queue", "pause", "class", "batch"))
    shown = json.loads(run("queue", "show", "--json").stdout)

    assert ["default", "0", "1"] == classes[1].split()[:3]
    assert paused[-1].startswith("paused: tenant:acme since ")
    assert paused[-1].endswith(": noisy")
    assert ["class:batch", "tenant:acme"] == [one["scope"] for one in shown["pauses"]]
    assert 4 == len(lines(run("queue", "resume", "tenant", "acme"))) - 1
    assert 1 == run("queue", "resume", "tenant", "acme").exit_code
    assert 1 == run("queue", "pause", "class", "urgent").exit_code


def test_workers_are_listed_and_drained(run, in_store, sqlite_url):
    assert "no workers" in run("workers", "list").stderr
    now = datetime.now(UTC)
    present = Presence(owner="w1", host="h", started_at=now, slots=8, running=2)
    in_store(lambda tx: be_seen(tx, present))

    _, before = lines(run("workers", "list"))
    _, drained = lines(run("workers", "drain", "w1"))
    _, resumed = lines(run("workers", "resume", "w1"))

    assert ["w1", "working", "2", "8", "h"] == before.split()[:5]
    assert ["draining", "working"] == [drained.split()[1], resumed.split()[1]]
    assert 1 == run("workers", "drain", "w2").exit_code
