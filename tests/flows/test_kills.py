"""Accepted means done: kill -9 at any moment, an emptied Redis, and no job or cent goes astray."""

import signal
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.fakes.receiver import Receiver, running_receiver
from tests.fakes.stack import Child, Stack, eventually, running_stack
from tests.fakes.upstream import Upstream
from tests.fakes.vendor import running_vendor, slowly
from tests.services import RedisServer
from workers.supervisor import release_leases

JOBS = 50
KEY = "sk-kills-0123456789abcdef"
SECRET = "whsec_a2lsbHMta2lsbHMta2lsbHMta2lsbHMt"

CONFIG = """
version: 1
providers:
  slow: {{kind: openai_compatible, base_url: "{base_url}", api_key: sk-upstream}}
routes:
  - model: slow
    targets: [{{provider: slow, model: slow-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
tenants:
  - {{id: acme, webhook_secret: "{secret}", keys: [{{name: ci, key: {key}}}]}}
queue: {{lease_s: 2, heartbeat_s: 0.5, poll_s: 0.2}}
webhooks: {{allow_networks: [127.0.0.0/8]}}
"""

HELD = """
SELECT job.id FROM job JOIN attempt ON attempt.job_id = job.id
WHERE lease_owner = :owner AND status = 'running' AND outcome IS NULL
"""
DELIVERING = "SELECT id FROM delivery WHERE lease_owner = :owner AND status = 'delivering'"


@pytest.fixture
def vendor() -> Iterator[Upstream]:
    with running_vendor() as running:
        running.always("slow", partial(slowly, 0.3))
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver(SECRET) as running:
        yield running


@pytest.fixture
def stack(
    tmp_path: Path, store_url: str, redis_server: RedisServer, vendor: Upstream
) -> Iterator[Stack]:
    config = CONFIG.format(base_url=vendor.base_url("slow"), secret=SECRET, key=KEY)
    with running_stack(
        tmp_path / "stack", config, database_url=store_url, redis_url=redis_server.url
    ) as running:
        yield running


def test_killed_workers_and_an_emptied_redis_lose_no_job_and_no_cent(
    stack: Stack, receiver: Receiver, vendor: Upstream, redis_server: RedisServer
):
    """Each accepted job succeeds once, is paid for once and told of under one id."""
    workers = [start_worker(stack), start_worker(stack)]
    api = stack.api()
    for worker in workers:
        worker.wait_for_event("worker.started")
    job_ids = submit(api, receiver)

    held = 0
    for done in (3, 10, 18):
        eventually(lambda done=done: len(finished(stack)) >= done, within_s=20)
        held += kill_one_that_works(stack, workers, supervised=done == 18)
        workers.append(start_worker(stack))
        if done == 10:
            redis_server.flush()
    eventually(lambda: len(finished(stack)) == JOBS, within_s=20, what="finished jobs")
    eventually(lambda: len(told(receiver)) == JOBS, within_s=10, what="jobs told of")

    jobs = stack.rows("SELECT id, status, recoveries, cost_nanousd FROM job")
    assert {(job_id, "succeeded") for job_id in job_ids} == {
        (job["id"], job["status"]) for job in jobs
    }
    recoveries = sum(int(str(job["recoveries"])) for job in jobs)
    assert recoveries >= max(5, held)
    assert_books_are_right(stack, vendor, job_ids)
    assert_answers_are_their_own(stack)
    agreed = stack.run("ledger", "verify")
    assert 0 == agreed.returncode, agreed.stdout + agreed.stderr
    assert {1} == {len(ids) for ids in told(receiver).values()}
    assert all(one.verified for one in receiver.webhooks)


def start_worker(stack: Stack) -> Child:
    return stack.worker("--slots=4")


def submit(api: Child, receiver: Receiver) -> list[str]:
    """Submit the jobs; each asks for its own number."""
    headers = {
        "authorization": f"Bearer {KEY}",
        "prefer": "respond-async",
        "x-sluiceway-webhook": receiver.url,
    }
    ids = []
    with httpx.Client(base_url=api.url, headers=headers, trust_env=False) as client:
        for number in range(JOBS):
            message = {"role": "user", "content": f"job number {number}"}
            body = {"model": "slow", "messages": [message], "metadata": {"number": str(number)}}
            answer = client.post("/v1/chat/completions", json=body)
            assert 202 == answer.status_code, answer.text
            ids.append(answer.json()["id"])
    return ids


def kill_one_that_works(stack: Stack, workers: list[Child], *, supervised: bool) -> int:
    """Kill a worker that has calls under way; return how many jobs it held.

    It is stopped for the look, so that what is seen is what dies. A supervisor ends the leases of
    the dead at once; else they run out. Without one no worker is killed that delivers a webhook:
    that would go out again too, but after a lease of a minute.
    """

    def caught() -> int:
        for worker in workers:
            worker.signal(signal.SIGSTOP)
            held = stack.rows(HELD, owner=worker.owner)
            delivers = stack.rows(DELIVERING, owner=worker.owner)
            if len(held) >= 3 and (supervised or not delivers):
                worker.kill()
                workers.remove(worker)
                if supervised:
                    assert release_leases(stack.database_url, worker.owner) >= len(held)
                return len(held)
            worker.signal(signal.SIGCONT)
        return 0

    return eventually(caught, every_s=0.05, within_s=20, what="a worker with three calls")


def finished(stack: Stack) -> list[dict[str, object]]:
    return stack.rows("SELECT id FROM job WHERE status = 'succeeded'")


def told(receiver: Receiver) -> dict[str, set[str]]:
    """Return the webhook ids under which each job's end was told."""
    found = defaultdict(set)
    for one in list(receiver.webhooks):
        assert "job.succeeded" == one.json["type"]
        found[one.json["data"]["id"]].add(one.webhook_id)
    return found


def assert_books_are_right(stack: Stack, vendor: Upstream, job_ids: list[str]) -> None:
    """Every call the vendor saw has its row; each job has one that succeeded, the rest are lost."""
    rows = stack.rows("SELECT attempt_id, job_id, outcome, cost_nanousd FROM ledger")
    succeeded = [row["job_id"] for row in rows if row["outcome"] == "succeeded"]
    assert sorted(job_ids) == sorted(map(str, succeeded))
    assert {"succeeded", "lost"} == {row["outcome"] for row in rows}
    attempts = stack.rows("SELECT id FROM attempt")
    assert {row["id"] for row in attempts} == {row["attempt_id"] for row in rows}
    assert JOBS <= len(vendor.asked("slow")) <= len(rows)
    # 1000 tokens in at 1 USD and 500 out at 2 USD per million.
    paid = {row["cost_nanousd"] for row in rows if row["outcome"] == "succeeded"}
    assert {2_000_000} == paid


def assert_answers_are_their_own(stack: Stack) -> None:
    rows = stack.rows(
        "SELECT body, response_body FROM job_content JOIN job ON job.id = job_content.job_id"
    )
    for row in rows:
        asked = bytes(row["body"]).decode()
        text = asked.split('"content":"')[1].split('"')[0]
        assert f'"{text}"' in bytes(row["response_body"]).decode()
