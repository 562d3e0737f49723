"""`Idempotency-Key`: what a caller names is done once, and answered alike from then on."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa

from api.idempotency import LOCK_S, PROLONG_S, Idempotency
from shared.errors import IdempotencyInProgress
from shared.ids import new_id
from shared.sealing import Sealer
from shared.store.engine import open_store
from shared.store.side_tables import idempotency_key
from shared.store.urls import parse_store_url
from tests.contract.store.makers import StoppedClock
from tests.edge.api.conftest import KEY
from tests.edge.api.gateways import gateway, one_route, sdk
from tests.fakes.upstream import Answer, completion, running_upstream, says, sse, status, streams

OTHER_KEY = "sk-other-0123456789abcdef"
TENANTS = [
    {"id": "acme", "keys": [{"name": "ci", "key": KEY}]},
    {"id": "other", "keys": [{"name": "ci", "key": OTHER_KEY}]},
]
CHAT = "/v1/chat/completions"
HELLO = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
JOB = {"endpoint": CHAT, "body": HELLO}
LATER = {"prefer": "respond-async"}


@pytest.fixture
async def upstream():
    async with running_upstream() as server:
        yield server


@asynccontextmanager
async def opened(upstream, folder, url, **more):
    provider = {"kind": "openai_compatible", "base_url": upstream.base_url("up")}
    config = {**one_route(provider), "tenants": TENANTS, **more}
    async with gateway(folder, url, config) as client:
        yield client


@pytest.fixture
async def http(upstream, tmp_path, sqlite_url):
    async with opened(upstream, tmp_path, sqlite_url) as client:
        yield client


@pytest.fixture
def rows(sqlite_url):
    """Ask the database as it is."""
    engine = sa.create_engine(parse_store_url(sqlite_url).for_blocking(), poolclass=sa.NullPool)

    def found(statement):
        with engine.connect() as connection:
            return list(connection.execute(sa.text(statement)))

    yield found
    engine.dispose()


async def ask(http, body=HELLO, *, path=CHAT, key="k-1", **headers):
    return await http.post(path, json=body, headers={"idempotency-key": key, **headers})


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (a database tells nobody)
            await asyncio.sleep(0.01)


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def replayed(*answers):
    return [answer.headers.get("idempotent-replayed") for answer in answers]


@pytest.mark.parametrize("answer", [says("one"), streams("one", "two")], ids=["whole", "stream"])
async def test_a_call_is_made_once(upstream, http, answer):
    """Its bytes, status and type are given again; what was of one call only is not."""
    body = {**HELLO, "stream": answer.headers != says("one").headers}
    upstream.script("up", answer, says("another"))

    first, second = await ask(http, body), await ask(http, body)

    assert [None, "true"] == replayed(first, second)
    assert (200, first.content) == (second.status_code, second.content)
    assert 1 == len(upstream.requests)
    kept = {"content-type", "x-sluiceway-provider", "x-sluiceway-model", "x-sluiceway-route"}
    assert {first.headers[name] for name in kept} == {second.headers[name] for name in kept}
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert {"x-sluiceway-cost-usd", "x-ratelimit-limit-requests"}.isdisjoint(second.headers)


async def test_without_a_key_every_call_is_its_own(upstream, http, rows):
    upstream.script("up", says("one"), says("two"))

    answers = [await http.post(CHAT, json=HELLO) for _ in range(2)]

    assert ["one", "two"] == [one.json()["choices"][0]["message"]["content"] for one in answers]
    assert [] == rows("SELECT * FROM idempotency_key")


async def test_another_body_under_the_key_is_refused(upstream, http):
    """JSON is compared by its meaning: order and spaces are the sender's."""
    upstream.script("up", says("one"))
    first = await ask(http)
    same = {"idempotency-key": "k-1", "content-type": "application/json"}
    turned = json.dumps(dict(reversed(HELLO.items())), indent=2)

    again = await http.post(CHAT, content=turned, headers=same)
    other = await ask(http, {**HELLO, "temperature": 0})

    assert first.content == again.content
    assert (422, "idempotency_mismatch") == code(other)
    assert "Idempotency-Key" == other.json()["error"]["param"]


async def test_keys_are_a_tenants_own_on_a_path(upstream, http):
    upstream.script("up", says("one"), says("two"), says("three"))
    theirs = {"authorization": f"Bearer {OTHER_KEY}"}

    answers = [
        await ask(http),
        await ask(http, **theirs),
        await ask(http, {**HELLO, "input": "hi"}, path="/v1/responses"),
        await ask(http, key="k-2"),
    ]

    assert [None] * 4 == replayed(*answers)


