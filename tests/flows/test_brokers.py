"""Jobs over a broker of each kind: it makes them start sooner, and is missed by nobody.

The worker polls so rarely that only the bell can be what starts one job after the other quickly.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.stack import Child, Stack, eventually, running_stack
from tests.services import RedisServer

KEY = "sk-brokers-0123456789abcdef"
POLL_S = 3
CONFIG = f"""
version: 1
providers: {{mock: {{kind: mock}}}}
routes:
  - model: mock
    targets: [{{provider: mock, model: mock-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
tenants:
  - {{id: acme, keys: [{{name: ci, key: {KEY}}}]}}
queue: {{lease_s: 10, heartbeat_s: 1, poll_s: {POLL_S}}}
"""
CALL = {"model": "mock", "messages": [{"role": "user", "content": "hello"}]}
IN_A_ROW = 2
QUICK_S = 0.75 * POLL_S * (IN_A_ROW - 1)
"""Polling alone takes POLL_S for each job but the first."""


@pytest.fixture(params=["redis", "sqs"])
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """What stands between the processes and their broker."""
    if request.param == "redis":
        target: Path | int = request.getfixturevalue("redis_server").socket
    else:
        target = urlsplit(request.getfixturevalue("aws_url")).port
    with running_proxy(target) as running:
        yield running


@pytest.fixture
def stack(
    request: pytest.FixtureRequest, proxy: Proxy, tmp_path: Path, sqlite_url: str
) -> Iterator[Stack]:
    with running_stack(tmp_path / "stack", CONFIG, database_url=sqlite_url) as running:
        if "redis" in request.node.name:
            url = f"redis://127.0.0.1:{proxy.port}/0"
        else:
            options = {"endpoint": f"http://127.0.0.1:{proxy.port}", "prefix": "flow"}
            url = f"sqs://eu-west-1?{urlencode(options)}"
        running.env["SLUICEWAY_BROKER_URL"] = url
        yield running


def test_jobs_are_taken_and_finish_whatever_becomes_of_the_broker(
    stack: Stack, proxy: Proxy, redis_server: RedisServer
):
    """Stopped, they are accepted as fast as ever and start by polling; back and empty, it rings.

    Nothing is started again for that.
    """
    worker, api = stack.worker(), stack.api()
    worker.wait_for_event("worker.started")
    with caller(api) as http:
        eventually(lambda: seconds_in_a_row(http) < QUICK_S, within_s=40, what="bell")

        proxy.become("refuse")
        began_s = time.monotonic()
        jobs = [submit(http) for _ in range(20)]
        assert time.monotonic() - began_s < 10
        assert ["broker"] == [name for name in degraded(http) if name != "redis"]
        redis_server.flush()
        eventually(lambda: ended(http, jobs), within_s=30, what="jobs")

        proxy.become("pass")
        eventually(lambda: "broker" not in degraded(http), what="broker")
        eventually(lambda: seconds_in_a_row(http) < QUICK_S, within_s=40, what="bell")

    assert api.events("bell.failed")
    assert api.events("bell.recovered")
    assert [0, 0] == [child.stop() for child in (api, worker)]


def caller(api: Child) -> httpx.Client:
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.Client(base_url=api.url, headers=headers, timeout=30)


def submit(http: httpx.Client, prefer: str = "respond-async") -> str:
    """Submit a job and return its id."""
    answer = http.post("/v1/chat/completions", json=CALL, headers={"prefer": prefer})
    assert answer.status_code in {200, 202}, answer.text
    return answer.headers["x-sluiceway-job"]


def seconds_in_a_row(http: httpx.Client) -> float:
    """Return how long some jobs take that are submitted one after the other."""
    began_s = time.monotonic()
    jobs = [submit(http, "respond-async, wait=20") for _ in range(IN_A_ROW)]
    assert ended(http, jobs)
    return time.monotonic() - began_s


def ended(http: httpx.Client, jobs: list[str]) -> bool:
    return all(http.get(f"/v1/jobs/{job}").json()["status"] == "succeeded" for job in jobs)


def degraded(http: httpx.Client) -> list[str]:
    found: list[str] = http.get("/readyz").json()["degraded"]
    return found
