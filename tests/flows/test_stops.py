"""Nothing that reached a process is lost when it stops: calls, connections, jobs."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.fakes.balancer import running_balancer
from tests.fakes.callers import Caller, Lost, Reply, called, crowd, get, post
from tests.fakes.stack import Child, Stack, eventually, running_stack
from tests.fakes.upstream import Upstream
from tests.fakes.vendor import echo, running_vendor, slowly
from tests.flows.test_lives import children_of
from tests.services import RedisServer

pytestmark = pytest.mark.anyio

KEY = "sk-stops-0123456789abcdef"
CONFIG = """
version: 1
providers:
  mock: {{kind: mock}}
  slow: {{kind: openai_compatible, base_url: "{base_url}", api_key: sk-upstream}}
routes:
  - {{model: mock, targets: [{{provider: mock, model: mock-1}}]}}
  - {{model: slow, targets: [{{provider: slow, model: slow-1}}]}}
tenants: [{{id: acme, keys: [{{name: ci, key: {key}}}]}}]
queue: {{poll_s: 0.2}}
"""
CALLERS = 12


@pytest.fixture
def vendor() -> Iterator[Upstream]:
    with running_vendor() as running:
        yield running


@pytest.fixture
def stack(
    tmp_path: Path, sqlite_url: str, vendor: Upstream, redis_server: RedisServer
) -> Iterator[Stack]:
    with running_stack(
        tmp_path / "stack",
        CONFIG.format(base_url=vendor.base_url("slow"), key=KEY),
        database_url=sqlite_url,
        redis_url=redis_server.url,
    ) as running:
        yield running


Connect = Callable[[int], Awaitable[Caller]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    async with crowd() as opened:
        yield opened


def chat(number: int = 0, *, stream: bool = False, **mock: object) -> bytes:
    """Return a call of the mock provider as bytes."""
    message = {"role": "user", "content": f"call number {number}"}
    body = {"model": "mock", "messages": [message], "stream": stream, "mock": mock}
    return post("/v1/chat/completions", body, KEY)


async def test_a_stopping_process_is_first_seen_as_not_ready(stack: Stack, connect: Connect):
    """New connections are told, calls still answered, and asked to come elsewhere next."""
    api = stack.api("--stop-delay=0.6")
    kept = await connect(api.port)
    kept.send(chat())
    before = await kept.answer()

    api.signal(signal.SIGTERM)
    await in_thread(api.wait_for_event, "api.stopping")
    readiness = await called(api.port, get("/readyz"))
    call = await called(api.port, chat())
    kept.send(chat())
    after = await kept.answer()

    assert not before.head.closes
    assert (503, "stopping") == (readiness.head.status, readiness.json["status"])
    assert [(200, True)] * 2 == [(one.head.status, one.head.closes) for one in (call, after)]
    assert await kept.ended()
    assert 0 == await in_thread(api.process.wait, 5)


async def test_a_person_does_not_wait_for_load_balancers(stack: Stack, connect: Connect):
    """Ctrl-C closes the door at once, and what is idle."""
    api = stack.api("--stop-delay=60")
    idle, silent = await connect(api.port), await connect(api.port)
    idle.send(chat())
    assert 200 == (await idle.answer()).head.status
    started_s = time.monotonic()

    api.signal(signal.SIGINT)

    assert await idle.ended()
    assert time.monotonic() - started_s < 1, "the connection without a request gets a second"
    assert await silent.ended()
    assert 0 == await in_thread(api.process.wait, 5)
    assert time.monotonic() - started_s < 5


@pytest.fixture
def heeds_hang_ups() -> Iterator[None]:
    """Whoever runs the tests may have told them to ignore it, as `nohup` does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeds_hang_ups")
@pytest.mark.parametrize("processes", [1, 2])
async def test_a_terminal_that_closes_lets_open_calls_end(
    stack: Stack, vendor: Upstream, connect: Connect, processes: int
):
    vendor.always("slow", partial(slowly, 1.0))
    api = stack.api("--stop-delay=0", f"--processes={processes}")
    caller = await connect(api.port)
    body = {"model": "slow", "messages": [{"role": "user", "content": "hello"}]}
    caller.send(post("/v1/chat/completions", body, KEY))
    await in_thread(eventually, lambda: len(vendor.requests) == 1, what="the call")

    api.signal(signal.SIGHUP)

    assert 200 == (await caller.answer()).head.status
    assert 0 == await in_thread(api.process.wait, 10)


async def test_a_second_signal_cuts_the_delay_short(stack: Stack):
    api = stack.api("--stop-delay=60")
    api.signal(signal.SIGTERM)
    await in_thread(api.wait_for_event, "api.stopping")

    api.signal(signal.SIGTERM)

    assert 0 == await in_thread(api.process.wait, 5)


async def test_who_waits_in_the_door_is_served(stack: Stack, connect: Connect):
    """Connections that were not accepted yet, and requests that were not read yet, at the stop."""
    api = stack.api()
    kept = [await connect(api.port) for _ in range(10)]
    for caller in kept:
        caller.send(chat())
        await caller.answer()
    api.signal(signal.SIGSTOP)
    waiting = [await connect(api.port) for _ in range(100)]
    for number, caller in enumerate(waiting + kept):
        caller.send(chat(number))
    api.signal(signal.SIGTERM)

    api.signal(signal.SIGCONT)
    replies = await asyncio.gather(*(caller.answer() for caller in waiting + kept))

    assert [200] * 110 == [one.head.status for one in replies]
    assert 0 == await in_thread(api.process.wait, 20)
    with pytest.raises(ConnectionRefusedError):
        await connect(api.port)
    assert 120 == len(stack.rows("SELECT attempt_id FROM ledger"))


