"""The same call later: accepted, run by a worker, told of by a webhook, paid for like any other."""

import json
import time

import httpx
import pytest
from openai import OpenAI

from tests.fakes.receiver import Received
from tests.fakes.stack import eventually
from tests.fakes.upstream import Answer, status
from tests.flows.conftest import KEY, OTHER_KEY, Line

HELLO = [{"role": "user", "content": "hello later"}]
SILENT = Answer(before_head="silence")
ASYNC = {"prefer": "respond-async"}


@pytest.fixture
def http(line: Line):
    """A bare client with the tenant's key."""
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=line.api.url, headers=headers, timeout=70) as opened:
        yield opened


def submitted(client: OpenAI, request_id: str, model: str = "alpha", **headers: str):
    """Submit through the SDK and return the job object."""
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=HELLO,
        extra_headers={**ASYNC, "x-request-id": request_id, **headers},
    )
    assert 202 == raw.http_response.status_code
    job = json.loads(raw.text)
    assert f"/v1/jobs/{job['id']}" == raw.headers["location"]
    assert "respond-async" == raw.headers["preference-applied"]
    assert job["id"] == raw.headers["x-sluiceway-job"]
    return job


def told_of(line: Line, job_id: str) -> list[Received]:
    return [one for one in line.receiver.webhooks if one.json["data"]["id"] == job_id]


def test_a_job_is_accepted_run_and_told_of(
    line: Line, client: OpenAI, http: httpx.Client, request_id: str
):
    job = submitted(
        client,
        request_id,
        **{"x-sluiceway-webhook": line.receiver.url, "x-sluiceway-tags": "run=9"},
    )
    assert ("job", "/v1/chat/completions") == (job["object"], job["endpoint"])
    assert job["status"] in {"queued", "running"}

    done = http.get(f"/v1/jobs/{job['id']}", params={"wait": 20}).json()

    assert "succeeded" == done["status"]
    assert 200 == done["response"]["status_code"]
    assert "hello later" == done["response"]["body"]["choices"][0]["message"]["content"]
    assert 0.002 == done["cost_usd"]
    assert {"run": "9"} == done["tags"]
    assert [("alpha", "succeeded", 200)] == [
        (one["provider"], one["outcome"], one["status_code"]) for one in done["attempts"]
    ]
    rows = line.stack.ledger(request_id)
    assert [(job["id"], "succeeded", 2_000_000)] == [
        (row["job_id"], row["outcome"], row["cost_nanousd"]) for row in rows
    ]
    told = eventually(lambda: told_of(line, job["id"]), what="webhook")[0]
    assert told.verified
    assert "job.succeeded" == told.json["type"]


def test_the_result_is_what_the_call_would_have_answered(
    client: OpenAI, http: httpx.Client, request_id: str
):
    """202 and the job while it is open, then the answer's own bytes."""
    job = submitted(client, request_id)

    result = eventually(lambda: _result(http, job["id"]), within_s=20, what="result")

    assert 200 == result.status_code
    assert "chat.completion" == result.json()["object"]
    assert "0.002" == result.headers["x-sluiceway-cost-usd"]


def test_a_job_that_is_done_in_time_answers_like_a_call(client: OpenAI, request_id: str):
    """`Prefer: respond-async, wait=20`: the SDK sees a plain completion."""
    raw = client.chat.completions.with_raw_response.create(
        model="mock",
        messages=HELLO,
        extra_headers={"prefer": "respond-async, wait=20", "x-request-id": request_id},
    )

    assert 200 == raw.http_response.status_code
    assert "You said: hello later" == raw.parse().choices[0].message.content
    assert raw.headers["x-sluiceway-job"].startswith("job_")
    assert "respond-async, wait=20" == raw.headers["preference-applied"]


def test_a_job_that_is_not_done_in_time_is_a_job(
    line: Line, client: OpenAI, http: httpx.Client, request_id: str
):
    line.vendor.script("alpha", SILENT)

    raw = client.chat.completions.with_raw_response.create(
        model="slow", messages=HELLO, extra_headers={"prefer": "respond-async, wait=1"}
    )

    assert 202 == raw.http_response.status_code
    job = json.loads(raw.text)
    assert "running" == job["status"]
    http.post(f"/v1/jobs/{job['id']}/cancel")


def test_a_streamed_job_keeps_the_folded_answer(
    client: OpenAI, http: httpx.Client, request_id: str
):
    raw = client.chat.completions.with_raw_response.create(
        model="mock", messages=HELLO, stream=True, extra_headers=ASYNC
    )

    job = json.loads(raw.http_response.read())
    done = http.get(f"/v1/jobs/{job['id']}", params={"wait": 20}).json()
    assert "chat.completion" == done["response"]["body"]["object"]


def test_a_job_that_cannot_succeed_fails_like_the_call(
    line: Line, client: OpenAI, http: httpx.Client, request_id: str
):
    """A 400 of the provider ends it at the first attempt; `/result` says what the call would."""
    refusal = {"message": "too long", "type": "invalid_request_error", "code": "string_too_long"}
    line.vendor.script("alpha", status(400, refusal))
    job = submitted(client, request_id, **{"x-sluiceway-webhook": line.receiver.url})

    done = http.get(f"/v1/jobs/{job['id']}", params={"wait": 20}).json()
    result = http.get(f"/v1/jobs/{job['id']}/result")

    assert ("failed", "string_too_long") == (done["status"], done["error"]["code"])
    assert 400 == result.status_code
    assert "too long" == result.json()["error"]["message"]
    assert "false" == result.headers["x-should-retry"]
    told = eventually(lambda: told_of(line, job["id"]), what="webhook")[0]
    assert "job.failed" == told.json["type"]
    assert ["failed"] == [row["outcome"] for row in line.stack.ledger(request_id)]


