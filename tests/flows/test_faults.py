"""Degrade, don't hang: with Redis or the database in trouble every request ends in time."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import msgspec
import pytest
import redis

from tests.fakes.proxy import Mode, Proxy, running_proxy
from tests.fakes.stack import Child, Stack, running_stack
from tests.services import PostgresServer, RedisServer, run_redis

pytestmark = pytest.mark.anyio

KEY = "sk-faults-0123456789abcdef"
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
    limits: {{rpm: 1000000, tpm: 100000000, concurrency: 1000}}
    budgets: [{{window: day, limit_usd: 1000.0, action: reject}}]
policies: {{redis_down: {{limits: local}}, database_down: {{auth: cached}}}}
queue: {{lease_s: 10, heartbeat_s: 1, poll_s: 0.3}}
"""
SLACK_S = 1.0
CALL_S = 2.0
"""The callers' own limit, for calls."""
STORE_S = 5.0
"""The gateway's limit for requests that need the database."""
WAIT_S = 3
"""How long callers wait for a job; it starts within that without Redis too."""
NORMAL_S = 5.0
"""How soon service is normal once a fault is over."""


@dataclass(kw_only=True)
class Rig:
    """An API and a worker whose Redis and database stand behind proxies."""

    stack: Stack
    api: Child
    redis: RedisServer
    redis_proxy: Proxy
    database_proxy: Proxy

    def redis_says(self, *command: str) -> None:
        with redis.Redis.from_url(self.redis.url) as client:
            client.execute_command(*command)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[Rig]:
    database = postgres_server.take_migrated()
    with ExitStack() as opened:
        opened.callback(postgres_server.drop, database)
        redis_server = opened.enter_context(run_redis())
        redis_proxy = opened.enter_context(running_proxy(redis_server.socket))
        database_proxy = opened.enter_context(
            running_proxy(postgres_server.socket_dir / ".s.PGSQL.5432")
        )
        stack = opened.enter_context(
            running_stack(
                tmp_path_factory.mktemp("faults"),
                CONFIG,
                database_url=f"postgresql://postgres@127.0.0.1:{database_proxy.port}/{database}",
                redis_url=f"redis://127.0.0.1:{redis_proxy.port}/0",
            )
        )
        worker = stack.worker()
        api = stack.api()
        worker.wait_for_event("worker.started")
        yield Rig(
            stack=stack,
            api=api,
            redis=redis_server,
            redis_proxy=redis_proxy,
            database_proxy=database_proxy,
        )


def _redis_mode(mode: Mode) -> Callable[[Rig], None]:
    return lambda rig: rig.redis_proxy.become(mode)


def _database_mode(mode: Mode) -> Callable[[Rig], None]:
    return lambda rig: rig.database_proxy.become(mode)


def _redis(*command: str) -> Callable[[Rig], None]:
    return lambda rig: rig.redis_says(*command)


# name: begin, end
REDIS_FAULTS = {
    "stopped": (_redis_mode("refuse"), _redis_mode("pass")),
    "reset": (_redis_mode("reset"), _redis_mode("pass")),
    "slow": (_redis_mode("delay"), _redis_mode("pass")),
    "silent": (_redis_mode("hang"), _redis_mode("pass")),
    "read-only": (_redis("REPLICAOF", "127.0.0.1", "1"), _redis("REPLICAOF", "NO", "ONE")),
    "out of memory": (
        _redis("CONFIG", "SET", "maxmemory", "1"),
        _redis("CONFIG", "SET", "maxmemory", "0"),
    ),
    "emptied": (_redis("FLUSHALL"), _redis("FLUSHALL")),
}
DATABASE_FAULTS = {
    "stopped": (_database_mode("refuse"), _database_mode("pass")),
    "reset": (_database_mode("reset"), _database_mode("pass")),
    "slow": (_database_mode("delay"), _database_mode("pass")),
    "silent": (_database_mode("hang"), _database_mode("pass")),
}

