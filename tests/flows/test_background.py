"""Responses in the background and followed jobs, with processes, sockets and the plain SDK."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.fakes.stack import eventually, running_stack
from tests.fakes.upstream import DONE, SSE, Answer, chunk, events, status
from tests.fakes.vendor import running_vendor
from tests.flows.conftest import KEY, Line

WORDS = ["The", " sea", " is", " wide", "."]
SILENT = Answer(before_head="silence")
ASYNC = {"prefer": "respond-async"}


@pytest.fixture
def http(line: Line) -> Iterator[httpx.Client]:
    """A bare client with the tenant's key."""
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=line.api.url, headers=headers, timeout=70) as opened:
        yield opened


def ended(client: OpenAI, response_id: str):
    """Return a response once it has ended."""

    def look():
        found = client.responses.retrieve(response_id)
        return None if found.status in {"queued", "in_progress"} else found

    return eventually(look, within_s=20, what=response_id)


def text_of(told: list) -> str:
    return "".join(one.delta for one in told if one.type == "response.output_text.delta")


@pytest.mark.behaviour(180)
def test_a_background_response_is_queued_at_once_and_made_by_a_worker(line: Line, client: OpenAI):
    """Its end is told of as a response's, and only so."""
    accepted = client.responses.create(
        model="alpha",
        input="hello",
        background=True,
        extra_headers={"x-sluiceway-webhook": line.receiver.url},
    )
    done = ended(client, accepted.id)

    assert ("queued", True) == (accepted.status, accepted.background)
    assert ("completed", accepted.id) == (done.status, done.id)
    assert "hello" in done.output_text

    def told() -> list[str]:
        webhooks = [one for one in line.receiver.webhooks if one.verified]
        return [one.json["type"] for one in webhooks if one.json["data"]["id"] == accepted.id]

    assert ["response.completed"] == eventually(told, what="webhook")


@pytest.mark.behaviour(180)
def test_a_dropped_stream_is_resumed_where_it_stopped(line: Line, client: OpenAI):
    """The answer is made on meanwhile; the two halves are the whole, without a gap or a repeat."""
    slow = Answer(headers=SSE, pieces=events(WORDS), gap_s=0.1, framing="chunked")
    line.vendor.script("alpha", slow)
    first = []
    with client.responses.create(model="slow", input="hi", background=True, stream=True) as stream:
        for event in stream:
            first.append(event)
            if text_of(first).count(" ") == 1:
                break
    name, last = first[0].response.id, first[-1].sequence_number
    rest = list(client.responses.retrieve(name, stream=True, starting_after=last))

    told = [*first, *rest]
    assert list(range(len(told))) == [one.sequence_number for one in told]
    assert "".join(WORDS) == text_of(told)
    assert ["response.created", "response.queued"] == [one.type for one in told[:2]]
    assert "response.completed" == told[-1].type
    assert {name} == {one.response.id for one in told if hasattr(one, "response")}
    assert told[-1].response == ended(client, name)


@pytest.mark.behaviour(180)
def test_a_running_response_is_cancelled_twice(line: Line, client: OpenAI):
    """Its call ends, and who follows it is told."""
    line.vendor.script("alpha", SILENT)
    before = len(line.vendor.requests)
    with client.responses.create(model="slow", input="hi", background=True, stream=True) as stream:
        name = next(iter(stream)).response.id
    eventually(lambda: len(line.vendor.requests) > before, what="call")
    assert "in_progress" == client.responses.retrieve(name).status

    answers = [client.responses.cancel(name) for _ in range(2)]
    told = list(client.responses.retrieve(name, stream=True, starting_after=1))

    assert ["cancelled"] * 2 == [answer.status for answer in answers]
    assert [("response.failed", "cancelled")] == [(one.type, one.response.status) for one in told]
    connection = line.vendor.connections[line.vendor.requests[-1].connection]
    eventually(connection.closed.is_set, what="closed connection")
    assert "cancelled" == ended(client, name).status


