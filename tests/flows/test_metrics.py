"""`/metrics` with real processes: the sum, also of the dead; and a log that nobody reads."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.fakes.stack import Child, Stack, eventually, running_stack

KEY = "sk-metrics-0123456789abcdef"
CONFIG = f"""
version: 1
providers: {{mock: {{kind: mock}}}}
routes: [{{model: mock, targets: [{{provider: mock, model: mock-1}}]}}]
tenants: [{{id: acme, keys: [{{name: ci, key: {KEY}}}]}}]
"""
CALLS = 40


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str) -> Iterator[Stack]:
    with running_stack(tmp_path / "stack", CONFIG, database_url=sqlite_url) as running:
        yield running


def test_the_sum_is_right_when_a_process_is_killed(stack: Stack):
    """Each answer is counted once, whoever gave it and whoever is asked."""
    api = stack.api("--processes", "2")
    serving = eventually(lambda: api.events("api.serving")[1:], what="two processes")
    assert serving
    call_many(api)
    eventually(lambda: counted(api) == CALLS, what="all counted")
    killed = child_of(api)

    os.kill(killed, signal.SIGKILL)
    eventually(lambda: api.events("api.child_died"), what="the death")
    after = [counted(api) for _ in range(3)]
    eventually(lambda: api.events("api.serving")[2:], what="the replacement")
    call_many(api, "second")

    assert [CALLS] * 3 == after
    eventually(lambda: counted(api) == 2 * CALLS, what="all counted")
    eventually(lambda: series(api, 'sluiceway_processes{role="api"}') == 2)
    assert 1 == series(api, 'sluiceway_process_deaths_total{role="api"}')
    shown = httpx.get(f"{api.url}/metrics", trust_env=False).text
    assert "\nsluiceway_requests_in_flight 0.0\n" in shown
    assert "\nsluiceway_draining 0.0\n" in shown
    call_many(api, "last")
    assert 0 == api.stop()
    lines = {line["request_id"] for line in api.events("request.served")}
    assert {f"last-{number}" for number in range(CALLS)} <= lines, "none is lost at a stop"


def test_a_worker_shows_its_numbers_when_asked(stack: Stack):
    """With several processes their supervisor answers for all of them."""
    stack.run("migrate")
    worker = stack.start("worker", "--processes", "2", env={"SLUICEWAY_METRICS_PORT": "0"})
    address = str(worker.wait_for_event("operations.serving")["address"])
    eventually(lambda: worker.events("worker.started")[1:], what="two workers")

    def shown(path: str) -> httpx.Response:
        return httpx.get(f"{address}{path}", trust_env=False)

    eventually(lambda: 'sluiceway_processes{role="worker"} 2.0' in shown("/metrics").text)
    assert [200, 200] == [shown(path).status_code for path in ("/livez", "/readyz")]
    assert 0 == worker.stop()


def test_calls_and_the_stop_do_not_wait_for_who_reads_the_log(stack: Stack):
    """Standard error is a pipe that is full, and stays so."""
    stack.run("migrate")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "compose.cli", "api", "--stop-delay=0", f"--port={port}"],
        env=stack.env,
        stderr=writing,
        start_new_session=True,
    )
    try:
        api = Child(process, stack.home / "none.log", "api")
        api.port = port
        eventually(lambda: is_ready(api), within_s=30, every_s=0.2)
        fill(writing)
        call_many(api)
        assert CALLS == counted(api)
        assert 0 == api.stop()
    finally:
        process.kill()
        process.wait()
        os.close(reading)
        os.close(writing)


def is_ready(api: Child) -> bool:
    try:
        return 200 == httpx.get(f"{api.url}/readyz", trust_env=False).status_code
    except httpx.TransportError:
        return False


def fill(writing: int) -> None:
    """Write until the pipe takes no more; it blocks again after, for all who write to it."""
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 512)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x")
    os.set_blocking(writing, True)


def call_many(api: Child, name: str = "first") -> None:
    """Make the calls on fresh connections, so that both processes get some."""
    body = {"model": "mock", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {KEY}", "connection": "close"}
    with httpx.Client(trust_env=False, headers=headers) as http:
        for number in range(CALLS):
            answer = http.post(
                f"{api.url}/v1/chat/completions",
                json=body,
                headers={"x-request-id": f"{name}-{number}"},
            )
            assert 200 == answer.status_code


def series(api: Child, name: str) -> float:
    text = httpx.get(f"{api.url}/metrics", trust_env=False).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return 0.0 if found is None else float(found[1])


def counted(api: Child) -> float:
    labels = 'code="ok",endpoint="/v1/chat/completions",status="200"'
    return series(api, f"sluiceway_requests_total{{{labels}}}")


def child_of(api: Child) -> int:
    """Return the process id of one of the forks."""
    children = Path(f"/proc/{api.process.pid}/task/{api.process.pid}/children").read_text()
    return int(children.split()[0])
