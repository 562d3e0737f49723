"""Whatever comes in, a 4xx in OpenAI's shape goes out; never a 500, never a hang."""

import gzip
import json
import time
from datetime import timedelta

import httpx
import pytest

from api.edge import Edge
from shared.clock import SystemClock
from shared.identity import key_hash
from shared.store.keys import ensure_tenant, insert_key, revoke_key
from shared.store.records import KeyRow
from tests.edge.api.conftest import KEY, MASTER_KEY

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
HELLO = [{"role": "user", "content": "hello"}]


def body(**fields: object) -> bytes:
    return json.dumps({"model": "mock", "messages": HELLO} | fields).encode()


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


BODIES = {
    "nothing": (b"", None),
    "no JSON": (b"{model: mock}", None),
    "cut JSON": (b'{"model": "mock", "messages": [', None),
    "two values": (b"{} {}", None),
    "a list": (b"[]", None),
    "null": (b"null", None),
    "bad UTF-8": (b'{"model": "mock\xff", "messages": []}', None),
    "UTF-16": (body().decode().encode("utf-16"), None),
    "half a surrogate pair": (b'{"model": "\\ud800", "messages": []}', None),
    "deep model": (b'{"model": ' + nested(100_000) + b"}", "model"),
    "deep messages": (b'{"model": "mock", "messages": ' + nested(100_000) + b"}", None),
    "deep unknown": (body()[:-1] + b', "x": ' + nested(100_000) + b"}", None),
    "no model": (b'{"messages": [{"role": "user"}]}', "model"),
    "empty model": (body(model=""), "model"),
    "model null": (body(model=None), "model"),
    "model a number": (body(model=7), "model"),
    "no messages": (b'{"model": "mock"}', "messages"),
    "messages null": (body(messages=None), "messages"),
    "messages empty": (body(messages=[]), "messages"),
    "messages a text": (body(messages="hello"), "messages"),
    "messages an object": (body(messages={}), "messages"),
    "unknown role": (body(messages=[*HELLO, {"role": "robot"}]), "messages[1].role"),
    "stream a text": (body(stream="yes"), "stream"),
    "stream options a text": (body(stream=True, stream_options="usage"), "stream_options"),
    "max_tokens a text": (body(max_tokens="many"), "max_tokens"),
    "n a fraction": (body(n=1.5), "n"),
    "user a number": (body(user=5), "user"),
    "out of range": (body()[:-1] + b', "max_tokens": 1e400}', None),
}


@pytest.mark.behaviour(1, 139)
@pytest.mark.parametrize("case", BODIES)
async def test_a_bad_body_is_a_400(http: httpx.AsyncClient, case: str):
    sent, param = BODIES[case]

    answer = await http.post(CHAT, content=sent, headers=JSON)

    assert_refused(answer, 400, "invalid_request")
    if param is not None:
        assert param == answer.json()["error"]["param"]


async def test_a_compressed_body_is_told_from_a_broken_one(http: httpx.AsyncClient):
    answer = await http.post(CHAT, content=gzip.compress(body()), headers=JSON)

    assert_refused(answer, 400, "invalid_request")
    assert "compressed" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "sent",
    [
        body(n=10**30),
        body(max_tokens=10**30),
        body(max_tokens=-1),
        body(n=-5),
        body(user="a\x00b", safety_identifier="\U0001f600"),
        body(messages=[{"role": "user", "content": None}]),
        body(stream=None, stream_options=None),
        body(model="team/mock"),
        body()[:-1] + b', "x": ' + nested(200) + b"}",
    ],
    ids=["n", "max_tokens", "negative", "negative n", "NUL", "null", "nulls", "alias", "deep"],
)
async def test_what_is_odd_but_decides_nothing_of_ours_is_the_providers(
    http: httpx.AsyncClient, edge: Edge, sent: bytes
):
    """It is not refused by us, and the books take it."""
    answer = await http.post(CHAT, content=sent, headers=JSON)

    assert answer.status_code in {200, 400}, answer.text
    if answer.status_code == 400:
        assert answer.json()["error"]["attempts"], "the mock refused it, not we"


