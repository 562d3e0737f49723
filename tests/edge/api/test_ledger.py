"""`/admin/ledger…`: a call's cost, shown and put right."""

import asyncio
import os

import httpx
import pytest

from api.app import create_app
from api.main import open_edge
from shared.ledger.verify import verify
from shared.runtime import open_runtime
from shared.store.engine import open_store
from tests.edge.api.conftest import KEY, MASTER_KEY
from tests.fakes.upstream import running_upstream

MASTER = {"authorization": f"Bearer {MASTER_KEY}"}
HELLO = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}
PATH = "/admin/ledger/adjustments"


@pytest.fixture
async def attempt_id(http, edge):
    """A call that is in the ledger."""
    await http.post("/v1/chat/completions", json=HELLO)
    for _ in range(200):
        async with edge.runtime.store.read() as tx:
            rows = (await tx.connection.exec_driver_sql("SELECT attempt_id FROM ledger")).all()
        if rows:
            return rows[0][0]
        await asyncio.sleep(0.05)
    raise AssertionError("no row came")


async def ask(http, method, path, headers=None, **how):
    answer = await http.request(method, path, headers={**MASTER, **(headers or {})}, **how)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(("method", "path"), [("POST", PATH), ("GET", "/admin/ledger/att_1")])
async def test_only_the_master_key_may(http, method, path):
    assert 403 == (await http.request(method, path)).status_code


async def test_a_cost_is_put_right_once(http, edge, attempt_id):
    """Asked twice with one key: the same answer, one row, and books that agree."""
    _, before = await ask(http, "GET", f"/admin/ledger/{attempt_id}")
    body = {"attempt_id": attempt_id, "cost_usd": "0.5", "reason": "a surcharge"}
    key = {"idempotency-key": "surcharge-1"}
    status, made = await ask(http, "POST", PATH, key, json=body)
    again = await ask(http, "POST", PATH, key, json={**body, "cost_usd": 0.5})
    _, after = await ask(http, "GET", f"/admin/ledger/{attempt_id}")

    assert (201, "ledger.adjustment", "0.5") == (status, made["object"], made["cost_usd"])
    assert (status, made) == again
    assert [] == before["adjustments"]
    assert float(before["net_cost_usd"]) + 0.5 == pytest.approx(float(after["net_cost_usd"]))
    assert before["cost_usd"] == after["cost_usd"]
    assert [made["id"]] == [one["id"] for one in after["adjustments"]]
    assert () == (await verify(edge.runtime.store, edge.runtime.config)).faults


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"attempt_id": "att_9"}, (404, "not_found")),
        ({"cost_usd": "much"}, (400, "invalid_request")),
        ({"cost_usd": -1e6}, (409, "conflict")),
        ({"reason": ""}, (400, "invalid_request")),
        ({"why": "x"}, (400, "invalid_request")),
    ],
)
async def test_what_cannot_be_is_refused(http, attempt_id, changes, expected):
    body = {"attempt_id": attempt_id, "cost_usd": "1", "reason": "x", **changes}
    status, answer = await ask(http, "POST", PATH, json=body)

    assert expected == (status, answer["error"]["code"])


async def test_a_body_that_is_no_json_is_refused(http):
    status, answer = await ask(http, "POST", PATH, content=b"{")

    assert (400, "invalid_request") == (status, answer["error"]["code"])


@pytest.fixture
def without_ledger(settings):
    """The gateway's settings, with the ledger switched off."""
    text = settings.config_path.read_text()
    settings.config_path.write_text(text + "ledger: {enabled: false}\n")
    return settings


async def test_without_a_ledger_a_call_has_its_cost_and_leaves_no_row(without_ledger):
    async with open_runtime(without_ledger, role="api") as runtime, open_edge(runtime) as edge:
        transport = httpx.ASGITransport(create_app(edge))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            key = {"authorization": f"Bearer {KEY}"}
            answer = await client.post("/v1/chat/completions", json=HELLO, headers=key)
        spooled = [path.read_bytes() for path in runtime.spool_dir.glob("*.spool")]
    store = await open_store(without_ledger.database_url)
    async with store.read() as tx:
        rows = (await tx.connection.exec_driver_sql("SELECT attempt_id FROM ledger")).all()
    await store.close()

    assert (200, True) == (answer.status_code, "x-sluiceway-cost-usd" in answer.headers)
    assert ([b""], []) == (spooled, rows)


@pytest.fixture
async def upstream():
    async with running_upstream() as running:
        yield running


@pytest.fixture
def over_the_wire(settings, upstream):
    """The gateway's settings, with a provider on a socket."""
    text = settings.config_path.read_text()
    provider = f"{{kind: openai_compatible, base_url: '{upstream.base_url('up')}', api_key: k}}"
    settings.config_path.write_text(text.replace("{kind: mock}", provider))
    return settings


async def test_while_the_disk_is_full_no_provider_is_called(over_the_wire, upstream):
    """The call that finds it out, on a connection still to be made, and those that follow."""
    async with open_runtime(over_the_wire, role="api") as runtime, open_edge(runtime) as edge:
        transport = httpx.ASGITransport(create_app(edge))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            key = {"authorization": f"Bearer {KEY}"}

            async def call(**changes):
                body = {**HELLO, **changes}
                answer = await client.post("/v1/chat/completions", json=body, headers=key)
                return answer.status_code, answer.text

            spool = edge.books._spool
            room = spool._file
            spool._file = os.open("/dev/full", os.O_WRONLY)
            refused = [await call(), await call(stream=True), await call()]
            os.close(spool._file)
            spool._file = room
            heard = len(upstream.requests)
            served = await call()
    store = await open_store(over_the_wire.database_url)
    async with store.read() as tx:
        rows = await tx.connection.exec_driver_sql(
            "SELECT outcome, code, cost_nanousd FROM ledger ORDER BY started_at"
        )
        attempts = [(row[0], row[1], row[2]) for row in rows]
    await store.close()

    assert [503, 503, 503] == [status for status, _ in refused]
    assert all("store_unavailable" in text for _, text in refused)
    assert (0, 200, 1) == (heard, served[0], len(upstream.requests))
    assert [("failed", "store_unavailable", 0), ("succeeded", None)] == [
        attempts[0],
        attempts[1][:2],
    ]
