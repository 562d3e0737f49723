"""A worker or scheduler answers its three questions, and nothing else."""

import socket

import anyio.to_thread
import httpx
import pytest

from shared.errors import StoreUnavailable
from shared.telemetry.endpoint import Readiness, operations, operations_thread, readiness

HOST = "127.0.0.1"


@pytest.fixture
def port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        number: int = found.getsockname()[1]
        return number


async def database_ok(_limit_s: float) -> None:
    pass


async def database_away(_limit_s: float) -> None:
    raise StoreUnavailable("The database does not answer.")


async def test_it_answers(port):
    async def ready() -> Readiness:
        return await readiness(database_ok, stopping=False)

    async with (
        operations(HOST, port, ready),
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}", trust_env=False) as http,
    ):
        metrics = await http.get("/metrics?x=1")
        answers = [await http.get(path) for path in ("/livez", "/readyz", "/", "/metrics/")]
        head = await http.head("/livez")
        post = await http.post("/livez")

    assert metrics.headers["content-type"].startswith("text/plain")
    assert "# TYPE sluiceway_processes gauge" in metrics.text
    assert [200, 200, 404, 404] == [answer.status_code for answer in answers]
    assert {"status": "ok", "database": "ok"} == answers[1].json()
    assert (200, b"", 405) == (head.status_code, head.content, post.status_code)


@pytest.mark.parametrize(
    ("ping", "stopping", "expected"),
    [
        (database_ok, False, (True, "ok", "ok")),
        (database_away, False, (False, "degraded", "away")),
        (database_ok, True, (False, "stopping", "ok")),
    ],
)
async def test_it_is_ready_when_it_can_work(ping, stopping, expected):
    found = await readiness(ping, stopping=stopping)

    assert expected == (found.ready, found.facts["status"], found.facts["database"])


async def test_not_ready_is_a_503(port):
    async def ready() -> Readiness:
        return await readiness(database_away, stopping=False)

    async with (
        operations(HOST, port, ready),
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}", trust_env=False) as http,
    ):
        assert 503 == (await http.get("/readyz")).status_code
        assert 200 == (await http.get("/livez")).status_code


async def test_without_a_port_there_is_nothing():
    async with operations(HOST, None, never):
        pass
    with operations_thread(HOST, None, never):
        pass


@pytest.mark.parametrize(
    "sent", [b"", b"GET", b"\r\n\r\n", b"GET /livez", b"x" * 20_000, b"\0\xff /\r\n\r\n"]
)
async def test_rubbish_breaks_nothing(port, sent):
    async with operations(HOST, port, never):
        await anyio.to_thread.run_sync(send, port, sent)
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", trust_env=False) as http:
            assert 200 == (await http.get("/livez")).status_code


def test_a_process_without_a_loop_answers_too(port):
    with operations_thread(HOST, port, never):
        assert 200 == httpx.get(f"http://{HOST}:{port}/livez", trust_env=False).status_code
        with pytest.raises(OSError, match="in use"), operations_thread(HOST, port, never):
            pass
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{HOST}:{port}/livez", trust_env=False)


async def never() -> Readiness:
    raise AssertionError("nobody asked")


def send(port: int, sent: bytes) -> None:
    with socket.create_connection((HOST, port), 5) as connection:
        connection.sendall(sent)