@pytest.mark.parametrize(
    ("path", "sent", "param"),
    [
        ("/v1/embeddings", {"model": "mock"}, "input"),
        ("/v1/embeddings", {"model": "mock", "input": None}, "input"),
        ("/v1/embeddings", {"model": "mock", "input": "a", "stream": True}, "stream"),
        ("/v1/jobs", {}, "endpoint"),
        ("/v1/jobs", {"endpoint": CHAT}, "body"),
        ("/v1/jobs", {"endpoint": 5, "body": {}}, "endpoint"),
        ("/v1/jobs", {"endpoint": "/v1/nothing", "body": {}}, "endpoint"),
        ("/v1/jobs", {"endpoint": CHAT, "body": {"model": "mock"}}, "body.messages"),
        ("/v1/jobs", {"endpoint": CHAT, "body": []}, "body"),
        ("/v1/jobs", {"endpoint": CHAT, "body": {}}, "body.model"),
        ("/v1/jobs", {"endpoint": CHAT, "body": {"model": "mock", "n": "x"}}, "body.n"),
        ("/v1/jobs", {"endpoint": CHAT, "body": {}, "surprise": 1}, "surprise"),
    ],
)
async def test_other_bodies_are_checked_too(http: httpx.AsyncClient, path, sent, param):
    answer = await http.post(path, json=sent)

    assert_refused(answer, 400, "invalid_request")
    if param is not None:
        assert param == answer.json()["error"]["param"]


async def test_what_is_missing_is_called_missing(http: httpx.AsyncClient):
    answer = await http.post(CHAT, json={"model": "mock"})

    assert "`messages` is required: a list of messages." == answer.json()["error"]["message"]


async def test_a_job_for_a_model_that_is_not_there_is_a_404(http: httpx.AsyncClient):
    asked = {"endpoint": CHAT, "body": {"model": "none", "messages": HELLO}}

    answer = await http.post("/v1/jobs", json=asked)

    assert_refused(answer, 404, "model_not_found")
    assert "body.model" == answer.json()["error"]["param"]


@pytest.mark.parametrize("kind", ["text/plain", "application/jsonl", "multipart/form-data"])
async def test_a_job_comes_as_json(http: httpx.AsyncClient, kind: str):
    asked = {"endpoint": CHAT, "body": {"model": "mock", "messages": HELLO}}

    answer = await http.post("/v1/jobs", content=json.dumps(asked), headers={"content-type": kind})

    assert_refused(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    ("query", "param"), [("limit=abc", "limit"), ("limit=0", "limit"), ("limit=101", "limit")]
)
async def test_a_bad_query_names_the_parameter_and_why(
    http: httpx.AsyncClient, query: str, param: str
):
    answer = await http.get(f"/v1/jobs?{query}")

    assert_refused(answer, 400, "invalid_request")
    error = answer.json()["error"]
    assert param == error["param"]
    assert f"`{param}`" in error["message"]
    assert "int" in error["message"]


