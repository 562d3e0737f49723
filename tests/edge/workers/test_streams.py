"""Streamed jobs: told while they run, folded at their end, and never told twice."""

import asyncio
import itertools
import json
from datetime import timedelta

import pytest

from shared.clock import SystemClock
from shared.errors import ChainFailed, StoreUnavailable, StreamInterrupted
from shared.ids import new_id
from shared.jobs import background, response
from shared.jobs.cancel import cancel
from shared.jobs.lease import Interrupt, Reason
from shared.jobs.rescue import rescue_jobs
from shared.jobs.run import Ran, run_job
from shared.jobs.stream.events import told
from shared.jobs.stream.scribe import ENOUGH
from shared.store.claims import release_owner
from shared.store.job_events import events_after
from shared.store.jobs import insert_job
from shared.store.records import NewJob
from shared.store.responses import stored_body
from shared.store.webhooks import claim_deliveries
from tests.edge.workers.makers import claimed_one, read_job, until, with_call
from workers.streams import Streams

pytestmark = pytest.mark.anyio

DONE = b"data: [DONE]\n\n"
HOOK = "https://hooks.example/sluiceway"


def chunk(text, **fields) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, **fields}
    return b"data: %b\n\n" % json.dumps({"id": "c", "choices": [choice]}).encode()


def event(kind, **fields) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (
        kind.encode(),
        json.dumps({"type": kind, **fields}).encode(),
    )


def response_events(*words) -> list[bytes]:
    made = {"id": "resp_" + "5" * 32, "status": "in_progress", "output": [], "background": False}
    said = [{"id": "msg_" + "5" * 32 + "00", "content": "".join(words)}]
    return [
        event("response.created", sequence_number=0, response=made),
        event("response.in_progress", sequence_number=1, response=made),
        *(
            event("response.output_text.delta", sequence_number=n, delta=word)
            for n, word in enumerate(words, 2)
        ),
        event(
            "response.completed",
            sequence_number=2 + len(words),
            response={**made, "status": "completed", "output": said},
        ),
    ]


class Tells:
    """A gateway whose streams do what their script says, in turn.

    Bytes are told, an event is waited for, an exception raised.
    """

    def __init__(self, *scripts) -> None:
        self.calls = 0
        self._scripts = list(scripts)

    async def stream(self, _principal, _request, **_) -> "Telling":
        self.calls += 1
        script = self._scripts.pop(0)
        if isinstance(script, Exception):
            raise script
        return Telling(script)


class Telling:
    attempts = ()

    def __init__(self, script) -> None:
        self._script = iter(script)
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self) -> bytes:
        for step in self._script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                return step
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def streaming(desk):
    """Return a desk whose streamed jobs are told by this gateway."""

    def make(gateway=None, streams=None):
        streams = streams or Streams(gateway, desk.store, SystemClock())

        async def call(job, *, deadline, books, holds):
            return await streams.call(
                None, job, None, deadline=deadline, books=books, holds=holds, context=None
            )

        return with_call(desk, call)

    return make


async def accepted(desk, *, endpoint="/v1/chat/completions", response_id=None) -> str:
    async with desk.store.write() as tx:
        now = await tx.now()
        job = NewJob(
            id=new_id("job"),
            tenant_id="acme",
            key_id="key_1",
            request_id=new_id("req"),
            endpoint=endpoint,
            body=b'{"model":"m","input":"hi","stream":true}',
            model="m",
            deadline=now + timedelta(hours=1),
            webhook_url=HOOK,
            streamed=True,
            response_id=response_id,
        )
        await insert_job(tx, job, now)
        if response_id is not None:
            await background.begin(background.Basis(input=b'"hi"'))(tx, job)
    return job.id


async def kept(desk, job_id) -> list[bytes]:
    async with desk.store.read() as tx:
        rows = await events_after(tx, job_id, -1, limit=1000)
    numbered = [one for row in rows for one in told(row, -1)]
    assert list(range(len(numbered))) == [number for number, _ in numbered]
    return [block for _, block in numbered]


async def run(desk, interrupt=None) -> Ran:
    return await run_job(await claimed_one(desk), desk, interrupt or Interrupt())


async def body_of(desk, response_id):
    async with desk.store.read() as tx:
        return json.loads(await stored_body(tx, "acme", response_id))


