"""OpenAI's batches, run by our own workers: the unmodified SDK, any provider, real processes."""

import asyncio
import json
import time
from collections.abc import Iterable
from datetime import timedelta

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from shared.store.batches import NewBatch, ask_cancel, insert_batch
from shared.store.engine import open_store
from tests.fakes.stack import eventually
from tests.fakes.upstream import Answer, status
from tests.flows.conftest import KEY, OTHER_KEY, Line

CHAT = "/v1/chat/completions"
OVER = {"completed", "failed", "expired", "cancelled"}
SILENT = Answer(before_head="silence")


@pytest.fixture
def http(line: Line):
    """A bare client with the tenant's key."""
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=line.api.url, headers=headers, timeout=20) as opened:
        yield opened


def asking(custom_id: str, model="mock", **fields) -> dict[str, object]:
    body = {"model": model, "messages": [{"role": "user", "content": f"say {custom_id}"}]}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body, **fields}


def uploaded(client: OpenAI, lines: Iterable[dict[str, object]]) -> str:
    text = "\n".join(json.dumps(line) for line in lines)
    return client.files.create(file=("in.jsonl", text.encode()), purpose="batch").id


def created(client: OpenAI, lines: Iterable[dict[str, object]], **terms) -> Batch:
    asked = {"endpoint": CHAT, "completion_window": "24h", **terms}
    return client.batches.create(input_file_id=uploaded(client, lines), **asked)


def ended(client: OpenAI, batch: Batch, within_s: float = 20) -> Batch:
    def look() -> Batch | None:
        now = client.batches.retrieve(batch.id)
        return now if now.status in OVER else None

    return eventually(look, within_s=within_s, every_s=0.1, what=batch.id)


def results(client: OpenAI, file_id: str | None) -> dict[str, dict]:
    """Return the lines of a file of results by their names, each of which stands there once."""
    assert file_id is not None
    rows = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    found = {row["custom_id"]: row for row in rows}
    assert len(rows) == len(found)
    return found


def said(row: dict) -> str:
    assert (200, None) == (row["response"]["status_code"], row["error"])
    return row["response"]["body"]["choices"][0]["message"]["content"]


def counts(batch: Batch) -> tuple[int, int, int]:
    found = batch.request_counts
    assert found is not None
    return found.total, found.completed, found.failed


@pytest.mark.behaviour(190, 192)
def test_a_batch_is_run_and_its_answers_are_found_by_custom_id(client: OpenAI, line: Line):
    """At the price of its calls: half of it only where a provider gives that."""
    batch = created(
        client,
        [asking("one"), asking("two", "team/mock"), asking("three", "alpha")],
        metadata={"run": "nightly"},
    )
    assert ("batch", "validating") == (batch.object, batch.status)
    assert {"run": "nightly"} == batch.metadata

    done = ended(client, batch)

    assert ("completed", (3, 3, 0), None) == (done.status, counts(done), done.error_file_id)
    answers = results(client, done.output_file_id)
    assert {
        "one": "You said: say one",
        "two": "You said: say two",
        "three": "say three",
    } == {name: said(row) for name, row in answers.items()}
    assert done.model_extra is not None
    [paid] = line.stack.rows(
        "SELECT SUM(ledger.cost_nanousd) AS nanousd, COUNT(*) AS calls FROM ledger"
        " JOIN job ON job.id = ledger.job_id WHERE job.batch_id = :id",
        id=batch.id,
    )
    assert 3 == paid["calls"]
    assert done.model_extra["cost_usd"] == pytest.approx(int(str(paid["nanousd"])) / 1e9)
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens > 1_500
    assert "batch_output" == client.files.retrieve(str(done.output_file_id)).purpose


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [
        ("/v1/responses", {"input": "hi"}, "response"),
        ("/v1/embeddings", {"input": ["hi", "there"]}, "list"),
        ("/v1/completions", {"prompt": "hi"}, "text_completion"),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}, None),
    ],
)
def test_other_endpoints_run_the_same_way(client: OpenAI, endpoint, body, kind):
    """Also those that OpenAI's batches do not have."""
    lines = [
        {"custom_id": "a", "method": "POST", "url": endpoint, "body": {"model": "mock"} | body}
    ]

    done = ended(client, created(client, lines, endpoint=endpoint))

    answer = results(client, done.output_file_id)["a"]["response"]["body"]
    assert kind == answer.get("object")
    assert "message" == answer.get("type", "message")


def test_a_line_falls_back_and_another_fails(line: Line, client: OpenAI):
    """What one line meets is no other's business; a refusal keeps the provider's own words."""
    refusal = {"message": "too long", "type": "invalid_request_error", "code": "string_too_long"}
    line.vendor.script("alpha", status(400, refusal))
    failing = ended(client, created(client, [asking("refused", "alpha"), asking("fine")]))
    line.vendor.script("alpha", status(503))
    falling = ended(client, created(client, [asking("fell back", "pair")]))

    assert ("completed", (2, 1, 1)) == (failing.status, counts(failing))
    assert {"fine"} == set(results(client, failing.output_file_id))
    [refused] = results(client, failing.error_file_id).values()
    assert (400, "too long") == (
        refused["response"]["status_code"],
        refused["response"]["body"]["error"]["message"],
    )
    answer = results(client, falling.output_file_id)["fell back"]
    assert "say fell back" == said(answer)


