"""Background responses and job events at the edge, with a worker in the same process."""

import asyncio
import json

import httpx
import openai
import pytest

from shared.gateway.failure import failure_of
from shared.jobs.expire import expire_waiting
from shared.jobs.holds import job_holds
from shared.jobs.lease import Interrupt
from shared.jobs.run import Desk, run_job
from shared.store.claims import claim
from tests.edge.api.gateways import sdk
from workers.calls import GatewayCall

pytestmark = pytest.mark.anyio

ASKED = {"model": "mock", "input": "hello", "background": True}
CHAT = {"model": "mock", "messages": [{"role": "user", "content": "hello"}], "stream": True}
ASYNC = {"prefer": "respond-async"}
CLASSES = ("interactive", "default", "batch")


@pytest.fixture
def client(http):
    return sdk(http)


@pytest.fixture
def work(edge):
    """Return what claims and runs all jobs that wait, as a worker does."""
    runtime = edge.runtime
    desk = Desk(
        store=runtime.store,
        objects=runtime.objects,
        bell=runtime.bell,
        call=GatewayCall(runtime.gateway, runtime.store, runtime.config),
        holds=job_holds(runtime.store, runtime.config, runtime.clock),
        describe=failure_of,
        clock=runtime.clock,
        ids=runtime.ids,
        draw=lambda: 0.0,
    )

    async def run_all() -> None:
        async with runtime.store.write() as tx:
            jobs = await claim(tx, owner="w1", lease_s=30.0, limit=10, classes=CLASSES)
        for job in jobs:
            await run_job(job, desk, Interrupt())

    return run_all


def told(answer: httpx.Response) -> list[tuple[int | None, str, str]]:
    """Return the events of an answer: id, name and data."""
    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    found = []
    for block in answer.text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        number = fields.get("id")
        found.append(
            (None if number is None else int(number), fields.get("event", ""), fields["data"])
        )
    return found


@pytest.mark.behaviour(180)
async def test_a_response_waits_runs_and_is_read(client, work):
    accepted = await client.responses.create(**ASKED, metadata={"run": "9"})
    waiting = await client.responses.retrieve(accepted.id)
    await work()
    done = await client.responses.retrieve(accepted.id)
    items = await client.responses.input_items.list(accepted.id)

    assert ["queued", "queued", "completed"] == [accepted.status, waiting.status, done.status]
    assert {accepted.id} == {waiting.id, done.id}
    assert {accepted.created_at} == {waiting.created_at, done.created_at}
    assert (True, True, {"run": "9"}) == (done.background, done.store, done.metadata)
    assert "You said: hello" == done.output_text
    assert ["hello"] == [item.content[0].text for item in items.data]


@pytest.mark.behaviour(180)
async def test_a_waiting_response_is_cancelled_and_again(client, work):
    accepted = await client.responses.create(**ASKED)

    answers = [await client.responses.cancel(accepted.id) for _ in range(2)]
    await work()

    assert ["cancelled"] * 2 == [answer.status for answer in answers]
    assert answers[0] == answers[1] == await client.responses.retrieve(accepted.id)


async def test_a_response_that_is_done_is_cancelled_in_vain(client, work):
    accepted = await client.responses.create(**ASKED)
    await work()

    assert "completed" == (await client.responses.cancel(accepted.id)).status


async def test_a_conversation_goes_on_from_the_background_and_in_it(client, work):
    """What was said is known to the next turn, wherever that one is made."""
    first = await client.responses.create(**ASKED)
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="mock", input="x", previous_response_id=first.id)
    await work()
    second = await client.responses.create(
        **{**ASKED, "input": "again"}, previous_response_id=first.id
    )
    await work()
    third = await client.responses.create(
        model="mock", input="more", previous_response_id=second.id
    )
    items = await client.responses.input_items.list(third.id, order="asc")

    assert "previous_response_id" == refused.value.param
    assert first.id == (await client.responses.retrieve(second.id)).previous_response_id
    texts = [item.content[0].text for item in items.data]
    assert ["hello", "You said: hello", "again", "You said: again", "more"] == texts


