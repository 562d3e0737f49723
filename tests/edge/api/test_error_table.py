"""The rows of the error table that a request can provoke: status, code, type, headers.

The others are made by hand in `test_errors.py`. One target stands for each kind of failure.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.edge import Edge
from api.main import open_edge
from shared.runtime import open_runtime
from shared.settings import load_settings
from tests.edge.api.conftest import KEY, MASTER_KEY
from tests.fakes.upstream import Answer, Upstream, running_upstream, says, sse, status, streams

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
CONFIG = """
version: 1
providers:
  up: {{kind: openai_compatible, base_url: "{up}", api_key: sk-upstream}}
  other: {{kind: openai_compatible, base_url: "{other}", api_key: sk-upstream}}
routes:
  - model: one
    targets: [{{provider: up, model: up-1}}]
    retry: {{max_attempts: 1}}
    timeouts: {{connect_s: 1, first_token_s: 0.3, idle_s: 0.3, attempt_s: 0.3, total_s: 2}}
  - model: two
    targets: [{{provider: up, model: up-1}}, {{provider: other, model: other-1}}]
    retry: {{max_attempts: 1}}
tenants: [{{id: acme, keys: [{{name: ci, key: {key}}}]}}]
server: {{max_body_mb: 1}}
queue: {{max_queued_per_tenant: 1}}
"""

FAULT = "server_error"
WRONG = "invalid_request_error"
AGAIN = {"x-should-retry": "false"}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream() as opened:
        yield opened


@pytest.fixture
async def edge(tmp_path: Path, sqlite_url: str, upstream: Upstream) -> AsyncIterator[Edge]:
    config = tmp_path / "sluiceway.yaml"
    urls = {"up": upstream.base_url("up"), "other": upstream.base_url("other")}
    config.write_text(CONFIG.format(**urls, key=KEY))
    settings = load_settings(
        {
            "SLUICEWAY_CONFIG": str(config),
            "SLUICEWAY_DATA_DIR": str(tmp_path / "data"),
            "SLUICEWAY_DATABASE_URL": sqlite_url,
            "SLUICEWAY_SECRET_KEY": "the-tests-own-secret-key-0123456789",
            "SLUICEWAY_MASTER_KEY": MASTER_KEY,
        }
    )
    async with open_runtime(settings, role="api") as runtime, open_edge(runtime) as opened:
        yield opened


@pytest.fixture
async def http(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(edge)),
        base_url="http://gateway",
        headers={"authorization": f"Bearer {KEY}"},
    ) as client:
        yield client


def refusal(code: str) -> Answer:
    return status(400, {"message": "no", "type": WRONG, "param": None, "code": code})


UPSTREAM = {
    "its refusal": (refusal("odd_value"), (400, "odd_value", WRONG), {}),
    "unsupported_parameter": (
        refusal("unsupported_parameter"),
        (400, "unsupported_parameter", WRONG),
        {},
    ),
    "context_length_exceeded": (
        refusal("context_length_exceeded"),
        (400, "context_length_exceeded", WRONG),
        {},
    ),
    "content_filter": (refusal("content_filter"), (400, "content_filter", WRONG), AGAIN),
    "rate_limit_exceeded": (
        status(429, retry_after="7"),
        (429, "rate_limit_exceeded", "rate_limit_error"),
        {"retry-after": "7"},
    ),
    "a far Retry-After": (
        status(429, retry_after="4000"),
        (429, "rate_limit_exceeded", "rate_limit_error"),
        {"retry-after": "120"},
    ),
    "upstream_unavailable": (status(500), (502, "upstream_unavailable", FAULT), {}),
    "a connection reset": (
        Answer(before_head="reset"),
        (502, "upstream_unavailable", FAULT),
        {},
    ),
    "upstream_credential": (status(401), (502, "upstream_credential", FAULT), AGAIN),
    "a quota": (
        status(429, {"message": "no money", "type": "insufficient_quota", "code": None}),
        (502, "upstream_credential", FAULT),
        AGAIN,
    ),
    "upstream_malformed": (
        Answer(pieces=(b"<html>",)),
        (502, "upstream_malformed", FAULT),
        {},
    ),
    "overloaded": (status(503), (503, "overloaded", FAULT), {}),
    "upstream_timeout": (
        Answer(before_head="silence"),
        (504, "upstream_timeout", FAULT),
        {},
    ),
}


@pytest.mark.behaviour(120, 130, 132, 134, 135, 140)
@pytest.mark.parametrize("case", UPSTREAM)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_provider_does_has_its_row(
    http: httpx.AsyncClient, upstream: Upstream, case: str, stream: object
):
    answer, expected, headers = UPSTREAM[case]
    upstream.always("up", answer)

    shown = await http.post(CHAT, json={"model": "one", "messages": HI, "stream": stream})

    assert_row(shown, expected, headers)
    assert 1 == len(shown.json()["error"]["attempts"])


async def test_failures_of_different_kinds_have_their_row(
    http: httpx.AsyncClient, upstream: Upstream
):
    upstream.always("up", status(500))
    upstream.always("other", status(401))

    shown = await http.post(CHAT, json={"model": "two", "messages": HI})

    assert_row(shown, (502, "all_targets_failed", FAULT), {})
    assert 2 == len(shown.json()["error"]["attempts"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "kind"), [(CHAT, FAULT), ("/v1/messages", "timeout_error")])
async def test_a_time_that_is_over_has_its_row(
    http: httpx.AsyncClient,
    upstream: Upstream,
    path: str,
    kind: str,
    stream: object,
):
    """What was tried until then is told as of any other failure, in either dialect."""
    upstream.always("up", Answer(before_head="silence"))

    shown = await http.post(
        path,
        json={"model": "one", "messages": HI, "stream": stream, "max_tokens": 5},
        headers={"x-sluiceway-timeout": "0.1"},
    )

    assert_row(shown, (504, "deadline_exceeded", kind), AGAIN)
    (attempt,) = shown.json()["error"]["attempts"]
    assert ("up", "timeout") == (attempt["provider"], attempt["kind"])


@pytest.mark.behaviour(121)
async def test_a_stream_that_breaks_has_its_row(http: httpx.AsyncClient, upstream: Upstream):
    """In its last event: the status has gone out."""
    whole = streams("hello", "world").pieces
    upstream.always("up", sse(whole[:2], end="reset"))

    shown = await http.post(CHAT, json={"model": "one", "messages": HI, "stream": True})

    last = httpx.Response(200, content=shown.text.strip().split("data: ")[-1]).json()["error"]
    assert (200, "stream_interrupted", FAULT) == (shown.status_code, last["code"], last["type"])


Ask = Callable[[httpx.AsyncClient, Edge], Awaitable[httpx.Response]]
KEYLESS = {"authorization": "Bearer sk-guess"}
MASTER = {"authorization": f"Bearer {MASTER_KEY}"}
CALL = {"model": "one", "messages": HI}


async def conflict(http: httpx.AsyncClient, _: Edge) -> httpx.Response:
    job = (await http.post("/v1/jobs", json={"endpoint": CHAT, "body": CALL})).json()
    return await http.delete(f"/v1/jobs/{job['id']}")


async def queue_full(http: httpx.AsyncClient, _: Edge) -> httpx.Response:
    await http.post("/v1/jobs", json={"endpoint": CHAT, "body": CALL})
    return await http.post("/v1/jobs", json={"endpoint": CHAT, "body": CALL})


async def cancelled(http: httpx.AsyncClient, _: Edge) -> httpx.Response:
    job = (await http.post("/v1/jobs", json={"endpoint": CHAT, "body": CALL})).json()
    await http.post(f"/v1/jobs/{job['id']}/cancel")
    return await http.get(f"/v1/jobs/{job['id']}/result")


async def store_unavailable(http: httpx.AsyncClient, edge: Edge) -> httpx.Response:
    await edge.runtime.store.close()
    return await http.get("/v1/usage")


async def internal_error(http: httpx.AsyncClient, edge: Edge) -> httpx.Response:
    edge.gateway = None
    return await http.post(CHAT, json=CALL)


def asks(method: str, path: str, **how: object) -> Ask:
    async def ask(http: httpx.AsyncClient, _: Edge) -> httpx.Response:
        return await http.request(method, path, **how)

    return ask


OURS = [
    (asks("POST", CHAT, json={}), (400, "invalid_request", WRONG), {}),
    (
        asks("POST", CHAT, json=CALL, headers=KEYLESS),
        (401, "invalid_api_key", "authentication_error"),
        {},
    ),
    (
        asks("POST", CHAT, json=CALL, headers=MASTER),
        (403, "permission_denied", "permission_error"),
        {},
    ),
    (asks("POST", CHAT, json=CALL | {"model": "x"}), (404, "model_not_found", WRONG), {}),
    (asks("GET", "/v1/jobs/x"), (404, "not_found", WRONG), {}),
    (asks("PUT", CHAT), (405, "method_not_allowed", WRONG), {"allow": "POST"}),
    (conflict, (409, "conflict", "conflict"), {}),
    (cancelled, (409, "cancelled", FAULT), AGAIN),
    (
        asks("POST", CHAT, content=b"x" * 1_100_000, headers={"content-type": "application/json"}),
        (413, "request_too_large", WRONG),
        {},
    ),
    (queue_full, (429, "queue_full", "rate_limit_error"), {"retry-after": "120"}),
    (internal_error, (500, "internal_error", FAULT), {}),
    (store_unavailable, (503, "store_unavailable", FAULT), {"retry-after": "2"}),
]


@pytest.mark.parametrize(("ask", "expected", "headers"), OURS, ids=[row[1][1] for row in OURS])
async def test_what_we_refuse_has_its_row(
    http: httpx.AsyncClient, edge: Edge, upstream: Upstream, ask: Ask, expected, headers
):
    upstream.always("up", says("hello"))

    assert_row(await ask(http, edge), expected, headers)


def assert_row(shown: httpx.Response, expected: object, headers: dict[str, str]) -> None:
    error = shown.json()["error"]
    assert expected == (shown.status_code, error["code"], error["type"]), shown.text
    assert {"message", "type", "param", "code"} <= error.keys()
    assert "application/json" == shown.headers["content-type"]
    assert shown.headers["x-request-id"]
    told = {
        name: shown.headers[name]
        for name in ("retry-after", "x-should-retry", "allow")
        if name in shown.headers
    }
    assert headers == told