def test_a_failing_provider_costs_a_job_only_time(
    line: Line, client: OpenAI, http: httpx.Client, request_id: str
):
    """It waits and tries again; both attempts are in the books."""
    line.vendor.script("alpha", status(429, retry_after="1"))
    job = submitted(client, request_id)

    done = http.get(f"/v1/jobs/{job['id']}", params={"wait": 30}).json()

    assert "succeeded" == done["status"]
    assert ["failed", "succeeded"] == [one["outcome"] for one in done["attempts"]]
    assert ["failed", "succeeded"] == [row["outcome"] for row in line.stack.ledger(request_id)]


def test_a_waiting_job_is_cancelled_at_once(line: Line, http: httpx.Client):
    """And twice is as good as once."""
    job = http.post(
        "/v1/jobs",
        json={
            "endpoint": "/v1/chat/completions",
            "body": {"model": "alpha", "messages": HELLO},
            "not_before": int(time.time()) + 3600,
            "webhook_url": line.receiver.url,
            "metadata": {"why": "test"},
        },
    ).json()
    assert ("scheduled", {"why": "test"}) == (job["status"], job["metadata"])

    first = http.post(f"/v1/jobs/{job['id']}/cancel")
    second = http.post(f"/v1/jobs/{job['id']}/cancel")

    assert [(200, "cancelled")] * 2 == [
        (answer.status_code, answer.json()["status"]) for answer in (first, second)
    ]
    assert 409 == http.get(f"/v1/jobs/{job['id']}/result").status_code
    told = eventually(lambda: told_of(line, job["id"]), what="webhook")
    assert ["job.cancelled"] == [one.json["type"] for one in told]


def test_a_running_job_is_cancelled_and_its_call_ended(
    line: Line, client: OpenAI, http: httpx.Client, request_id: str
):
    """The provider's connection closes, and the attempt is in the books."""
    line.vendor.script("alpha", SILENT)
    before = len(line.vendor.requests)
    job = submitted(client, request_id, "slow")
    eventually(lambda: len(line.vendor.requests) > before, what="call")
    assert 409 == http.delete(f"/v1/jobs/{job['id']}").status_code

    asked = http.post(f"/v1/jobs/{job['id']}/cancel").json()
    done = http.get(f"/v1/jobs/{job['id']}", params={"wait": 10}).json()

    assert "cancelling" == asked["status"]
    assert ("cancelled", "cancelled") == (done["status"], done["error"]["code"])
    connection = line.vendor.connections[line.vendor.requests[-1].connection]
    eventually(connection.closed.is_set, what="closed connection")
    assert ["cancelled"] == [row["outcome"] for row in line.stack.ledger(request_id)]


def test_jobs_are_listed_deleted_and_nobody_elses(client: OpenAI, http: httpx.Client, line: Line):
    job = submitted(client, "list-me", "mock")
    http.get(f"/v1/jobs/{job['id']}", params={"wait": 20})

    listed = http.get("/v1/jobs", params={"limit": 1}).json()
    stranger = {"authorization": f"Bearer {OTHER_KEY}"}
    for method, path in (("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("DELETE", "")):
        answer = http.request(method, f"/v1/jobs/{job['id']}{path}", headers=stranger)
        assert (404, "not_found") == (answer.status_code, answer.json()["error"]["code"])
    deleted = http.delete(f"/v1/jobs/{job['id']}")

    assert [job["id"]] == [one["id"] for one in listed["data"]]
    assert (200, True) == (deleted.status_code, deleted.json()["deleted"])
    assert 404 == http.get(f"/v1/jobs/{job['id']}").status_code
    assert 1 == len(line.stack.ledger("list-me"))


def test_a_deadline_ends_a_job_that_runs(
    line: Line, client: OpenAI, http: httpx.Client, request_id: str
):
    """Nobody waits for an answer that comes too late; what was called is in the books."""
    line.vendor.script("alpha", SILENT)
    job = submitted(
        client,
        request_id,
        "slow",
        **{
            "x-sluiceway-deadline": str(time.time() + 1.5),
            "x-sluiceway-webhook": line.receiver.url,
        },
    )

    done = http.get(f"/v1/jobs/{job['id']}", params={"wait": 20}).json()

    assert ("expired", "expired") == (done["status"], done["error"]["code"])
    assert 504 == http.get(f"/v1/jobs/{job['id']}/result").status_code
    told = eventually(lambda: told_of(line, job["id"]), what="webhook")
    assert ["job.expired"] == [one.json["type"] for one in told]
    assert ["failed"] == [row["outcome"] for row in line.stack.ledger(request_id)]


def _result(http: httpx.Client, job_id: str) -> httpx.Response | None:
    answer = http.get(f"/v1/jobs/{job_id}/result")
    return None if answer.status_code == 202 else answer
