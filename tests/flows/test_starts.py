"""Starts in bad times: what a person must mend ends the process, what heals by itself does not."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.stack import Child, Stack, eventually, running_stack
from tests.services import PostgresServer, RedisServer

KEY = "sk-starts-0123456789abcdef"
CONFIG = f"""
version: 1
providers: {{mock: {{kind: mock}}}}
routes:
  - model: mock
    targets: [{{provider: mock, model: mock-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
tenants:
  - id: acme
    keys: [{{name: ci, key: {KEY}}}]
    limits: {{rpm: 100000, tpm: 100000000, concurrency: 100}}
    budgets: [{{window: day, limit_usd: 1000.0, action: reject}}]
queue: {{poll_s: 0.3}}
"""
PROCESSES = ("api", "worker", "scheduler")


@pytest.fixture
def redis_proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with running_proxy(redis_server.socket) as proxy:
        yield proxy


@pytest.fixture
def database_proxy(postgres_server: PostgresServer) -> Iterator[Proxy]:
    with running_proxy(postgres_server.socket_dir / ".s.PGSQL.5432") as proxy:
        yield proxy


@pytest.fixture
def stack(
    tmp_path: Path, postgres_url: str, redis_proxy: Proxy, database_proxy: Proxy
) -> Iterator[Stack]:
    database = postgres_url.partition("@/")[2].partition("?")[0]
    with running_stack(
        tmp_path / "stack",
        CONFIG,
        database_url=f"postgresql://postgres@127.0.0.1:{database_proxy.port}/{database}",
        redis_url=f"redis://127.0.0.1:{redis_proxy.port}/0",
        forked=False,
    ) as running:
        yield running


@pytest.mark.parametrize(
    ("process", "variable", "url"),
    [
        ("api", "SLUICEWAY_DATABASE_URL", "mysql://somewhere/db"),
        ("worker", "SLUICEWAY_DATABASE_URL", "postgresql://"),
        ("scheduler", "SLUICEWAY_DATABASE_URL", "postgresql://[half"),
        ("api", "SLUICEWAY_REDIS_URL", "redis://[half"),
        ("worker", "SLUICEWAY_REDIS_URL", "http://somewhere"),
    ],
)
def test_a_malformed_url_is_told_at_once(
    tmp_path: Path, sqlite_url: str, process: str, variable: str, url: str
):
    """Exit code 2, and which variable it is."""
    with running_stack(tmp_path / "stack", CONFIG, database_url=sqlite_url) as stack:
        stack.env[variable] = url

        ended = stack.run(process)

    assert 2 == ended.returncode, ended.stderr
    assert variable in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_redis_may_be_away_at_the_start(stack: Stack, redis_proxy: Proxy):
    """Ready, and degraded; calls and jobs are served, and it is used as soon as it is there."""
    redis_proxy.become("refuse")
    worker, scheduler = stack.worker(), stack.start("scheduler")
    api = stack.api()
    worker.wait_for_event("worker.started")
    scheduler.wait_for_event("scheduler.started")
    assert (200, "degraded", ["redis"]) == readiness(api)
    assert 200 == call(api)
    assert 200 == call(api, "respond-async, wait=5")

    redis_proxy.become("pass")

    eventually(lambda: readiness(api) == (200, "ok", []), within_s=5)
    assert 200 == call(api, "respond-async, wait=5")


def test_the_database_may_be_away_at_the_start(stack: Stack, database_proxy: Proxy):
    """Not ready, and everything else waits for it; all is well by itself when it is there."""
    database_proxy.become("refuse")
    processes = [stack.start(name) for name in PROCESSES]
    api, worker, scheduler = processes
    worker.wait_for_event("worker.started")
    scheduler.wait_for_event("scheduler.started")
    stack.wait_for_port(api)
    assert (503, "degraded", ["database"]) == readiness(api)
    assert 503 == call(api, "respond-async")

    database_proxy.become("pass")

    eventually(lambda: readiness(api) == (200, "ok", []), within_s=5)
    assert 200 == call(api, "respond-async, wait=5")
    assert 200 == call(api)
    eventually(lambda: stack.rows("SELECT 1 FROM ledger")[1:], what="two ledger rows")
    assert [None] * 3 == [process.process.poll() for process in processes]


def readiness(api: Child) -> tuple[int, str, list[str]]:
    answer = httpx.get(f"{api.url}/readyz")
    return answer.status_code, answer.json()["status"], answer.json()["degraded"]


def call(api: Child, prefer: str = "") -> int:
    """Return the status of a call."""
    return httpx.post(
        f"{api.url}/v1/chat/completions",
        json={"model": "mock", "messages": [{"role": "user", "content": "hello"}]},
        headers={"authorization": f"Bearer {KEY}", **({"prefer": prefer} if prefer else {})},
        timeout=30,
    ).status_code
