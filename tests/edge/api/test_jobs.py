"""`/v1/jobs` as a caller sees it: what is kept of the call, its answer, its place in the queue."""

import asyncio
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from api.edge import Edge
from shared.jobs.lease import Interrupt
from shared.jobs.results import MOST_INLINE_BYTES
from shared.jobs.run import run_job
from shared.store.engine import Store
from shared.store.jobs import list_jobs
from shared.store.records import JobRow
from tests.edge.api.conftest import KEY
from tests.edge.api.messages import line, routes
from tests.edge.workers.makers import Script, claimed_one, make_desk, make_past, read_job
from tests.fakes.upstream import running_upstream, says, status
from tests.fakes.vendors.anthropic import AnthropicVendor
from workers.calls import GatewayCall

pytestmark = pytest.mark.anyio

BODY = {"model": "mock", "messages": [{"role": "user", "content": "hello"}]}
LARGE = b'{"text":"' + b"x" * MOST_INLINE_BYTES + b'"}'


async def work(edge: Edge, call: object = None) -> JobRow:
    """Run the one job that waits, as a worker would; return it with the time turned to its next."""
    runtime = edge.runtime
    desk = make_desk(
        store=runtime.store,
        objects=runtime.objects,
        bell=runtime.bell,
        call=call or GatewayCall(runtime.gateway, runtime.store, runtime.config),
    )
    job = await claimed_one(desk)
    await run_job(job, desk, Interrupt())
    after = await read_job(desk, job.id)
    if after.not_before is not None:
        await make_past(desk, job.id, "not_before")
    return after


async def submitted(http: httpx.AsyncClient, **terms: object) -> dict:
    answer = await http.post(
        "/v1/jobs", json={"endpoint": "/v1/chat/completions", "body": BODY, **terms}
    )
    assert 202 == answer.status_code, answer.text
    return answer.json()


async def test_the_provider_is_told_later_what_the_caller_said_of_itself(
    tmp_path: Path, sqlite_url: str
):
    """Version and betas go on with a job as they do with a call, whichever way it was submitted."""
    asked = {
        "model": "claude",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hello"}],
    }
    told = {"anthropic-version": "2026-10-21", "anthropic-beta": "a-1,b-2"}
    async with AnthropicVendor() as vendor:
        claude = {"kind": "anthropic", "base_url": vendor.base_url, "api_key": "k"}
        async with line(tmp_path, sqlite_url, routes(("claude", claude))) as api:
            headers = {**told, "x-api-key": KEY}
            for path, body in (
                ("/v1/messages", asked),
                ("/v1/jobs", {"endpoint": "/v1/messages", "body": asked}),
            ):
                vendor.says("hi")
                answer = await api.http.post(
                    path, json=body, headers={**headers, "prefer": "respond-async"}
                )
                assert 202 == answer.status_code, answer.text
                await work(api.edge)

            for _, seen, _ in vendor.requests:
                assert told == {name: seen[name] for name in told}
            assert 2 == len(vendor.requests)


TOO_LONG = status(400, {"message": "too long", "code": "context_length_exceeded"})


async def test_a_job_that_was_put_off_goes_on_at_the_target_it_had_come_to(
    tmp_path: Path, sqlite_url: str
):
    """Its question is too long for the first target, and the one for long questions is limited."""
    async with running_upstream() as upstream:
        providers = {
            name: {"kind": "fireworks", "base_url": upstream.base_url(name), "api_key": "k"}
            for name in ("short", "long")
        }
        once = {"max_attempts": 1}
        config = {
            "providers": providers,
            "routes": [
                {
                    "model": "mock",
                    "targets": [{"provider": "short", "model": "s"}],
                    "on_failure": {"context_length": ["longer"]},
                    "retry": once,
                },
                {"model": "longer", "targets": [{"provider": "long", "model": "l"}], "retry": once},
            ],
        }
        upstream.script("short", TOO_LONG)
        upstream.script("long", status(429, retry_after="60"), says("at last"))
        async with line(tmp_path, sqlite_url, config) as api:
            answer = await api.http.post(
                "/v1/chat/completions",
                json=BODY,
                headers={"prefer": "respond-async", "authorization": f"Bearer {KEY}"},
            )
            assert 202 == answer.status_code, answer.text

            waiting = await work(api.edge)
            assert ("scheduled", 0, 1) == (
                waiting.status,
                waiting.attempts_spent,
                waiting.deferrals,
            )
            done = await work(api.edge)

        assert ("succeeded", 1, 2) == (
            done.status,
            len(upstream.asked("short")),
            len(upstream.asked("long")),
        )