@pytest.mark.behaviour(190)
def test_a_wrong_file_fails_with_the_lines_that_are_wrong(client: OpenAI):
    """Before any line is run; the key may not use every model either."""
    wrong = [
        asking("a"),
        asking("a"),
        asking("b", url="/v1/embeddings"),
        asking("c", "no-such-model"),
        asking("d", body={"model": "mock", "messages": [], "stream": True}),
    ]

    done = ended(client, created(client, wrong))

    assert ("failed", (0, 0, 0)) == (done.status, counts(done))
    assert done.errors is not None
    assert [
        ("duplicate_custom_id", 2, "custom_id"),
        ("url_mismatch", 3, "url"),
        ("model_not_found", 4, "body.model"),
        ("invalid_request", 5, "body.messages"),
    ] == [(one.code, one.line, one.param) for one in done.errors.data or ()]


@pytest.mark.behaviour(191)
def test_a_cancelled_batch_ends_its_running_calls_and_keeps_what_is_done(
    line: Line, client: OpenAI
):
    line.vendor.script("alpha", SILENT)
    batch = created(client, [asking("quick"), asking("hangs", "slow")])
    eventually(lambda: counts(client.batches.retrieve(batch.id))[1] == 1, what="first answer")

    asked = client.batches.cancel(batch.id)
    done = ended(client, batch)
    again = client.batches.cancel(batch.id)

    assert ["cancelling", "cancelled", "cancelled"] == [asked.status, done.status, again.status]
    assert {"quick"} == set(results(client, done.output_file_id))
    [hung] = results(client, done.error_file_id).values()
    assert ("hangs", "batch_cancelled") == (hung["custom_id"], hung["error"]["code"])


def test_the_end_of_a_batch_is_told_once_and_its_lines_are_not(
    line: Line, client: OpenAI, http: httpx.Client
):
    types = ["batch.completed", "job.succeeded"]
    asked = {"name": "batches", "url": line.receiver.url, "event_types": types}
    endpoint = http.post("/v1/webhook_endpoints", json=asked).json()

    batch = created(client, [asking("a"), asking("b")])

    def told() -> list[dict]:
        found = [one.json for one in line.receiver.webhooks]
        return [one for one in found if one["data"]["id"] == batch.id]

    [event] = eventually(told, what="event")
    assert "batch.completed" == event["type"]
    lines = {
        job["id"] for job in http.get("/v1/jobs", params={"batch_id": batch.id}).json()["data"]
    }
    assert 2 == len(lines)
    assert not [one for one in line.receiver.webhooks if one.json["data"]["id"] in lines]
    http.delete(f"/v1/webhook_endpoints/{endpoint['id']}")


def test_lines_are_seen_as_jobs_only_where_they_are_asked_for(client: OpenAI, http: httpx.Client):
    done = ended(client, created(client, [asking("a")]))

    [job] = http.get("/v1/jobs", params={"batch_id": done.id}).json()["data"]
    listed = http.get("/v1/jobs", params={"limit": 100}).json()["data"]

    assert ("succeeded", done.id) == (job["status"], job["batch_id"])
    assert job["id"] not in {one["id"] for one in listed}
    assert 409 == http.delete(f"/v1/jobs/{job['id']}").status_code


def test_the_same_key_creates_one_batch(client: OpenAI):
    file_id = uploaded(client, [asking("a")])
    asked = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file_id}
    named = {"extra_headers": {"idempotency-key": f"once {time.monotonic()}"}}

    first = client.batches.create(**asked, **named)
    second = client.batches.create(**asked, **named)

    assert first.id == second.id


def test_a_batch_is_nobody_elses(line: Line, client: OpenAI):
    batch = created(client, [asking("a")])

    with line.client(OTHER_KEY) as stranger:
        for call in (
            lambda: stranger.batches.retrieve(batch.id),
            lambda: stranger.batches.cancel(batch.id),
            lambda: stranger.batches.create(
                input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"
            ),
        ):
            with pytest.raises(openai.NotFoundError):
                call()
    ended(client, batch)


@pytest.mark.behaviour(193)
def test_the_sdk_pages_through_250_batches(line: Line):
    ids = [f"batch_page_{number:03}" for number in range(250)]
    asyncio.run(insert_cancelled(line.stack.database_url, ids))

    with line.client(OTHER_KEY) as other:
        listed = [batch.id for batch in other.batches.list(limit=20)]

    assert ids[::-1] == listed


async def insert_cancelled(database_url: str, ids: list[str]) -> None:
    store = await open_store(database_url)
    async with store.write() as tx:
        now = await tx.now()
        for number, batch_id in enumerate(ids):
            new = NewBatch(
                id=batch_id,
                tenant_id="other",
                key_id="key_1",
                request_id="req_1",
                endpoint=CHAT,
                input_file_id="file_none",
                completion_window="24h",
                expires_at=now + timedelta(days=1),
            )
            await insert_batch(tx, new, now + timedelta(milliseconds=number))
            await ask_cancel(tx, "other", batch_id)
    await store.close()
