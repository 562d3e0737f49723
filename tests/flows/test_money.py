"""Money while Redis comes and goes: it lives in SQL and in the spool, so nothing of it changes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.callers import called, post
from tests.fakes.stack import Stack, eventually, running_stack
from tests.fakes.upstream import Upstream
from tests.fakes.vendor import running_vendor
from tests.services import RedisServer, run_redis

pytestmark = pytest.mark.anyio

KEY = "sk-money-0123456789abcdef"
CONFIG = """
version: 1
providers: {{up: {{kind: openai_compatible, base_url: "{base_url}", api_key: sk-upstream}}}}
routes:
  - model: up
    targets: [{{provider: up, model: up-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
tenants:
  - id: acme
    keys: [{{name: ci, key: {key}}}]
    limits: {{rpm: 1000000, tpm: 1000000000, concurrency: 1000}}
    budgets: [{{window: month, limit_usd: "0.16"}}]
queue: {{poll_s: 0.2}}
"""
COST = 2_000_000
"""Of a call, by the provider's count."""
COVERED = 80
CALLS = 96
AT_ONCE = 12


@pytest.fixture
def vendor() -> Iterator[Upstream]:
    with running_vendor() as running:
        yield running


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with run_redis() as running:
        yield running


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str, vendor: Upstream, redis: RedisServer) -> Iterator[Stack]:
    config = CONFIG.format(base_url=vendor.base_url("up"), key=KEY)
    with running_stack(
        tmp_path / "stack", config, database_url=sqlite_url, redis_url=redis.url
    ) as running:
        yield running


async def test_redis_emptied_and_gone_in_the_middle_of_load_changes_no_cent(
    stack: Stack, vendor: Upstream, redis: RedisServer
):
    """The budget lets through what it covers, to the call; each is booked once; the books agree."""
    api = stack.api()
    # So long that what a call holds is no less than what the provider counts.
    message = {"role": "user", "content": "hello " * 400}
    body = {"model": "up", "messages": [message], "max_tokens": 500}
    turns = asyncio.Semaphore(AT_ONCE)
    codes: list[int] = []

    async def call(number: int) -> None:
        async with turns:
            if number == CALLS // 6:
                await asyncio.to_thread(redis.flush)
            if number == CALLS // 3:
                await asyncio.to_thread(redis.restart)
            request = post("/v1/chat/completions", body, KEY, {"x-request-id": f"call-{number}"})
            codes.append((await called(api.port, request)).head.status)

    await asyncio.gather(*(call(number) for number in range(CALLS)))

    let_in = codes.count(200)
    assert {200, 429} == set(codes)
    # What a call holds is more than it costs, so the last one may not fit any more.
    assert COVERED - 1 <= let_in <= COVERED
    rows = await asyncio.to_thread(
        eventually,
        lambda: found if len(found := stack.rows("SELECT * FROM ledger")) >= let_in else [],
    )
    assert [COST] * let_in == [row["cost_nanousd"] for row in rows]
    assert let_in == len(vendor.asked("up"))
    agreed = stack.run("ledger", "verify")
    assert 0 == agreed.returncode, agreed.stdout + agreed.stderr