async def test_what_was_asked_whole_is_not_streamed(client):
    accepted = await client.responses.create(**ASKED)

    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.retrieve(accepted.id, stream=True)

    assert "stream" == refused.value.param


async def test_a_deleted_response_is_not_made(http, client, work):
    accepted = await client.responses.create(**ASKED)

    await client.responses.delete(accepted.id)
    await work()

    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(accepted.id)
    [job] = (await http.get("/v1/jobs")).json()["data"]
    assert "cancelled" == job["status"]


@pytest.mark.behaviour(180)
async def test_a_stream_is_told_again_from_any_event_on(client, work):
    """No event twice and none left out, however often it is followed."""
    whole = await streamed(client, work)
    name = whole[0].response.id

    assert list(range(len(whole))) == [event.sequence_number for event in whole]
    assert ("response.created", "response.completed") == (whole[0].type, whole[-1].type)
    for number in range(-1, len(whole)):
        again = await client.responses.retrieve(name, stream=True, starting_after=number)
        assert whole[number + 1 :] == [event async for event in again]
    assert whole[-1].response == await client.responses.retrieve(name)


async def streamed(client, work) -> list[object]:
    """Ask for a stream in the background, have it made meanwhile, and return its events."""

    async def ask() -> list[object]:
        return [event async for event in await client.responses.create(**ASKED, stream=True)]

    asking = asyncio.create_task(ask())
    while not asking.done():
        await work()
        await asyncio.sleep(0.01)
    return await asking


async def test_the_sdks_helper_follows_a_response(client, work):
    """It checks the order and the ids of all events."""
    whole = await streamed(client, work)

    async with client.responses.stream(response_id=whole[0].response.id) as stream:
        final = await stream.get_final_response()

    assert "You said: hello" == final.output_text


@pytest.mark.parametrize(
    ("more", "headers", "code", "param"),
    [
        ({"store": False}, {}, "invalid_request", "store"),
        ({"background": "yes"}, {}, "invalid_request", "background"),
        ({"metadata": "no object"}, {}, "invalid_request", None),
        ({"model": "nobody"}, {}, "model_not_found", "model"),
        ({}, ASYNC, "unsupported_parameter", "background"),
        ({"previous_response_id": "resp_x"}, {}, "previous_response_not_found", None),
    ],
)
async def test_what_cannot_run_in_the_background_is_refused(http, more, headers, code, param):
    answer = await http.post("/v1/responses", json={**ASKED, **more}, headers=headers)

    assert code == answer.json()["error"]["code"], answer.text
    if param is not None:
        assert param == answer.json()["error"]["param"]
    assert [] == (await http.get("/v1/jobs")).json()["data"]


async def test_a_job_is_followed_from_any_event_on(http, work):
    """Its events are those of the stream, and the number of each is its id."""
    job = (await http.post("/v1/chat/completions", json=CHAT, headers=ASYNC)).json()
    path = f"/v1/jobs/{job['id']}/events"
    await work()

    whole = told(await http.get(path))
    done = (await http.get(f"/v1/jobs/{job['id']}")).json()

    assert list(range(len(whole))) == [number for number, _, _ in whole]
    assert "[DONE]" == whole[-1][2]
    said = "".join(
        choice["delta"].get("content") or ""
        for _, _, data in whole[:-1]
        for choice in json.loads(data)["choices"]
    )
    body = done["response"]["body"]
    assert ("You said: hello", "chat.completion") == (said, body["object"])
    assert said == body["choices"][0]["message"]["content"]
    assert body["usage"]["total_tokens"] > 0
    assert whole[2:] == told(await http.get(path, headers={"last-event-id": "1"}))
    assert whole[2:] == told(await http.get(path, params={"starting_after": 1}))
    over = await http.get(path, headers={"last-event-id": str(whole[-1][0])})
    assert (204, b"") == (over.status_code, over.content)