async def test_while_a_call_runs_its_key_is_taken(upstream, http):
    """SDKs ask again by themselves after such a 409."""
    upstream.script("up", Answer(pieces=(json.dumps(completion("slow")).encode(),), wait_s=0.3))
    first = asyncio.create_task(ask(http))
    await upstream.wait_for_requests(1)

    early, mismatch = await ask(http), await ask(http, {**HELLO, "n": 1})
    await first
    late = await ask(http)

    assert (409, "idempotency_in_progress") == code(early)
    assert "1" == early.headers["retry-after"]
    assert (422, "idempotency_mismatch") == code(mismatch)
    assert ["true"] == replayed(late)
    assert (await first).content == late.content


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (status(400, {"message": "no such voice"}), "true"),
        (status(422, {"message": "no"}), "true"),
        (status(429), None),
        (status(500), None),
        (status(401), None),
    ],
    ids=["400", "422", "429", "500", "401"],
)
async def test_only_the_providers_own_word_about_a_call_is_final(upstream, http, answer, known):
    """What may pass is asked again; a call that is wrong stays wrong."""
    upstream.script("up", answer, says("better"))

    first, second = await ask(http), await ask(http)

    assert first.status_code >= 400
    assert [None, known] == replayed(first, second)
    assert (first.status_code if known else 200) == second.status_code
    if known:
        assert first.json() == second.json()


async def test_what_was_never_accepted_is_not_kept(upstream, http, rows):
    wrong = await ask(http, {**HELLO, "model": "unknown"})
    bad_job = await ask(http, {"endpoint": "/v1/unknown", "body": {}}, path="/v1/jobs")

    assert [(404, "model_not_found"), (400, "invalid_request")] == [code(wrong), code(bad_job)]
    assert [] == rows("SELECT * FROM idempotency_key")
    upstream.script("up", says("one"))
    assert 200 == (await ask(http)).status_code


async def test_a_stream_that_broke_is_not_given_again(upstream, http):
    body = {**HELLO, "stream": True}
    begun = streams("one", "two").pieces[:2]
    upstream.script("up", sse(begun, framing="chunked", end="reset"), streams("whole"))

    cut, second = await ask(http, body), await ask(http, body)

    assert b"error" in cut.content
    assert [None] == replayed(second)
    assert second.content.endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_its_caller_left_is_made_again(upstream, http):
    body = {**HELLO, "stream": True}
    upstream.script("up", sse([b"data: {}\n\n"], end="stall"), streams("whole"))
    gone = asyncio.create_task(ask(http, body))
    await upstream.wait_for_requests(1)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)

    second = await ask(http, body)

    assert [None] == replayed(second)
    assert second.content.endswith(b"data: [DONE]\n\n")


async def test_an_answer_beyond_the_limit_is_not_kept_and_not_made_twice(upstream, http):
    upstream.script("up", says("x" * 8_400_000))

    first, second = await ask(http), await ask(http)

    assert 200 == first.status_code
    assert (409, "conflict") == code(second)
    assert 1 == len(upstream.requests)


async def test_a_key_has_up_to_255_characters(http):
    answers = [await ask(http, key=key, path=path) for path in (CHAT, "/v1/jobs")
               for key in ("k" * 256, " ")]  # fmt: skip

    assert [(400, "invalid_request")] * 4 == [code(one) for one in answers]
    assert 404 == (await ask(http, {**HELLO, "model": "x"}, key="k" * 255)).status_code


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [("/v1/jobs", JOB, {}), (CHAT, HELLO, LATER)],
    ids=["jobs", "prefer"],
)
async def test_a_job_is_submitted_once_however_many_ask(http, rows, path, body, headers):
    """One wins; the others are told to wait or get the same job."""
    answers = await asyncio.gather(*(ask(http, body, path=path, **headers) for _ in range(8)))
    later = await ask(http, body, path=path, **headers)

    jobs = {one.json()["id"] for one in (*answers, later) if one.status_code == 202}
    assert {202, 409} >= {one.status_code for one in answers}
    assert jobs == {row.id for row in rows("SELECT id FROM job")}
    assert (202, ["true"]) == (later.status_code, replayed(later))
    assert f"/v1/jobs/{later.json()['id']}" == later.headers["location"]
    assert (422, "idempotency_mismatch") == code(
        await ask(http, {**body, "priority": "batch", "user": "u"}, path=path, **headers)
    )


async def test_a_job_whose_caller_left_is_the_same_job(http, rows):
    """The answer never went out whole, the job was committed: it is shown as it stands."""
    gone = asyncio.create_task(ask(http, prefer="respond-async, wait=30"))
    await until(lambda: rows("SELECT id FROM job"))
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    (job,) = rows("SELECT id FROM job")

    again = await ask(http, prefer="respond-async, wait=30")

    assert (202, job.id) == (again.status_code, again.json()["id"])
    assert ("true", job.id) == (
        again.headers["idempotent-replayed"],
        again.headers["x-sluiceway-job"],
    )
    assert 1 == len(rows("SELECT id FROM job"))


