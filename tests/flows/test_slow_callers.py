"""Callers that send slowly or not at all cost the others nothing."""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.bench.load import load, request_bytes
from tests.fakes.callers import Caller, crowd, post
from tests.fakes.stack import Child, Stack, running_stack

pytestmark = pytest.mark.anyio

KEY = "sk-slow-0123456789abcdef"
CONFIG = f"""
version: 1
providers: {{mock: {{kind: mock}}}}
defaults: {{price: {{input_per_mtok: 1, output_per_mtok: 2}}}}
routes:
  - model: bench
    targets: [{{provider: mock, model: mock-1}}]
  - model: idle
    targets: [{{provider: mock, model: mock-1}}]
    timeouts: {{idle_s: 60}}
tenants:
  - id: acme
    keys: [{{name: ci, key: {KEY}}}]
    limits: {{rpm: 1000000, tpm: 1000000000, concurrency: 1000}}
    budgets: [{{window: day, limit_usd: 1000.0, action: reject}}]
"""
HALF_HEADS = 100
HALF_BODIES = 100
IDLE_STREAMS = 500
FACTOR = 2.0
FLOOR_MS = 10.0
"""What other processes on the machine may add to the slowest call in a hundred."""
CHAT = "/v1/chat/completions"


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str) -> Iterator[Stack]:
    with running_stack(tmp_path / "stack", CONFIG, database_url=sqlite_url) as running:
        yield running


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    """This process holds a connection for each of the callers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.behaviour(147)
async def test_slow_callers_delay_nobody(stack: Stack):
    """200 half-open requests and 500 idle streams: the p99 of healthy calls stays what it was."""
    api = stack.api()
    await p99_ms(api)  # warm
    before_ms = await p99_ms(api)
    async with crowd() as connect:
        for number in range(HALF_HEADS):
            half_a_head(await connect(api.port), number)
        for _ in range(HALF_BODIES):
            half_a_body(await connect(api.port))
        streams = [await connect(api.port) for _ in range(IDLE_STREAMS)]
        await asyncio.gather(*map(idle_stream, streams))
        assert IDLE_STREAMS + HALF_BODIES == in_flight(api)

        during_ms = await p99_ms(api)

    assert during_ms <= max(FACTOR * before_ms, before_ms + FLOOR_MS)


async def p99_ms(api: Child) -> float:
    """Return the best of three runs: noise only ever adds."""
    request = request_bytes(CHAT, KEY, stream=False)
    found = []
    for _ in range(3):
        figures = await load(api.port, request, connections=4, length_s=0.7, stream=False)
        assert 0 == figures.errors
        found.append(figures.percentile_ms(0.99))
    return min(found)


def half_a_head(caller: Caller, number: int) -> None:
    """Send any part of a head, or nothing."""
    head = post(CHAT, {}, KEY).partition(b"\r\n\r\n")[0]
    caller.send(head[: number * len(head) // HALF_HEADS])


def half_a_body(caller: Caller) -> None:
    caller.send(post(CHAT, {"model": "bench", "messages": []}, KEY)[:-5])


async def idle_stream(caller: Caller) -> None:
    """Begin a stream that stops after its first words, and go on listening."""
    message = {"role": "user", "content": "one two three four"}
    body = {"model": "idle", "messages": [message], "stream": True, "mock": {"stall_after": 2}}
    caller.send(post(CHAT, body, KEY))
    assert 200 == (await caller.head()).status
    assert b"content" in await caller.piece()


def in_flight(api: Child) -> int:
    return int(httpx.get(f"{api.url}/health").json()["in_flight"])