async def test_an_outage_is_a_delay(tmp_path: Path, sqlite_url: str):
    """Nobody answers for a while; then the job is done as if nothing had been."""
    async with running_upstream() as upstream:
        config = routes(
            *(
                (name, {"kind": "fireworks", "base_url": upstream.base_url(name), "api_key": "k"})
                for name in ("alpha", "beta")
            )
        )
        config["routes"][0]["fallbacks"] = ["beta"]
        upstream.script("alpha", *[status(502)] * 6, says("back again"))
        upstream.always("beta", status(500))
        async with line(tmp_path, sqlite_url, config) as api:
            answer = await api.http.post(
                "/v1/chat/completions",
                json={**BODY, "model": "alpha"},
                headers={"prefer": "respond-async", "authorization": f"Bearer {KEY}"},
            )
            assert 202 == answer.status_code, answer.text
            for _ in range(6):
                waiting = await work(api.edge)
                assert ("scheduled", 0, "upstream_unavailable") == (
                    waiting.status,
                    waiting.attempts_spent,
                    waiting.waits_for,
                )

            done = await work(api.edge)

        assert "succeeded" == done.status
        assert b"back again" in (done.response_body or b"")


async def test_a_large_answer_is_read_like_any_other(http: httpx.AsyncClient, edge: Edge):
    """It lies in the object store; only lists leave it out. Deleting the job deletes it."""
    job = await submitted(http)
    await work(edge, Script(LARGE))
    path = f"/v1/jobs/{job['id']}"

    assert LARGE == (await http.get(f"{path}/result")).content
    assert msgspec.json.decode(LARGE) == (await http.get(path)).json()["response"]["body"]
    [listed] = (await http.get("/v1/jobs")).json()["data"]
    assert {"status_code": 200, "body": None} == listed["response"]
    stored = edge.runtime.settings.data_dir / "objects" / "results" / job["id"]
    assert [str(len(LARGE))] == [str(one.stat().st_size) for one in stored.iterdir()]

    assert 200 == (await http.delete(path)).status_code
    assert [] == [one for one in stored.parent.rglob("*") if one.is_file()]


async def test_a_job_whose_answer_is_gone_can_still_be_read(http: httpx.AsyncClient, edge: Edge):
    job = await submitted(http)
    await work(edge, Script(LARGE))
    await edge.runtime.objects.delete(f"results/{job['id']}/1")

    shown = (await http.get(f"/v1/jobs/{job['id']}")).json()

    assert ("succeeded", {"status_code": 200, "body": None}) == (
        shown["status"],
        shown["response"],
    )
    assert 500 == (await http.get(f"/v1/jobs/{job['id']}/result")).status_code


async def test_who_waits_hears_of_the_job_when_the_database_fails(
    http: httpx.AsyncClient, edge: Edge
):
    """It is accepted, and will be done: who does not know its name would submit it again."""
    store = edge.runtime.store
    asking = asyncio.create_task(
        http.post("/v1/chat/completions", json=BODY, headers={"prefer": "respond-async, wait=30"})
    )
    async with asyncio.timeout(10):
        while not (jobs := await committed(store)):  # noqa: ASYNC110 (a database tells nobody)
            await asyncio.sleep(0.01)
    await store.close()

    answer = await asking

    assert (202, jobs, "queued") == (
        answer.status_code,
        [answer.json()["id"]],
        answer.json()["status"],
    )
    assert f"/v1/jobs/{jobs[0]}" == answer.headers["location"]


async def committed(store: Store) -> list[str]:
    async with store.read() as tx:
        return [row.id for row in await list_jobs(tx, "acme", limit=9, after=None)]


async def test_a_full_queue_says_how_fast_it_gets_shorter(http: httpx.AsyncClient, edge: Edge):
    """The tenant may have three open jobs; one was done in the last minute."""
    await submitted(http)
    await work(edge)
    for _ in range(3):
        await submitted(http)

    refused = await http.post("/v1/jobs", json={"endpoint": "/v1/chat/completions", "body": BODY})

    assert (429, "queue_full") == (refused.status_code, refused.json()["error"]["code"])
    assert "120" == refused.headers["retry-after"]  # 3 jobs at 1 a minute, never above 120


async def test_a_waiting_job_tells_its_place_and_when_it_may_start(
    http: httpx.AsyncClient, edge: Edge
):
    await submitted(http)
    await work(edge)
    await submitted(http)
    second = await submitted(http)
    later = await submitted(http, not_before=int(time.time()) + 3600, on_budget="wait")

    assert (2, "fail") == (second["queue_position"], second["on_budget"])
    assert abs(second["estimated_start"] - (time.time() + 120)) < 60
    assert (None, later["not_before"], "wait") == (
        later["queue_position"],
        later["estimated_start"],
        later["on_budget"],
    )