def test_a_refused_response_fails_as_its_provider_said(line: Line, client: OpenAI):
    refusal = {"message": "too long", "type": "invalid_request_error", "code": "string_too_long"}
    line.vendor.script("alpha", status(400, refusal))

    with client.responses.create(model="alpha", input="hi", background=True, stream=True) as stream:
        told = list(stream)

    assert ["response.created", "response.queued", "response.failed"] == [one.type for one in told]
    error = told[-1].response.error
    assert ("string_too_long", "too long") == (error.code, error.message)
    assert told[-1].response == ended(client, told[0].response.id)


def test_a_job_is_followed_while_it_runs(line: Line, client: OpenAI, http: httpx.Client):
    """What comes in pieces is told in pieces, long before the job is done."""
    gap = Answer(headers=SSE, pieces=events(WORDS), pauses={4: 2.0}, framing="chunked")
    line.vendor.script("alpha", gap)
    raw = client.chat.completions.with_raw_response.create(
        model="slow",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        extra_headers=ASYNC,
    )
    job = json.loads(raw.http_response.read())
    path = f"/v1/jobs/{job['id']}/events"

    with http.stream("GET", path) as answer:
        lines = answer.iter_lines()
        next(one for one in lines if "is" in one)
        assert "running" == http.get(f"/v1/jobs/{job['id']}").json()["status"]
        ids = [one for one in lines if one.startswith("id: ")]

    done = http.get(f"/v1/jobs/{job['id']}").json()
    assert "succeeded" == done["status"]
    assert "".join(WORDS) == done["response"]["body"]["choices"][0]["message"]["content"]
    over = http.get(path, headers={"last-event-id": ids[-1].removeprefix("id: ")})
    assert 204 == over.status_code


def test_a_broken_job_is_not_told_a_second_time(line: Line, client: OpenAI, http: httpx.Client):
    """What was told stands; the error follows it, and nobody is asked again."""
    cut = Answer(
        headers=SSE,
        pieces=(chunk({"role": "assistant", "content": "Half"}), chunk({"content": "!"})),
        pauses={1: 1.0},
        framing="chunked",
        end="reset",
    )
    line.vendor.script("alpha", cut)
    before = len(line.vendor.requests)
    body = {"model": "slow", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    job = http.post("/v1/chat/completions", json=body, headers=ASYNC).json()

    told = http.get(f"/v1/jobs/{job['id']}/events").text.split("\n\n")[:-1]

    assert "stream_interrupted" in told[-1]
    assert "Half" in told[0]
    done = http.get(f"/v1/jobs/{job['id']}").json()
    assert ("failed", "stream_interrupted") == (done["status"], done["error"]["code"])
    assert before + 1 == len(line.vendor.requests)


KILLED = """
version: 1
providers:
  slow: {{kind: openai_compatible, base_url: "{base_url}", api_key: sk-upstream}}
routes: [{{model: slow, targets: [{{provider: slow, model: slow-1}}]}}]
tenants: [{{id: acme, keys: [{{name: ci, key: {key}}}]}}]
queue: {{lease_s: 2, heartbeat_s: 0.5, poll_s: 0.2}}
"""


def test_a_killed_worker_ends_what_it_had_begun_to_tell(tmp_path: Path, sqlite_url: str):
    """Nobody tells the answer from the beginning under the same numbers."""
    with (
        running_vendor() as vendor,
        running_stack(
            tmp_path / "stack",
            KILLED.format(base_url=vendor.base_url("slow"), key=KEY),
            database_url=sqlite_url,
        ) as stack,
    ):
        pieces = (*events(WORDS)[:3], DONE)
        vendor.always(
            "slow",
            lambda _: Answer(headers=SSE, pieces=pieces, pauses={3: 60.0}, framing="chunked"),
        )
        workers = [stack.worker()]
        api = stack.api()
        with (
            OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0) as client,
            client.responses.create(
                model="slow", input="hi", background=True, stream=True
            ) as stream,
        ):
            told = []
            for event in stream:
                told.append(event)
                if event.type == "response.output_text.delta" and len(workers) == 1:
                    workers[0].signal(signal.SIGKILL)
                    workers.append(stack.worker())

        assert list(range(len(told))) == [one.sequence_number for one in told]
        assert "response.failed" == told[-1].type
        assert "worker_lost" == told[-1].response.error.code
        assert 1 == len(vendor.requests)
