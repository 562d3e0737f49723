"""Limits and budgets over two processes: exact where they let through, a wall where they end."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.fakes.stack import Child, Stack, running_stack
from tests.services import RedisServer

pytestmark = pytest.mark.anyio

LENGTH_S = float(os.environ.get("SLUICEWAY_LIMITS_S", "6"))
"""30 is the full length."""
RPM = 120
CALLERS = 100
ROOM = 50


LIMITED = "sk-limited-0123456789abcdef"
POOR = "sk-poor-0123456789abcdef"
CONFIG = """
version: 1
providers: {{mock: {{kind: mock, params: {{mock: {{delay_s: 0.05}}}}}}}}
routes:
  - model: mock
    targets: [{{provider: mock, model: mock-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
tenants:
  - {{id: limited, keys: [{{name: ci, key: {limited}}}], limits: {{rpm: {rpm}, tpm: 1000000000}}}}
  - id: poor
    keys: [{{name: ci, key: {poor}}}]
    budgets: [{{window: day, limit_usd: "{limit}"}}]
"""
BODY = {
    "model": "mock",
    "messages": [{"role": "user", "content": "hello there, " * 20}],
    "max_tokens": 40,
}


@dataclass(kw_only=True)
class Pair:
    """Two API processes on one database and one Redis."""

    stack: Stack
    apis: tuple[Child, Child]

    async def asked(self, client: httpx.AsyncClient, key: str, number: int) -> httpx.Response:
        """Call one of the two."""
        return await client.post(
            f"{self.apis[number % 2].url}/v1/chat/completions",
            json=BODY,
            headers={"authorization": f"Bearer {key}"},
        )


def callers() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=None))


@pytest.fixture
def pair(tmp_path, sqlite_url: str, redis_server: RedisServer) -> Iterator[Pair]:
    with running_pair(tmp_path, sqlite_url, redis_server) as found:
        yield found


@pytest.fixture
def either_pair(tmp_path, store_url: str, redis_server: RedisServer) -> Iterator[Pair]:
    """The pair on each of the databases."""
    with running_pair(tmp_path, store_url, redis_server) as found:
        yield found


@contextmanager
def running_pair(tmp_path: Path, store_url: str, redis_server: RedisServer) -> Iterator[Pair]:
    """The poor tenant's budget has room for exactly ROOM calls, by what a call really costs."""
    redis_server.flush()
    config = CONFIG.format(limited=LIMITED, poor=POOR, rpm=RPM, limit="{limit}")
    probe = config.replace("{limit}", "1")
    with running_stack(
        tmp_path / "probe", probe, database_url=store_url, redis_url=redis_server.url
    ) as stack:
        api = stack.api()
        answer = httpx.post(
            f"{api.url}/v1/chat/completions",
            json=BODY,
            headers={"authorization": f"Bearer {LIMITED}"},
            timeout=30,
        )
        cost_usd = answer.headers["x-sluiceway-cost-usd"]
        api.stop()
    redis_server.flush()
    limit = f"{float(cost_usd) * ROOM:.9f}"
    with running_stack(
        tmp_path / "pair",
        config.replace("{limit}", limit),
        database_url=store_url,
        redis_url=redis_server.url,
    ) as stack:
        yield Pair(stack=stack, apis=(stack.api(), stack.api()))


async def test_two_processes_admit_burst_and_rate_and_no_more(pair):
    """As one process would: RPM at once, then RPM / 60 a second, within 1 %."""
    admitted: list[float] = []
    async with callers() as client:
        started_s = time.monotonic()
        ends_s = started_s + LENGTH_S

        async def call(number: int) -> None:
            while time.monotonic() < ends_s:
                answer = await pair.asked(client, LIMITED, number)
                if answer.status_code == 200:
                    admitted.append(time.monotonic())
                    continue
                assert 429 == answer.status_code, answer.text
                assert "rate_limit_exceeded" == answer.json()["error"]["code"]
                assert "0" == answer.headers["x-ratelimit-remaining-requests"]
                await asyncio.sleep(0.8)

        await asyncio.gather(*(call(number) for number in range(CALLERS)))
        length_s = time.monotonic() - started_s

    expected = RPM + RPM / 60 * length_s
    assert abs(len(admitted) - expected) <= 0.01 * expected + 1


async def test_concurrent_calls_cannot_pass_a_budget_together(either_pair):
    """Of 200 at once 45 to 50 are let through, though each holds more than it will cost."""
    async with callers() as client:
        answers = await asyncio.gather(*(either_pair.asked(client, POOR, n) for n in range(200)))

    admitted = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 45 <= len(admitted) <= ROOM
    for answer in refused:
        error = answer.json()["error"]
        assert (429, "budget_exceeded") == (answer.status_code, error["code"])
        assert "insufficient_quota" == error["type"]
        assert "tenant:poor/day" == error["limit_source"]
        assert error["resets_at"] > time.time()
        assert "false" == answer.headers["x-should-retry"]