class Steps(StoppedClock):
    """A clock whose sleeps end when the test lets them."""

    def __init__(self):
        super().__init__()
        self.turn = asyncio.Event()

    async def sleep(self, length_s):
        await self.turn.wait()
        self.turn.clear()
        self.forward(length_s)


async def test_a_call_that_takes_long_keeps_its_key(store_url):
    """The lock is prolonged while it runs, and nobody can take it over."""
    clock = Steps()
    store = await open_store(store_url, clock=clock)
    names = Idempotency(store, clock, new_id, Sealer("k"))

    async def begun():
        return await names.begin("acme", "POST /v1/jobs", b"k", "f", ignored)

    async def locked_until():
        async with store.read() as tx:
            found = await tx.connection.execute(sa.select(idempotency_key.c.locked_until))
            return found.scalar_one()

    async with await begun():
        for _ in range(int(2 * LOCK_S / PROLONG_S)):
            before = await locked_until()
            clock.turn.set()
            async with asyncio.timeout(10):
                while await locked_until() == before:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            with pytest.raises(IdempotencyInProgress):
                await begun()
    async with await begun():
        pass
    await store.close()


async def ignored(message):
    pass


async def test_a_secret_in_an_answer_is_kept_sealed(http, rows):
    body = {"name": "n", "url": "https://example.com/", "event_types": ["job.succeeded"]}

    first, second = [await ask(http, body, path="/v1/webhook_endpoints") for _ in range(2)]

    assert ["true"] == replayed(second)
    assert first.json() == second.json()
    (kept,) = rows("SELECT body FROM idempotency_key")
    assert first.json()["signing_secret"].encode() not in kept.body


@pytest.mark.parametrize("stream", [False, True])
async def test_a_background_response_is_begun_once(http, rows, stream):
    """Its caller may leave at once; asked again it is the same response."""
    body = {"model": "chat", "input": "hi", "background": True, "stream": stream}
    gone = asyncio.create_task(ask(http, body, path="/v1/responses"))
    await until(lambda: rows("SELECT id FROM job"))
    if stream:
        gone.cancel()  # nobody runs it here, so its stream would not end
        await asyncio.gather(gone, return_exceptions=True)
        again = asyncio.create_task(ask(http, body, path="/v1/responses"))
        (job,) = rows("SELECT id FROM job")
        ended = await http.post(f"/v1/jobs/{job.id}/cancel")
        told = (await again).text

        assert 200 == ended.status_code
        assert ["true"] == replayed(await again)
        events = [line for line in told.splitlines() if line.startswith("event: ")]
        assert ["created", "queued"] == [one.split(".")[-1] for one in events[:-1]]
    else:
        first, second = await gone, await ask(http, body, path="/v1/responses")
        assert first.json() == second.json()
        assert ["true"] == replayed(second)
    assert 1 == len(rows("SELECT id FROM job"))


@pytest.mark.behaviour(142)
async def test_a_caller_that_tries_again_pays_once(upstream, http, rows):
    """OpenAI's SDK asks again by itself after a 5xx; with one key all of it is one call."""
    upstream.script("up", status(500), says("one"), says("two"))
    client = sdk(http).with_options(max_retries=2)

    async def asked():
        answer = await client.chat.completions.create(
            **HELLO, extra_headers={"idempotency-key": "k-1"}
        )
        return answer.choices[0].message.content

    assert ["one", "one"] == [await asked(), await asked()]
    assert 2 == len(upstream.requests)
    outcomes = "SELECT outcome FROM ledger ORDER BY started_at, attempt_id"
    await until(lambda: len(rows(outcomes)) == 2)
    assert ["failed", "succeeded"] == [row.outcome for row in rows(outcomes)]


async def test_a_form_is_the_same_whatever_its_boundary(upstream, http):
    """SDKs draw a new one for each sending."""
    upstream.script("up", Answer(pieces=(b'{"text": "hi"}',)), Answer(pieces=(b'{"text": "ho"}',)))
    named = sdk(http).with_options(default_headers={"idempotency-key": "k-1"})

    async def transcript(sound):
        return await named.audio.transcriptions.with_raw_response.create(
            model="chat", file=("a.wav", sound)
        )

    first, second = await transcript(b"RIFF"), await transcript(b"RIFF")

    assert ["hi", "hi"] == [one.parse().text for one in (first, second)]
    assert "true" == second.headers["idempotent-replayed"]