async def test_a_rolling_restart_loses_no_request(stack: Stack):
    """Two APIs on two ports, one after the other, under load: every answer comes whole."""
    apis = [stack.api("--stop-delay=0.5"), stack.api("--stop-delay=0.5")]
    async with running_balancer([api.port for api in apis]) as balancer:
        await in_thread(eventually, lambda: len(balancer.ready) == 2)
        calling, numbers = asyncio.Event(), count()
        loading = asyncio.gather(
            *(keep_calling(balancer.call, calling, numbers) for _ in range(CALLERS))
        )
        for api in apis:
            await asyncio.sleep(0.3)
            assert 0 == await in_thread(api.stop)
            await in_thread(stack.api, "--stop-delay=0.5", f"--port={api.port}")
            await in_thread(eventually, lambda: len(balancer.ready) == 2)
        calling.set()
        whole = sum(await loading)

    assert [] == balancer.lost
    assert [{"ok", "stopping"}] * 2 == list(balancer.said.values())
    assert next(numbers) == whole > 100
    assert whole == len(settled(stack, whole))


async def test_replacing_a_forked_process_loses_no_request(stack: Stack):
    """One of two on a socket is told to stop: the other one, and the next, take its callers."""
    api = stack.api("--processes=2", "--stop-delay=0.3")
    await in_thread(eventually, lambda: len(api.events("api.serving")) == 2)
    calling, numbers = asyncio.Event(), count()
    lost: list[str] = []

    async def call(request: bytes) -> Reply | None:
        try:
            return await called(api.port, request)
        except (OSError, Lost) as error:
            lost.append(str(error))
            return None

    loading = asyncio.gather(*(keep_calling(call, calling, numbers) for _ in range(CALLERS)))
    await asyncio.sleep(0.3)
    os.kill(children_of(api)[0], signal.SIGTERM)
    await in_thread(eventually, lambda: len(api.events("api.serving")) == 3)
    await asyncio.sleep(0.3)
    calling.set()
    whole = sum(await loading)

    assert [] == lost
    assert next(numbers) == whole > 100
    assert 0 == await in_thread(api.stop)
    assert whole == len(settled(stack, whole))


async def test_a_worker_that_stops_lets_its_calls_end(stack: Stack, vendor: Upstream):
    """What ends within the grace ends there; what does not is given back, and taken at once."""
    vendor.always("slow", lambda request: slowly(0.5 if b"quick" in request.body else 60, request))
    api, first = stack.api(), stack.worker("--grace=1")
    jobs = {name: submitted(api, name) for name in ("quick", "endless")}
    await in_thread(eventually, lambda: len(vendor.requests) == 2)
    vendor.always("slow", echo)

    first.signal(signal.SIGTERM)
    second = stack.worker()
    await in_thread(second.wait_for_event, "worker.started")
    assert 0 == await in_thread(first.process.wait, 10)
    released_s = time.monotonic()
    await in_thread(eventually, partial(all_succeeded, stack), within_s=3)

    assert time.monotonic() - released_s < 3
    rows = {row["id"]: row for row in stack.rows("SELECT * FROM job")}
    assert [0, 0] == [rows[jobs[name]]["recoveries"] for name in jobs]
    outcomes = {
        name: [
            row["outcome"]
            for row in stack.rows(
                "SELECT outcome FROM ledger WHERE job_id = :id ORDER BY started_at", id=jobs[name]
            )
        ]
        for name in jobs
    }
    assert {"quick": ["succeeded"], "endless": ["cancelled", "succeeded"]} == outcomes


def submitted(api: Child, text: str) -> str:
    """Submit a job and return its id."""
    answer = httpx.post(
        f"{api.url}/v1/chat/completions",
        json={"model": "slow", "messages": [{"role": "user", "content": text}]},
        headers={"authorization": f"Bearer {KEY}", "prefer": "respond-async"},
    )
    assert 202 == answer.status_code, answer.text
    return answer.json()["id"]


def all_succeeded(stack: Stack) -> bool:
    return {"succeeded"} == {row["status"] for row in stack.rows("SELECT status FROM job")}


async def keep_calling(call, stop: asyncio.Event, numbers) -> int:
    """Call again and again, whole answers and streams; return how many came whole."""
    whole = 0
    while not stop.is_set():
        number = next(numbers)
        stream = number % 2 == 0
        how = {"pace_ms": 20, "tokens": 8} if stream else {"delay_ms": 20 * (number % 5)}
        reply = await call(chat(number, stream=stream, **how))
        if reply is None:
            await asyncio.sleep(0.05)
            continue
        assert 200 == reply.head.status, reply.body
        assert not stream or reply.body.endswith(b"data: [DONE]\n\n")
        whole += 1
    return whole


def settled(stack: Stack, count: int) -> list[dict[str, object]]:
    """Return the ledger once there are so many rows."""

    def rows() -> list[dict[str, object]]:
        found = stack.rows("SELECT * FROM ledger WHERE outcome = 'succeeded'")
        return found if len(found) >= count else []

    return eventually(rows, what=f"{count} ledger rows")


async def in_thread(work, *arguments, **named):
    """Do what blocks without stopping the callers of this test."""
    return await asyncio.to_thread(work, *arguments, **named)