@pytest.mark.parametrize("path", ["/schema", "/schema/", "/schema/openapi.json", "/schema/swagger"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_frameworks_own_pages_are_not_served(
    http: httpx.AsyncClient, method: str, path: str
):
    assert_refused(await http.request(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", "urgent"),
        ("priority", ""),
        ("priority", 0),
        ("deadline", ""),
        ("deadline", 0),
        ("deadline", "tomorrow"),
        ("deadline", 1),
        ("deadline", 10**18),
        ("deadline", True),
        ("not_before", [1]),
        ("not_before", "9999-12-31T23:59:59Z"),
        ("metadata", {"a": 1}),
        ("metadata", "a"),
        ("webhook_url", "ftp://example.com"),
        ("webhook_url", 5),
        ("webhook_url", ""),
        ("webhook_url", False),
        ("webhook_url", "http://10.0.0.1/hook"),
        ("webhook_url", "https://[::1]/hook"),
    ],
)
async def test_terms_of_a_job_are_checked(http: httpx.AsyncClient, field: str, value: object):
    asked = {"endpoint": CHAT, "body": {"model": "mock", "messages": HELLO}, field: value}

    answer = await http.post("/v1/jobs", json=asked)

    assert_refused(answer, 400, "invalid_request")
    assert field == answer.json()["error"]["param"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-sluiceway-timeout", "soon"),
        ("x-sluiceway-timeout", "0"),
        ("x-sluiceway-timeout", "nan"),
        ("x-sluiceway-timeout", "-1"),
        ("x-sluiceway-tags", "no-value"),
        ("x-sluiceway-tags", "a=" + "x" * 200),
        ("x-sluiceway-tags", ",".join(f"k{number}=v" for number in range(17))),
        ("content-type", "text/plain"),
        ("content-type", "multipart/form-data; boundary=x"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_bad_headers_are_a_400(http: httpx.AsyncClient, name: str, value: str, stream):
    answer = await http.post(CHAT, content=body(stream=stream), headers={**JSON, name: value})

    assert_refused(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_allowed"),
        ("PUT", "/v1/embeddings", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("PATCH", "/v1/jobs", 405, "method_not_allowed"),
        ("GET", "/", 404, "not_found"),
        ("POST", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/chat/completions/more", 404, "not_found"),
        ("GET", "/v1/jobs/job_0", 404, "not_found"),
        ("GET", "/v1/jobs/%00%ff", 404, "not_found"),
        ("GET", "/v1/jobs/job_0/result", 404, "not_found"),
        ("POST", "/v1/jobs/job_0/cancel", 404, "not_found"),
        ("DELETE", "/v1/jobs/job_0", 404, "not_found"),
        ("GET", "/v1/models/none", 404, "model_not_found"),
        ("GET", "/v1/jobs?limit=0", 400, "invalid_request"),
        ("GET", "/v1/jobs?limit=many", 400, "invalid_request"),
        ("GET", "/v1/jobs?status=asleep", 400, "invalid_request"),
        ("GET", "/v1/jobs/job_0?wait=61", 400, "invalid_request"),
        ("GET", "/v1/usage?since=yesterday", 400, "invalid_request"),
        ("GET", "/v1/usage?until=1e30", 400, "invalid_request"),
    ],
)
async def test_paths_methods_and_queries(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
):
    answer = await http.request(method, path)

    assert_refused(answer, status, code)


async def test_a_base_url_without_v1_is_told_so(http: httpx.AsyncClient):
    answer = await http.post("/chat/completions", content=body(), headers=JSON)

    assert_refused(answer, 404, "not_found")
    assert "/v1/chat/completions" in answer.json()["error"]["message"]


async def test_a_405_names_what_is_allowed(http: httpx.AsyncClient):
    assert "POST" == (await http.get(CHAT)).headers["allow"]
    assert "GET" in (await http.post("/v1/models")).headers["allow"]


@pytest.mark.behaviour(44)
@pytest.mark.parametrize("path", [CHAT, "/v1/jobs"])
async def test_a_body_that_is_too_large_is_a_413(http: httpx.AsyncClient, path: str):
    """Announced or not."""

    async def pieces():
        for _ in range(20):
            yield b"x" * 100_000

    announced = await http.post(path, content=b"x" * 1_100_000, headers=JSON)
    streamed = await http.post(path, content=pieces(), headers=JSON)

    for answer in (announced, streamed):
        assert_refused(answer, 413, "request_too_large")


async def test_a_full_queue_is_a_429(http: httpx.AsyncClient):
    for _ in range(3):
        accepted = await http.post(
            CHAT, content=body(), headers={**JSON, "prefer": "respond-async"}
        )
        assert 202 == accepted.status_code

    full = await http.post(CHAT, content=body(), headers={**JSON, "prefer": "respond-async"})

    assert_refused(full, 429, "queue_full")
    assert "120" == full.headers["retry-after"]


KEYED = [
    ("POST", CHAT),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/mock"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/job_0"),
    ("GET", "/v1/jobs/job_0/result"),
    ("POST", "/v1/jobs/job_0/cancel"),
    ("DELETE", "/v1/jobs/job_0"),
    ("GET", "/v1/usage"),
]


@pytest.mark.behaviour(138)
@pytest.mark.parametrize(("method", "path"), KEYED)
async def test_every_path_wants_a_tenants_key(http: httpx.AsyncClient, method: str, path: str):
    del http.headers["authorization"]
    send = {"json": {"model": "mock", "messages": HELLO}} if method == "POST" else {}

    without = await http.request(method, path, **send)
    unknown = await http.request(method, path, **send, headers={"x-api-key": "sk-guess"})
    basic = await http.request(method, path, **send, headers={"authorization": "Basic eDp5"})
    master = await http.request(
        method, path, **send, headers={"authorization": f"Bearer {MASTER_KEY}"}
    )

    for answer in (without, unknown, basic):
        assert_refused(answer, 401, "invalid_api_key")
    assert_refused(master, 403, "permission_denied")
    assert "master key" in master.json()["error"]["message"]


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "authorization"])
async def test_a_key_may_come_in_three_headers(http: httpx.AsyncClient, header: str):
    del http.headers["authorization"]
    value = f"bearer {KEY}" if header == "authorization" else KEY

    answer = await http.get("/v1/models", headers={header: value})

    assert 200 == answer.status_code


async def test_keys_of_the_database_work_until_they_end(http: httpx.AsyncClient, edge: Edge):
    """Revoked and expired ones are refused like unknown ones."""
    now = SystemClock().now()
    secret = edge.runtime.settings.secret_key.reveal()
    async with edge.runtime.store.write() as tx:
        await ensure_tenant(tx, "acme", "whsec_x", now)
        for name, expires_at in (("good", None), ("late", now - timedelta(seconds=1))):
            await insert_key(
                tx,
                KeyRow(
                    id=f"key_{name}",
                    tenant_id="acme",
                    name=name,
                    key_hash=key_hash(secret, f"sk-{name}"),
                    hint=name,
                    scopes=(),
                    created_at=now,
                    expires_at=expires_at,
                    revoked_at=None,
                ),
            )
    good = {"authorization": "Bearer sk-good"}

    assert 200 == (await http.get("/v1/models", headers=good)).status_code
    late = await http.get("/v1/models", headers={"authorization": "Bearer sk-late"})
    assert_refused(late, 401, "invalid_api_key")
    async with edge.runtime.store.write() as tx:
        await revoke_key(tx, "key_good", now)
    await edge.keys.refresh()
    assert_refused(await http.get("/v1/models", headers=good), 401, "invalid_api_key")


async def test_provider_model_needs_a_scope(http: httpx.AsyncClient):
    """`provider/model` without a route is off by default."""
    answer = await http.post(CHAT, content=body(model="mock/anything"), headers=JSON)

    assert_refused(answer, 404, "model_not_found")


async def test_a_refusal_is_quick(http: httpx.AsyncClient):
    """The deepest body costs no more than reading it."""
    started_s = time.monotonic()

    await http.post(CHAT, content=b'{"x": ' + nested(400_000) + b"}", headers=JSON)

    assert time.monotonic() - started_s < 1


def assert_refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (status, "application/json") == (
        answer.status_code,
        answer.headers["content-type"].split(";")[0],
    ), answer.text
    error = answer.json()["error"]
    assert code == error["code"], error
    assert {"message", "type", "param", "code"} <= error.keys()
    assert error["message"]
    assert answer.headers["x-request-id"]
