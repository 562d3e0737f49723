"""How processes live: forked APIs, a drain on SIGTERM, and a Redis that is not there."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.fakes.stack import Child, Stack, eventually, running_stack
from tests.fakes.upstream import Upstream, streams
from tests.fakes.vendor import running_vendor, slowly

KEY = "sk-lives-0123456789abcdef"
HELLO = [{"role": "user", "content": "hello"}]
CONFIG = """
version: 1
providers:
  mock: {{kind: mock}}
  slow: {{kind: openai_compatible, base_url: "{base_url}", api_key: sk-upstream}}
routes:
  - {{model: mock, targets: [{{provider: mock, model: mock-1}}]}}
  - {{model: slow, targets: [{{provider: slow, model: slow-1}}]}}
tenants: [{{id: acme, keys: [{{name: ci, key: {key}}}]}}]
"""


@pytest.fixture
def vendor() -> Iterator[Upstream]:
    with running_vendor() as running:
        yield running


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str, vendor: Upstream) -> Iterator[Stack]:
    """On SQLite, with a Redis URL behind which there is nothing."""
    with running_stack(
        tmp_path / "stack",
        CONFIG.format(base_url=vendor.base_url("slow"), key=KEY),
        database_url=sqlite_url,
        redis_url=f"unix://{tmp_path}/no-redis.sock",
    ) as running:
        yield running


def sdk(api: Child) -> OpenAI:
    return OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0, timeout=10)


def test_forked_processes_replace_their_dead(stack: Stack):
    """`api --processes 2`: kill -9 of one is a blink; SIGTERM ends all with exit code 0."""
    api = stack.api("--processes", "2")
    eventually(lambda: len(api.events("api.serving")) == 2, what="two processes")
    first = children_of(api)

    os.kill(first[0], signal.SIGKILL)
    eventually(lambda: len(api.events("api.serving")) == 3, what="a third process")

    now = children_of(api)
    assert 2 == len(now)
    assert first[1] in now
    for _ in range(6):
        with sdk(api) as client:
            answer = client.chat.completions.create(model="mock", messages=HELLO)
            assert "You said: hello" == answer.choices[0].message.content
    assert 0 == api.stop()
    assert not any(alive(pid) for pid in now)
    assert 6 == len(stack.rows("SELECT attempt_id FROM ledger"))


def test_a_stop_lets_open_calls_end(stack: Stack, vendor: Upstream):
    """A whole answer and a stream that were under way at SIGTERM come whole and are booked."""
    vendor.script("slow", streams(*["word "] * 10, gap_s=0.1))
    vendor.always("slow", lambda request: slowly(1.0, request))
    api = stack.api()
    found: dict[str, str] = {}

    def whole() -> None:
        with sdk(api) as client:
            answer = client.chat.completions.create(model="slow", messages=HELLO)
        found["whole"] = str(answer.choices[0].message.content)

    with sdk(api) as client:
        stream = client.chat.completions.create(model="slow", messages=HELLO, stream=True)
        first = next(stream)
        call = threading.Thread(target=whole)
        call.start()
        eventually(lambda: len(vendor.requests) == 2, what="the second call")

        api.signal(signal.SIGTERM)
        words = [first, *stream]
    call.join(10)

    assert "word " * 10 == "".join(one.choices[0].delta.content or "" for one in words)
    assert "hello" == found["whole"]
    assert 0 == api.process.wait(5)
    assert ["succeeded"] * 2 == [row["outcome"] for row in stack.rows("SELECT * FROM ledger")]


def test_without_redis_jobs_run_all_the_same(stack: Stack):
    """Accepted at once, started within three seconds, and everything stops in time."""
    worker = stack.worker()
    scheduler = stack.start("scheduler")
    api = stack.api()
    worker.wait_for_event("worker.started")
    scheduler.wait_for_event("scheduler.started")
    ready = httpx.get(f"{api.url}/readyz")
    assert (200, ["redis"]) == (ready.status_code, ready.json()["degraded"])
    started_s = time.monotonic()

    with sdk(api) as client:
        accepted = client.chat.completions.with_raw_response.create(
            model="mock", messages=HELLO, extra_headers={"prefer": "respond-async"}
        )
        accepted_s = time.monotonic() - started_s
        raw = client.chat.completions.with_raw_response.create(
            model="mock", messages=HELLO, extra_headers={"prefer": "respond-async, wait=10"}
        )

    assert 202 == accepted.http_response.status_code
    assert accepted_s < 1
    assert 200 == raw.http_response.status_code
    assert time.monotonic() - started_s < 5
    stopping_s = time.monotonic()
    assert [0, 0, 0] == [child.stop() for child in (api, worker, scheduler)]
    assert time.monotonic() - stopping_s < 15


def children_of(api: Child) -> list[int]:
    pid = api.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