CALL = {"model": "mock", "messages": [{"role": "user", "content": "hello"}]}
CHAT = "/v1/chat/completions"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request, its own limit in seconds, and how it is answered when all is well."""

    method: str = "GET"
    path: str
    body: dict[str, object] | None = None
    headers: dict[str, str] = {}
    limit_s: float
    well: int = 200
    needs_database: bool = True


LIMITED = {"x-sluiceway-timeout": f"{CALL_S:g}"}
REQUESTS = {
    "call": Asked(
        method="POST", path=CHAT, body=CALL, headers=LIMITED, limit_s=CALL_S, needs_database=False
    ),
    "stream": Asked(
        method="POST",
        path=CHAT,
        body={**CALL, "stream": True},
        headers=LIMITED,
        limit_s=CALL_S,
        needs_database=False,
    ),
    "submit": Asked(
        method="POST",
        path=CHAT,
        body=CALL,
        headers={"prefer": "respond-async"},
        limit_s=STORE_S,
        well=202,
    ),
    "submit and wait": Asked(
        method="POST",
        path=CHAT,
        body=CALL,
        headers={"prefer": f"respond-async, wait={WAIT_S}"},
        limit_s=WAIT_S + STORE_S,
    ),
    "job": Asked(path="/v1/jobs/JOB", limit_s=STORE_S),
    "jobs": Asked(path="/v1/jobs", limit_s=STORE_S),
    "models": Asked(path="/v1/models", limit_s=CALL_S, needs_database=False),
    "usage": Asked(path="/v1/usage", limit_s=STORE_S),
    "ready": Asked(path="/readyz", limit_s=CALL_S),
}
WELL = {name: {asked.well} for name, asked in REQUESTS.items()}


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=rig.api.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60
    ) as opened:
        yield opened


@pytest.mark.parametrize("fault", REDIS_FAULTS)
async def test_redis_in_trouble_is_hardly_noticed(rig: Rig, client: httpx.AsyncClient, fault: str):
    """All is answered in time as ever, jobs are run: they, money and calls do not live there."""
    begin, end = REDIS_FAULTS[fault]
    job_id = await a_job(client)
    begin(rig)
    try:
        found = await statuses(client, job_id, rounds=3)
    finally:
        end(rig)

    assert WELL == found
    assert WELL == await statuses(client, job_id)


@pytest.mark.parametrize("fault", DATABASE_FAULTS)
async def test_the_database_in_trouble_stops_no_call(
    rig: Rig, client: httpx.AsyncClient, fault: str
):
    """Calls are served from what is in memory; the rest says in time what is missing."""
    begin, end = DATABASE_FAULTS[fault]
    job_id = await a_job(client)
    first = await client.post(CHAT, json=CALL)
    assert 200 == first.status_code, "it brings the grant that later calls run on"
    begin(rig)
    try:
        found = await statuses(client, job_id, rounds=3)
    finally:
        end(rig)
    ended_s = time.monotonic()
    while (again := await statuses(client, job_id)) != WELL:
        assert time.monotonic() - ended_s < NORMAL_S, again

    assert time.monotonic() - ended_s < NORMAL_S
    assert WELL | {name: {503} for name, asked in REQUESTS.items() if asked.needs_database} == found


async def a_job(client: httpx.AsyncClient) -> str:
    answer = await client.post(CHAT, json=CALL, headers={"prefer": "respond-async"})
    return answer.json()["id"]


async def statuses(
    client: httpx.AsyncClient, job_id: str, *, rounds: int = 1
) -> dict[str, set[int]]:
    """Make every request so many times, all at once, and return what was answered.

    Each must end within its own limit and a second.
    """
    found: dict[str, set[int]] = {name: set() for name in REQUESTS}
    late: list[tuple[str, float]] = []

    async def ask(name: str, asked: Asked) -> None:
        started_s = time.monotonic()
        path = asked.path.replace("JOB", job_id)
        answer = await client.request(asked.method, path, json=asked.body, headers=asked.headers)
        took_s = time.monotonic() - started_s
        found[name].add(answer.status_code)
        if took_s > asked.limit_s + SLACK_S:
            late.append((name, took_s))

    await asyncio.gather(*(ask(name, one) for name, one in REQUESTS.items() for _ in range(rounds)))
    assert [] == late
    return found