async def test_events_are_kept_as_they_come_and_the_answer_is_their_sum(streaming):
    """However the bytes are cut; the last one is kept with the job's end."""
    more = asyncio.Event()
    words = [chunk(f"{number} ") for number in range(2 * ENOUGH)]
    whole = b"".join(words)
    desk = streaming(Tells([whole[:100], whole[100:], more, chunk("", finish_reason="stop"), DONE]))
    job_id = await accepted(desk)

    running = asyncio.create_task(run(desk))
    await until(lambda: _told(desk, job_id, len(words)))
    assert words == await kept(desk, job_id)
    more.set()

    assert Ran.FINISHED == await running
    assert [*words, chunk("", finish_reason="stop"), DONE] == await kept(desk, job_id)
    job = await read_job(desk, job_id)
    said = "".join(f"{number} " for number in range(2 * ENOUGH))
    assert said == json.loads(job.response_body)["choices"][0]["message"]["content"]


async def test_many_jobs_are_told_at_once(streaming):
    """Each in its own order, whatever the others do."""
    count = 20
    gates = [asyncio.Event() for _ in range(count)]
    scripts = [
        [chunk(f"{number}a"), gate, chunk(f"{number}b"), DONE] for number, gate in enumerate(gates)
    ]
    desk = streaming(Tells(*scripts))
    job_ids = [await accepted(desk) for _ in range(count)]
    running = [
        asyncio.create_task(run_job(await claimed_one(desk, limit=1), desk, Interrupt()))
        for _ in job_ids
    ]
    for job_id in job_ids:
        await until(lambda job_id=job_id: _told(desk, job_id, 1))
    for gate in gates:
        gate.set()

    assert {Ran.FINISHED} == set(await asyncio.gather(*running))
    found = sorted([(await kept(desk, job_id)) for job_id in job_ids])
    assert sorted([chunk(f"{n}a"), chunk(f"{n}b"), DONE] for n in range(count)) == found


class Away:
    """A store that cannot be written to at first."""

    def __init__(self, store, times) -> None:
        self._store = store
        self._times = times

    def read(self):
        return self._store.read()

    def write(self):
        self._times -= 1
        if self._times >= 0:
            raise StoreUnavailable("away")
        return self._store.write()


async def test_a_database_that_is_away_holds_a_stream_back(desk, streaming):
    """Nothing is lost, and not much of it is kept in memory meanwhile."""
    words = [chunk("x" * 400_000) for _ in range(8)]
    gateway = Tells([*words, DONE])
    streams = Streams(gateway, Away(desk.store, 1), SystemClock())
    job_id = await accepted(desk)

    assert Ran.FINISHED == await run(streaming(streams=streams))

    assert [*words, DONE] == await kept(desk, job_id)


async def test_a_stream_that_broke_before_it_was_told_runs_again(streaming):
    """Nobody has seen anything of it yet."""
    broken = StreamInterrupted("cut")
    desk = streaming(Tells([broken], [chunk("x"), DONE]))
    job_id = await accepted(desk)

    assert Ran.RESCHEDULED == await run(desk)

    assert [] == await kept(desk, job_id)
    assert "scheduled" == (await read_job(desk, job_id)).status


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (StreamInterrupted("cut"), "stream_interrupted"),
        (KeyError("a bug"), "internal_error"),
    ],
)
async def test_a_stream_that_broke_when_it_was_told_is_over(streaming, broken, code):
    told_some = asyncio.Event()
    gateway = Tells([chunk("x"), told_some, broken])
    desk = streaming(gateway)
    job_id = await accepted(desk)

    running = asyncio.create_task(run(desk))
    await until(lambda: _told(desk, job_id, 1))
    told_some.set()

    assert Ran.FINISHED == await running
    job = await read_job(desk, job_id)
    assert ("failed", code) == (job.status, job.error["code"])
    assert [chunk("x")] == await kept(desk, job_id)


async def test_a_stream_whose_end_is_missing_did_not_succeed(streaming):
    desk = streaming(Tells([chunk("x")]))
    job_id = await accepted(desk)

    assert Ran.RESCHEDULED == await run(desk)
    assert (await read_job(desk, job_id)).response_body is None


async def test_a_failure_of_all_targets_is_what_it_is_of_every_job(streaming):
    refused = ChainFailed(code="invalid_request", message="no", attempts=())
    desk = streaming(Tells(refused))
    job_id = await accepted(desk)

    await run(desk)

    assert "failed" == (await read_job(desk, job_id)).status


