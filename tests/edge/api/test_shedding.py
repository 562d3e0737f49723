"""A process that has more to do than it can refuses at once, the least urgent first."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from api.shedding import FEW, Door, overload, priority_of, room_for_calls
from shared.config.conduct import ServerConfig
from shared.errors import Overloaded
from shared.telemetry.lag import LoopLag
from shared.telemetry.metrics import REGISTRY
from shared.telemetry.tally import count_waiting
from tests.edge.api.gateways import gateway

pytestmark = pytest.mark.anyio

CHAT = {"model": "slow", "messages": [{"role": "user", "content": "hello"}]}
CONFIG = {
    "server": {"max_in_flight": 10},
    "providers": {"mock": {"kind": "mock"}},
    "routes": [
        {
            "model": "slow",
            "targets": [
                {"provider": "mock", "model": "m", "params": {"mock": {"delay_ms": 60_000}}}
            ],
        },
        {"model": "quick", "targets": [{"provider": "mock", "model": "m"}]},
    ],
}


def shed(priority: str, reason: str) -> float:
    labels = {"priority": priority, "reason": reason}
    return REGISTRY.get_sample_value("sluiceway_shed_total", labels) or 0.0


@pytest.fixture
async def http(tmp_path, sqlite_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(tmp_path, sqlite_url, CONFIG) as client:
        yield client


async def until_open(calls: int) -> None:
    """Return once so many calls are in flight."""
    ends_s = time.monotonic() + 10
    while True:
        count_waiting()
        if calls == REGISTRY.get_sample_value("sluiceway_requests_in_flight"):
            return
        assert time.monotonic() < ends_s
        await asyncio.sleep(0.01)


async def chat(http: httpx.AsyncClient, model: str = "quick", **headers: str) -> httpx.Response:
    return await http.post("/v1/chat/completions", json={**CHAT, "model": model}, headers=headers)


async def test_the_least_urgent_are_refused_first(http):
    """With 6, 8 and 10 of 10 in flight: the shares are 60, 85 and 100 %."""
    urgent_first = ("interactive", "default", "batch")
    expected = {0: [200, 200, 200], 6: [200, 200, 503], 8: [200, 503, 503], 10: [503, 503, 503]}
    found = {}
    running: list[asyncio.Task[httpx.Response]] = []
    for number in expected:
        running += [asyncio.create_task(chat(http, "slow")) for _ in range(number - len(running))]
        await until_open(number)
        found[number] = [
            (await chat(http, **{"x-sluiceway-priority": one})).status_code for one in urgent_first
        ]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)

    assert expected == found
    assert 200 == (await chat(http, **{"x-sluiceway-priority": "batch"})).status_code


async def test_what_a_refused_caller_reads(http):
    before = shed("interactive", "in_flight")
    running = [asyncio.create_task(chat(http, "slow")) for _ in range(10)]
    await until_open(10)

    answer = await chat(http)
    message = await http.post("/v1/messages", json={**CHAT, "model": "quick", "max_tokens": 5})
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)

    assert (503, "overloaded") == (answer.status_code, answer.json()["error"]["code"])
    assert 1 <= int(answer.headers["retry-after"]) <= 3
    assert answer.headers["x-request-id"]
    assert (529, "overloaded_error") == (message.status_code, message.json()["error"]["type"])
    assert before + 2 == shed("interactive", "in_flight")


async def test_jobs_are_still_accepted_where_batch_calls_are_not(http):
    running = [asyncio.create_task(chat(http, "slow")) for _ in range(8)]
    await until_open(8)

    batch = {"x-sluiceway-priority": "batch"}
    answers = [
        (await chat(http, **batch)).status_code,
        (await chat(http, prefer="respond-async", **batch)).status_code,
    ]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)

    assert [503, 202] == answers


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"batch", "batch"),
        (b"default", "default"),
        (b"interactive", "interactive"),
        (b"", "interactive"),
        (b"\xff", "interactive"),
    ],
)
def test_priorities(said, expected):
    assert expected == priority_of({b"x-sluiceway-priority": said})
    assert "interactive" == priority_of({})


@pytest.mark.parametrize(
    ("priority", "in_flight", "lag_s", "expected"),
    [
        ("interactive", 1000, 0.5, None),
        ("interactive", 1001, 0.0, "in_flight"),
        ("interactive", 33, 0.51, "lag"),
        ("default", 850, 0.3, None),
        ("default", 851, 0.0, "in_flight"),
        ("default", 33, 0.31, "lag"),
        ("batch", 600, 0.15, None),
        ("batch", 601, 0.0, "in_flight"),
        ("batch", 33, 0.16, "lag"),
        ("batch", FEW, 60.0, None),  # the lag is not of their making
    ],
)
def test_overload(priority, in_flight, lag_s, expected):
    assert expected == overload(
        priority, in_flight=in_flight, lag_s=lag_s, most=1000, most_lag_s=0.5
    )


def test_a_late_loop_lets_nobody_in_until_it_is_on_time_again():
    lag = LoopLag("api")
    door = Door(ServerConfig(), lag, 1000)
    headers = {b"x-sluiceway-priority": b"batch"}
    for late_s in (0.4,) * 3:
        lag.add(late_s)

    with pytest.raises(Overloaded):
        door.check(100, headers, "req_1", later=False)
    door.check(100, {}, "req_1", later=False)
    for late_s in (0.0,) * 3:
        lag.add(late_s)
    door.check(100, headers, "req_1", later=False)


def test_waits_are_spread():
    door = Door(ServerConfig(), LoopLag("api"), 1)
    waits_s = set()
    for number in range(20):
        with pytest.raises(Overloaded) as caught:
            door.check(2, {}, f"req_{number}", later=False)
        waits_s.add(caught.value.retry_after_s)

    assert 15 < len(waits_s)
    assert 1 <= min(waits_s)
    assert max(waits_s) <= 3


def test_open_files_bound_the_calls():
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert most == resource.RLIM_INFINITY or most > 2 * room_for_calls()
