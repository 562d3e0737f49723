"""How processes live: forked APIs, a drain on SIGTERM, and a Redis that is not there."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import APIError, InternalServerError, OpenAI

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


@pytest.mark.behaviour(148)
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


@pytest.mark.parametrize("command", ["api", "worker"])
def test_an_old_schema_is_told_before_processes_are_started(
    stack: Stack, tmp_path: Path, command: str
):
    """Several processes end as one does: with exit code 2 and what to do, and nothing is left."""
    stack.env["SLUICEWAY_DATABASE_URL"] = f"sqlite:///{tmp_path}/empty.db"

    ended = stack.run(command, "--processes=2")

    assert 2 == ended.returncode, ended.stderr
    assert "run: sluiceway migrate" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(("command", "event"), [("api", "api.serving"), ("worker", "worker.died")])
def test_a_database_that_is_away_keeps_no_processes_from_starting(
    stack: Stack, command: str, event: str
):
    """Nor does it end the supervisor: a worker that dies meanwhile is started again."""
    away = {"SLUICEWAY_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    parent = stack.start(command, "--processes=2", env=away)
    if command == "worker":
        eventually(lambda: len(parent.events("worker.started")) == 2, within_s=45)
        os.kill(children_of(parent)[0], signal.SIGKILL)

    parent.wait_for_event(event)

    eventually(lambda: len(children_of(parent)) == 2, what="both processes")
    assert 0 == parent.stop()


def test_forked_processes_that_cannot_start_are_given_up(stack: Stack):
    """A start a second, five in a place, each with its reason in the log; then exit code 1."""
    stack.data_dir.mkdir(exist_ok=True)
    (stack.data_dir / "spool").write_text("a file where the folder should be")

    ended = stack.run("api", "--processes=2")

    assert 1 == ended.returncode
    log = ended.stdout + ended.stderr
    assert 5 <= log.count('"api.failed"') <= 10
    assert "FileExistsError" in log or "NotADirectoryError" in log
    assert 1 == log.count('"api.gave_up"')


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a death")
@pytest.mark.parametrize(("command", "event"), [("api", "serving"), ("worker", "started")])
def test_processes_do_not_outlive_a_killed_supervisor(stack: Stack, command: str, event: str):
    """A kill -9 of the parent is a SIGTERM for them."""
    parent = stack.start(command, "--processes=2")
    eventually(lambda: len(parent.events(f"{command}.{event}")) == 2, within_s=45)
    children = children_of(parent)

    parent.kill()

    assert 2 == len(children)
    try:
        eventually(lambda: not any(alive(pid) for pid in children), what="their end")
    finally:
        for pid in filter(alive, children):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.behaviour(148)
def test_a_stop_tells_calls_that_last_too_long(stack: Stack, vendor: Upstream):
    """At the end of the grace a stream ends in an error event, a whole call in a 503; in order."""
    vendor.script("slow", streams(*["word "] * 100, gap_s=0.2))
    vendor.always("slow", lambda request: slowly(30.0, request))
    api = stack.api("--grace=2")
    refused: list[InternalServerError] = []

    def whole() -> None:
        with sdk(api) as client, pytest.raises(InternalServerError) as caught:
            client.chat.completions.create(model="slow", messages=HELLO)
        refused.append(caught.value)

    with sdk(api) as client:
        stream = client.chat.completions.create(model="slow", messages=HELLO, stream=True)
        next(stream)
        call = threading.Thread(target=whole)
        call.start()
        eventually(lambda: len(vendor.requests) == 2, what="the second call")

        api.signal(signal.SIGTERM)
        with pytest.raises(APIError) as broken:
            list(stream)
    call.join(10)

    assert "stream_interrupted" == broken.value.code
    assert [(503, "overloaded")] == [(error.status_code, error.code) for error in refused]
    assert 0 == api.process.wait(5)
    assert "Traceback" not in api.log.read_text()
    assert [] == [line for line in api.lines() if line.get("level") == "error"]
    outcomes = [row["outcome"] for row in stack.rows("SELECT * FROM ledger")]
    assert ["cancelled"] * 2 == outcomes


def test_a_second_signal_ends_streams_at_once(stack: Stack, vendor: Upstream):
    """They too are told; nobody waits for the grace."""
    vendor.script("slow", streams(*["word "] * 200, gap_s=0.1))
    api = stack.api()
    with sdk(api) as client:
        stream = client.chat.completions.create(model="slow", messages=HELLO, stream=True)
        next(stream)
        api.signal(signal.SIGTERM)
        eventually(lambda: not listens(api), what="the first signal")

        api.signal(signal.SIGINT)
        with pytest.raises(APIError) as broken:
            list(stream)

    assert "stream_interrupted" == broken.value.code
    assert 0 == api.process.wait(5)
    assert "Traceback" not in api.log.read_text()
    assert ["cancelled"] == [row["outcome"] for row in stack.rows("SELECT * FROM ledger")]


def test_a_stop_answers_who_waits_for_a_job(stack: Stack):
    """With the job as it stands: it was accepted, so it is no error."""
    api = stack.api("--grace=1")
    with httpx.Client(
        base_url=api.url, headers={"authorization": f"Bearer {KEY}"}, timeout=10
    ) as client:
        waiting = client.build_request(
            "POST",
            "/v1/chat/completions",
            json={"model": "mock", "messages": HELLO},
            headers={"prefer": "respond-async, wait=20"},
        )
        stop = threading.Timer(1.0, api.signal, [signal.SIGTERM])
        stop.start()

        answer = client.send(waiting)

    assert (202, "queued") == (answer.status_code, answer.json()["status"])
    assert 0 == api.process.wait(5)
    assert "Traceback" not in api.log.read_text()


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


def listens(api: Child) -> bool:
    try:
        httpx.get(f"{api.url}/readyz", trust_env=False)
    except httpx.TransportError:
        return False
    return True
