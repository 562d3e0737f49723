"""`/admin/jobs…`, `/admin/queue…`, `/admin/workers…`."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from shared.store.tables import job
from shared.store.workers import Presence, be_seen
from tests.edge.api.conftest import MASTER_KEY

MASTER = {"authorization": f"Bearer {MASTER_KEY}"}
HELLO = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}
WAYS = [
    ("GET", "/admin/jobs"),
    ("GET", "/admin/jobs/job_1"),
    ("POST", "/admin/jobs/job_1/retry"),
    ("POST", "/admin/jobs/job_1/cancel"),
    ("GET", "/admin/queue"),
    ("POST", "/admin/queue/pause"),
    ("POST", "/admin/queue/resume"),
    ("GET", "/admin/workers"),
    ("POST", "/admin/workers/w/drain"),
    ("POST", "/admin/workers/w/resume"),
]


@pytest.fixture
def ask(http):
    """Ask as the operator; return status and body."""

    async def ask(method, path, **how):
        answer = await http.request(method, path, headers=MASTER, **how)
        return answer.status_code, answer.json()

    return ask


async def submitted(http, **terms):
    body = {"endpoint": "/v1/chat/completions", "body": HELLO, **terms}
    return (await http.post("/v1/jobs", json=body)).json()["id"]


async def changed(edge, job_id, **values):
    async with edge.runtime.store.write() as tx:
        await tx.connection.execute(sa.update(job).where(job.c.id == job_id).values(values))


@pytest.mark.parametrize(("method", "path"), WAYS)
async def test_only_the_master_key_operates(http, method, path):
    answer = await http.request(method, path)

    assert 403 == answer.status_code


async def test_a_job_is_shown_with_its_reason(edge, http, ask):
    own_id = await submitted(http)

    status, page = await ask("GET", "/admin/jobs?tenant=acme&status=queued&priority=default")
    _, shown = await ask("GET", f"/admin/jobs/{own_id}")

    assert (200, [own_id], False) == (status, [one["id"] for one in page["data"]], page["has_more"])
    assert ("acme", "no_worker", None) == (
        shown["tenant_id"], shown["reason"]["code"], shown["stuck"],
    )  # fmt: skip
    assert (404, "not_found") == code(await ask("GET", "/admin/jobs/job_9"))
    assert (400, "invalid_request") == code(await ask("GET", "/admin/jobs?status=lost"))
    assert (400, "invalid_request") == code(await ask("GET", "/admin/jobs?priority=urgent"))


def code(answer):
    status, body = answer
    return status, body["error"]["code"]


async def test_stuck_jobs_are_found(edge, http, ask):
    await submitted(http)
    late = await submitted(http)
    long_ago = edge.clock.now() - timedelta(minutes=5)
    await changed(edge, late, deadline=long_ago)

    _, page = await ask("GET", "/admin/jobs?stuck=true")
    _, queue = await ask("GET", "/admin/queue")

    assert [(late, "past_deadline")] == [(one["id"], one["stuck"]) for one in page["data"]]
    assert {"past_deadline": 1} == queue["stuck"]
    assert [0, 2, 0] == [one["queued"] for one in queue["classes"]]


async def test_a_job_that_failed_runs_again_as_a_copy(edge, http, ask):
    """It has the same time and terms; the books and the tenant can tell the two apart."""
    own_id = await submitted(http, metadata={"order": "7"}, priority="batch")
    now = edge.clock.now()
    await changed(edge, own_id, status="failed", created_at=now - timedelta(hours=2), deadline=now)

    status, copy = await ask("POST", f"/admin/jobs/{own_id}/retry")

    assert 200 == status
    assert own_id != copy["id"]
    assert ("queued", "batch", {"order": "7", "retry_of": own_id}) == (
        copy["status"], copy["priority"], copy["metadata"],
    )  # fmt: skip
    assert 7200 == copy["deadline"] - copy["created_at"]
    _, before = await ask("GET", f"/admin/jobs/{own_id}")
    assert "failed" == before["status"]


async def test_a_job_that_is_put_off_starts_at_a_word(edge, http, ask):
    own_id = await submitted(http, not_before=int(edge.clock.now().timestamp()) + 3600)

    status, shown = await ask("POST", f"/admin/jobs/{own_id}/retry")

    assert (200, own_id, "queued") == (status, shown["id"], shown["status"])


@pytest.mark.parametrize("status", ["queued", "running", "succeeded"])
async def test_there_is_nothing_to_be_retried(edge, http, ask, status):
    own_id = await submitted(http)
    await changed(edge, own_id, status=status)

    assert (409, "conflict") == code(await ask("POST", f"/admin/jobs/{own_id}/retry"))


async def test_an_operator_cancels_anyones_job(http, ask):
    own_id = await submitted(http)

    for _ in range(2):
        status, shown = await ask("POST", f"/admin/jobs/{own_id}/cancel")
        assert (200, "cancelled") == (status, shown["status"])
    assert (404, "not_found") == code(await ask("POST", "/admin/jobs/job_9/cancel"))


async def test_classes_and_tenants_are_paused_and_resumed(http, ask):
    own_id = await submitted(http)
    why = {"scope": "tenant:acme", "reason": "noisy"}

    status, queue = await ask("POST", "/admin/queue/pause", json=why)
    await ask("POST", "/admin/queue/pause", json={"scope": "class:batch"})
    _, shown = await ask("GET", f"/admin/jobs/{own_id}")
    await ask("POST", "/admin/queue/resume", json={"scope": "tenant:acme"})
    _, after = await ask("GET", "/admin/queue")

    assert (200, [("tenant:acme", "noisy")]) == (
        status, [(one["scope"], one["reason"]) for one in queue["pauses"]],
    )  # fmt: skip
    assert "paused" == shown["reason"]["code"]
    assert ["class:batch"] == [one["scope"] for one in after["pauses"]]
    assert [False, False, True] == [one["paused"] for one in after["classes"]]


@pytest.mark.parametrize(
    "body",
    [b'{"scope": "class:urgent"}', b'{"scope": "tenant:"}', b'{"scope": "acme"}', b"{}", b"x"],
)
async def test_what_is_no_scope_is_refused(ask, body):
    assert (400, "invalid_request") == code(await ask("POST", "/admin/queue/pause", content=body))


async def test_workers_are_listed_and_told_to_drain(edge, ask):
    present = Presence(owner="w", host="h", started_at=edge.clock.now(), slots=8, running=2)
    async with edge.runtime.store.write() as tx:
        await be_seen(tx, present)

    _, before = await ask("GET", "/admin/workers")
    status, told = await ask("POST", "/admin/workers/w/drain")
    _, after = await ask("POST", "/admin/workers/w/resume")

    [worker] = before["data"]
    assert ("w", "working", 2, 8) == (
        worker["id"], worker["state"], worker["running"], worker["slots"],
    )  # fmt: skip
    assert (200, "draining", "working") == (
        status,
        told["data"][0]["state"],
        after["data"][0]["state"],
    )
    assert (404, "not_found") == code(await ask("POST", "/admin/workers/nobody/drain"))