@pytest.mark.parametrize(
    ("endpoint", "body", "name"),
    [
        ("/v1/chat/completions", CHAT, ""),
        ("/v1/messages", {**CHAT, "max_tokens": 9}, "error"),
        ("/v1/responses", {"model": "mock", "input": "x", "stream": True}, "error"),
    ],
)
async def test_a_job_that_ended_otherwise_ends_its_events_with_the_error(
    edge, http, endpoint, body, name
):
    """In the words of its dialect; and once: who has seen it is told that all is over."""
    job = (await http.post("/v1/jobs", json={"endpoint": endpoint, "body": body})).json()
    await http.post(f"/v1/jobs/{job['id']}/cancel")
    path = f"/v1/jobs/{job['id']}/events"

    [(number, event, data)] = told(await http.get(path))

    assert (0, name, "cancelled") == (number, event, json.loads(data)["error"]["code"] or "")
    assert 204 == (await http.get(path, headers={"last-event-id": "0"})).status_code


async def test_only_streamed_jobs_have_events(http):
    plain = {name: value for name, value in CHAT.items() if name != "stream"}
    job = (await http.post("/v1/chat/completions", json=plain, headers=ASYNC)).json()

    refused = await http.get(f"/v1/jobs/{job['id']}/events")
    unknown = await http.get("/v1/jobs/job_nobody/events")
    wrong = await http.get(f"/v1/jobs/{job['id']}/events", headers={"last-event-id": "x"})

    assert (400, "invalid_request") == (refused.status_code, refused.json()["error"]["code"])
    assert 404 == unknown.status_code
    assert "Last-Event-ID" == wrong.json()["error"]["param"]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/chat/completions", {"messages": CHAT["messages"]}),
        ("/v1/completions", {"prompt": "hello"}),
        ("/v1/messages", {"messages": CHAT["messages"], "max_tokens": 9}),
        ("/v1/responses", {"input": "hello"}),
    ],
)
async def test_a_streamed_job_has_the_answer_of_a_plain_call(http, work, endpoint, body):
    """Whatever is told while it runs, its answer is the same."""
    asked = {"model": "mock", **body}
    call = (await http.post(endpoint, json=asked)).json()
    accepted = await http.post(
        "/v1/jobs", json={"endpoint": endpoint, "body": {**asked, "stream": True}}
    )
    await work()

    job = (await http.get(f"/v1/jobs/{accepted.json()['id']}")).json()

    assert _meaning(call) == _meaning(job["response"]["body"])


def _meaning(answer: dict) -> dict:
    """Return an answer without what is another in each, and of its usage the counts."""
    left_out = {"id", "created", "created_at", "store", "sluiceway", "system_fingerprint"}
    counts = {"prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"}
    meaning = {name: value for name, value in answer.items() if name not in left_out}
    meaning["usage"] = {name: answer["usage"][name] for name in counts & answer["usage"].keys()}
    for item in meaning.get("output", ()):
        item.pop("id")
    return meaning


async def test_an_expired_response_has_failed(edge, http, client):
    accepted = await http.post(
        "/v1/responses",
        json={**ASKED, "stream": False},
        headers={"x-sluiceway-priority": "batch"},
    )
    runtime = edge.runtime
    async with runtime.store.write() as tx:
        await tx.connection.exec_driver_sql("UPDATE job SET deadline = 0")
    await expire_waiting(runtime.store, runtime.bell, runtime.ids)

    done = await client.responses.retrieve(accepted.json()["id"])

    assert ("failed", "expired") == (done.status, done.error.code)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_named_response_is_made_once(http, work, stream):
    """Whoever asks again under the same key is shown the same one."""
    asked = {**ASKED, "stream": stream}
    named = {"idempotency-key": f"named-{stream}"}
    first = await _answered(http, asked, named, work)
    again = await _answered(http, asked, named, work)

    assert first.text == again.text
    assert "true" == again.headers["idempotent-replayed"]
    assert 1 == len((await http.get("/v1/jobs")).json()["data"])


async def _answered(http, asked, headers, work) -> httpx.Response:
    asking = asyncio.create_task(http.post("/v1/responses", json=asked, headers=headers))
    while not asking.done():
        if asked["stream"]:
            await work()
        await asyncio.sleep(0.01)
    return await asking
