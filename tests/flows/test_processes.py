"""The production processes, two of each, on a real PostgreSQL and a real Redis."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.fakes.receiver import Receiver, running_receiver
from tests.fakes.stack import Child, Stack, eventually, running_stack
from tests.services import RedisServer

KEY = "sk-processes-0123456789abcdef"
SECRET = "whsec_cHJvY2Vzc2VzcHJvY2Vzc2VzcHJvY2Vz"
HELLO = [{"role": "user", "content": "hello"}]
CONFIG = f"""
version: 1
providers: {{mock: {{kind: mock}}}}
routes:
  - model: mock
    targets: [{{provider: mock, model: mock-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
tenants: [{{id: acme, webhook_secret: "{SECRET}", keys: [{{name: ci, key: {KEY}}}]}}]
webhooks: {{allow_networks: [127.0.0.0/8]}}
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver(SECRET) as running:
        yield running


@pytest.fixture
def stack(tmp_path: Path, empty_postgres_url: str, redis_server: RedisServer) -> Iterator[Stack]:
    with running_stack(
        tmp_path / "stack",
        CONFIG,
        database_url=empty_postgres_url,
        redis_url=redis_server.url,
        forked=False,
    ) as running:
        yield running


def test_two_of_each_serve_and_stop_in_order(stack: Stack, receiver: Receiver):
    """Migrate, start, call in all three ways at both APIs, stop with exit code 0 in seconds."""
    assert_old_schema_is_refused(stack)
    migrated = stack.run("migrate")
    assert 0 == migrated.returncode, migrated.stderr
    assert "0001" in migrated.stdout

    apis = [stack.start("api"), stack.start("api")]
    workers = [stack.worker(), stack.worker()]
    schedulers = [stack.start("scheduler"), stack.start("scheduler")]
    for api in apis:
        stack.wait_for_api(api)
    for worker in workers:
        worker.wait_for_event("worker.started")
    for scheduler in schedulers:
        scheduler.wait_for_event("scheduler.started")

    for api in apis:
        assert {"status": "ok", "database": "ok", "redis": "ok"}.items() <= health(api).items()
        with OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0) as client:
            assert_chat_and_stream(client)
    job_id = submitted(apis[0], receiver)
    assert_done_elsewhere(apis[1], job_id)
    told = eventually(lambda: list(receiver.webhooks), what="webhook")
    assert [(True, job_id)] == [(one.verified, one.json["data"]["id"]) for one in told]
    eventually(lambda: stack.rows("SELECT 1 FROM ledger")[4:], what="ledger rows")

    everybody = [*apis, *workers, *schedulers]
    assert [0] * 6 == in_parallel(Child.stop, everybody)
    for child in everybody:
        assert not [line for line in child.lines() if line.get("level") in {"error", "critical"}]
        assert not [line for line in child.lines() if "text" in line], child.log.read_text()
    assert 1 == len(stack.rows("SELECT id FROM job WHERE status = 'succeeded'"))
    assert [] == list((stack.data_dir / "spool").glob("*"))


def assert_old_schema_is_refused(stack: Stack) -> None:
    """Each says what to do and leaves with 2, as orchestrators and people want it."""
    refused = in_parallel(stack.run, ["api", "worker", "scheduler"])
    for ended in refused:
        assert 2 == ended.returncode, ended.stderr
        assert "sluiceway migrate" in ended.stderr
    checked = stack.run("migrate", "--check")
    assert 2 == checked.returncode


def in_parallel(call, arguments):
    with ThreadPoolExecutor() as threads:
        return list(threads.map(call, arguments))


def health(api: Child) -> dict[str, object]:
    return httpx.get(f"{api.url}/health").json()


def assert_chat_and_stream(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="mock", messages=HELLO)
    stream = client.chat.completions.create(model="mock", messages=HELLO, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "You said: hello" == streamed == whole.choices[0].message.content


def submitted(api: Child, receiver: Receiver) -> str:
    with OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="mock",
            messages=HELLO,
            extra_headers={"prefer": "respond-async", "x-sluiceway-webhook": receiver.url},
        )
    assert 202 == raw.http_response.status_code
    return raw.headers["x-sluiceway-job"]


def assert_done_elsewhere(api: Child, job_id: str) -> None:
    """What one API accepted another one shows."""
    done = httpx.get(
        f"{api.url}/v1/jobs/{job_id}",
        params={"wait": 20},
        headers={"authorization": f"Bearer {KEY}"},
        timeout=30,
    ).json()
    assert "succeeded" == done["status"]