async def test_a_lost_worker_is_not_followed_by_a_second_telling(streaming):
    """The next worker sees that some was told, and ends the job without a call."""
    never = asyncio.Event()
    gateway = Tells([chunk("x"), never])
    desk = streaming(gateway)
    job_id = await accepted(desk)
    interrupt = Interrupt()
    running = asyncio.create_task(run(desk, interrupt))
    await until(lambda: _told(desk, job_id, 1))
    async with desk.store.write() as tx:
        await release_owner(tx, "w1")
    await rescue_jobs(desk.store, desk.bell, desk.ids)
    interrupt.stop(Reason.LEASE_LOST)

    assert Ran.LEASE_LOST == await running
    assert Ran.FINISHED == await run(desk)

    job = await read_job(desk, job_id)
    assert ("failed", "worker_lost") == (job.status, job.error["code"])
    assert 1 == gateway.calls
    assert [chunk("x")] == await kept(desk, job_id)


async def test_a_zombie_tells_nothing_more(streaming):
    """Its lease was taken while it slept; what it says then is dropped, and so is its answer."""
    late = asyncio.Event()
    desk = streaming(Tells([late, *(chunk("x") for _ in range(2 * ENOUGH)), DONE]))
    job_id = await accepted(desk)
    running = asyncio.create_task(run_job(await claimed_one(desk), desk, Interrupt()))
    async with desk.store.write() as tx:
        await release_owner(tx, "w1")
    await rescue_jobs(desk.store, desk.bell, desk.ids)
    late.set()

    assert Ran.LEASE_LOST == await running

    assert [] == await kept(desk, job_id)
    assert "queued" == (await read_job(desk, job_id)).status


async def test_a_response_in_the_background_is_ours_from_the_start(streaming):
    """One id, one numbering, and the ids of its items follow; its end is told of as a response."""
    response_id = new_id("resp")
    desk = streaming(Tells(response_events("Hel", "lo")))
    job_id = await accepted(desk, endpoint="/v1/responses", response_id=response_id)

    assert Ran.FINISHED == await run(desk)

    events = [json.loads(one.split(b"\ndata: ")[1]) for one in await kept(desk, job_id)]
    kinds = ["created", "queued", "in_progress", "output_text.delta", "output_text.delta"]
    assert [f"response.{kind}" for kind in [*kinds, "completed"]] == [one["type"] for one in events]
    assert list(range(6)) == [one["sequence_number"] for one in events]
    assert {response_id} == {one["response"]["id"] for one in events if "response" in one}
    body = await body_of(desk, response_id)
    assert events[-1]["response"] == body
    assert (True, "completed") == (body["background"], body["status"])
    assert response_id.replace("resp_", "msg_") + "00" == body["output"][0]["id"]
    async with desk.store.write() as tx:
        due = await claim_deliveries(tx, owner="courier", lease_s=60.0, limit=10)
    assert [("response.completed", HOOK)] == [(row.event_type, row.url) for row in due]


async def test_a_cancelled_response_is_not_answered_any_more(streaming):
    """Its caller was told that it is cancelled, so that is how it ends, answer or not."""
    response_id = new_id("resp")
    more = asyncio.Event()
    first, *rest = response_events("Hi")
    desk = streaming(Tells([first, more, *rest]))
    job_id = await accepted(desk, endpoint="/v1/responses", response_id=response_id)
    running = asyncio.create_task(run_job(await claimed_one(desk), desk, Interrupt()))
    asked = await cancel(desk.store, desk.bell, desk.ids, tenant_id="acme", job_id=job_id)
    more.set()

    assert Ran.FINISHED == await running

    assert "cancelling" == asked.status
    assert "cancelled" == (await read_job(desk, job_id)).status
    assert "cancelled" == (await body_of(desk, response_id))["status"]
    assert not response.is_open(json.dumps(await body_of(desk, response_id)).encode())


async def test_a_cancelled_stream_ends_with_what_is_told_next(streaming):
    """Not only with the next heartbeat: nobody wants the rest, and it costs."""
    more = asyncio.Event()
    desk = streaming(Tells(itertools.chain([chunk("a"), more], itertools.repeat(chunk("b")))))
    job_id = await accepted(desk)
    running = asyncio.create_task(run_job(await claimed_one(desk), desk, Interrupt()))
    await until(lambda: _told(desk, job_id, 1))

    await cancel(desk.store, desk.bell, desk.ids, tenant_id="acme", job_id=job_id)
    more.set()

    assert Ran.FINISHED == await running
    assert "cancelled" == (await read_job(desk, job_id)).status
    assert [chunk("a")] == await kept(desk, job_id)


async def _told(desk, job_id, count) -> bool:
    return len(await kept(desk, job_id)) >= count
