"""Webhook endpoints over HTTP, through OpenAI's own client, with deliveries on real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from api.edge import Edge
from api.rest import rest_app
from shared.gateway.news import News
from shared.health.breaker import BreakerState, Phase
from shared.settings import Settings, load_settings
from shared.store.webhooks import claim_deliveries
from shared.webhooks.attempt import attempt
from shared.webhooks.emit import emit
from shared.webhooks.event import OPERATOR, subject_event
from tests.edge.api.conftest import CONFIG, KEY, MASTER_KEY
from tests.edge.workers.receiver import Receiver, respond, running_receiver

pytestmark = pytest.mark.anyio

OTHER_KEY = "sk-other-0123456789abcdef"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:told"
TENANT = f"tenants: [{{id: acme, keys: [{{name: ci, key: {KEY}}}]}}"


@pytest.fixture
def settings(tmp_path: Path, sqlite_url: str) -> Settings:
    more = f"{TENANT}, {{id: other, keys: [{{name: ci, key: {OTHER_KEY}}}]}}"
    config = CONFIG.replace(TENANT, more)
    path = tmp_path / "sluiceway.yaml"
    path.write_text(
        f"{config}webhooks: {{allow_networks: [127.0.0.0/8], allow_topics: ['{TOPIC}*']}}\n"
    )
    return load_settings(
        {
            "SLUICEWAY_CONFIG": str(path),
            "SLUICEWAY_DATA_DIR": str(tmp_path / "data"),
            "SLUICEWAY_DATABASE_URL": sqlite_url,
            "SLUICEWAY_SECRET_KEY": "the-tests-own-secret-key-0123456789",
            "SLUICEWAY_MASTER_KEY": MASTER_KEY,
        }
    )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running


@pytest.fixture
def client(http: httpx.AsyncClient) -> openai.AsyncOpenAI:
    return sdk(http, KEY)


def sdk(http: httpx.AsyncClient, key: str, root: str = "/v1") -> openai.AsyncOpenAI:
    url = f"http://gateway{root}"
    return openai.AsyncOpenAI(api_key=key, base_url=url, http_client=http, max_retries=0)


async def made(client: openai.AsyncOpenAI, url: str, *types: str, name: str = "mine"):
    return await client.webhooks.create(
        name=name, url=url, event_types=list(types or ("job.succeeded",))
    )


async def happens(edge: Edge, event_type: str, subject: str = "it_1", tenant_id: str = "acme"):
    """Emit an event; return its id."""
    async with edge.runtime.store.write() as tx:
        now = await tx.now()
        event = subject_event(edge.ids("evt"), event_type, subject, now)
        await emit(tx, event, tenant_id=tenant_id, ids=edge.ids, at=now)
    return event.id


async def deliver_due(edge: Edge) -> int:
    """Do what a worker does: one attempt of everything that is due; return how many."""
    async with edge.runtime.store.write() as tx:
        due = await claim_deliveries(tx, owner="w1", lease_s=60.0, limit=100)
    for one in due:
        await attempt(one, edge.runtime.post_office)
    return len(due)


async def test_an_endpoint_s_life(client: openai.AsyncOpenAI):
    """Every call of OpenAI's client, and nobody sees the secret a second time."""
    endpoint = await made(client, "https://a.example/hook", "job.failed", "batch.completed")
    read = await client.webhooks.retrieve(endpoint.id)
    changed = await client.webhooks.update(
        endpoint.id, name="new", url="https://b.example/", event_types=["job.expired"]
    )
    renamed = await client.webhooks.update(endpoint.id, name="newer")
    gone = await client.webhooks.delete(endpoint.id)

    assert endpoint.signing_secret.startswith("whsec_")
    assert endpoint.signing_secret.endswith(str(read.signing_secret_hint)[-4:])
    assert endpoint.signing_secret not in read.to_json()
    assert ["batch.completed", "job.failed"] == read.event_types
    assert ("new", "https://b.example/", ["job.expired"]) == (
        changed.name,
        changed.url,
        changed.event_types,
    )
    assert ("newer", "https://b.example/") == (renamed.name, renamed.url)
    assert gone.deleted
    with pytest.raises(openai.NotFoundError):
        await client.webhooks.retrieve(endpoint.id)


async def test_pages_go_on_where_they_ended(client: openai.AsyncOpenAI):
    ids = sorted([(await made(client, "https://a.example/")).id for _ in range(5)])

    first = await client.webhooks.list(limit=2)
    every = [one.id async for one in client.webhooks.list(limit=2)]

    assert (ids[:-3:-1], True) == ([one.id for one in first.data], first.has_more)
    assert ids[::-1] == every


async def test_event_types_are_told(client: openai.AsyncOpenAI, http: httpx.AsyncClient):
    """Those about the gateway itself are its operator's."""
    own = (await client.webhooks.event_types.list()).data
    operator = await sdk(http, MASTER_KEY, "/admin").webhooks.event_types.list()

    assert {"job.succeeded", "batch.expired", "response.incomplete"} <= set(own)
    assert {"provider.target_opened", "provider.target_closed"} == {
        one for one in set(operator.data) - set(own) if one.startswith("provider.")
    }


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"url": "ftp://a.example/"}, "url"),
        ({"url": "https://user:pass@a.example/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://[::ffff:169.254.169.254]/"}, "url"),
        ({"url": "arn:aws:sns:eu-west-1:999999999999:theirs"}, "url"),
        ({"url": "arn:aws:sqs:eu-west-1:123456789012:told"}, "url"),
        ({"event_types": []}, "event_types"),
        ({"event_types": ["job.done"]}, "event_types"),
        ({"event_types": ["provider.target_opened"]}, "event_types"),
        ({"name": ""}, "name"),
        ({"concurrency": 11}, "concurrency"),
        ({"concurrency": 0}, "concurrency"),
        ({"secret": "whsec_mine"}, "secret"),
    ],
)
async def test_what_cannot_be_an_endpoint_is_refused(http: httpx.AsyncClient, change, param):
    body = {"name": "n", "url": "https://a.example/", "event_types": ["job.failed"], **change}

    refused = await http.post("/v1/webhook_endpoints", json=body)

    error = refused.json()["error"]
    assert (400, "invalid_request", param) == (refused.status_code, error["code"], error["param"])


async def test_an_allowed_topic_may_be_named(client: openai.AsyncOpenAI):
    assert f"{TOPIC}-more" == (await made(client, f"{TOPIC}-more")).url


async def test_nobody_sees_another_tenant_s(http: httpx.AsyncClient, client: openai.AsyncOpenAI):
    endpoint = await made(client, "https://a.example/")
    other = sdk(http, OTHER_KEY)

    for asked in (
        other.webhooks.retrieve(endpoint.id),
        other.webhooks.update(endpoint.id, name="theirs"),
        other.webhooks.delete(endpoint.id),
        other.webhooks.rotate_secret(endpoint.id),
        other.webhooks.test(endpoint.id, event_type="batch.completed"),
    ):
        with pytest.raises(openai.NotFoundError):
            await asked
    assert [] == (await other.webhooks.list()).data
    assert "mine" == (await client.webhooks.retrieve(endpoint.id)).name


@pytest.mark.behaviour(194)
async def test_an_event_reaches_the_endpoints_that_ask_for_it(
    edge: Edge, client: openai.AsyncOpenAI, http: httpx.AsyncClient, receiver: Receiver
):
    """Signed with the endpoint's own secret; OpenAI's client takes it."""
    wants = await made(client, receiver.url("/wants"), "batch.completed", "job.failed")
    await made(client, receiver.url("/other"), "job.failed")
    await made(sdk(http, OTHER_KEY), receiver.url("/theirs"), "batch.completed")

    await happens(edge, "batch.completed", "batch_7")
    assert 1 == await deliver_due(edge)

    [call] = receiver.received
    event = client.webhooks.unwrap(call.body, call.headers, secret=wants.signing_secret)
    assert ("/wants", "batch.completed", "batch_7") == (call.path, event.type, event.data.id)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(call.body + b" ", call.headers, secret=wants.signing_secret)


@pytest.mark.behaviour(196)
@pytest.mark.parametrize("keeps", [True, False])
async def test_a_new_secret_signs_at_once_and_the_old_one_for_a_day_if_asked(
    edge: Edge, client: openai.AsyncOpenAI, receiver: Receiver, keeps
):
    old = await made(client, receiver.url())
    new = await client.webhooks.rotate_secret(old.id, keep_old_secret_active_for_24_hours=keeps)
    await happens(edge, "job.succeeded")
    await deliver_due(edge)

    [call] = receiver.received
    assert (2 if keeps else 1) == len(call.headers["webhook-signature"].split(" "))
    Webhook(new.signing_secret).verify(call.body, call.headers)
    if keeps:
        Webhook(old.signing_secret).verify(call.body, call.headers)
    else:
        with pytest.raises(WebhookVerificationError):
            Webhook(old.signing_secret).verify(call.body, call.headers)


async def test_a_sample_is_sent_at_once_and_logged(
    client: openai.AsyncOpenAI, http: httpx.AsyncClient, receiver: Receiver
):
    endpoint = await made(client, receiver.url(), "batch.completed")
    receiver.script("/hook", respond(202), respond(500, b"no"))

    fine = await client.webhooks.test(endpoint.id, event_type="batch.completed")
    broken = await client.webhooks.test(endpoint.id, event_type="response.failed")

    first, _ = receiver.received
    sample = client.webhooks.unwrap(first.body, first.headers, secret=endpoint.signing_secret)
    assert ("batch.completed", "batch_test") == (sample.type, sample.data.id)
    assert (202, 500) == (fine.status_code, broken.status_code)
    log = (await http.get(f"/v1/webhook_endpoints/{endpoint.id}/deliveries")).json()["data"]
    assert [("failed", 500, "no"), ("succeeded", 202, "ok")] == [
        (one["status"], tried["status_code"], tried["answer_head"])
        for one in log
        for tried in one["attempts"]
    ]


async def test_a_sample_that_cannot_be_sent_says_why(client: openai.AsyncOpenAI):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        deaf = await made(client, f"http://127.0.0.1:{port}/")
        with pytest.raises(openai.BadRequestError, match="could not be reached"):
            await client.webhooks.test(deaf.id, event_type="batch.failed")


async def test_the_log_shows_every_attempt(
    edge: Edge, client: openai.AsyncOpenAI, http: httpx.AsyncClient, receiver: Receiver
):
    receiver.script("/hook", respond(503, b"later"))
    endpoint = await made(client, receiver.url())
    event_id = await happens(edge, "job.succeeded")
    await deliver_due(edge)

    [logged] = await log_of(http, endpoint.id)

    [tried] = logged["attempts"]
    assert (event_id, "job.succeeded", "pending") == (
        logged["event_id"],
        logged["event_type"],
        logged["status"],
    )
    assert logged["next_attempt_at"] >= tried["at"]
    assert (503, "later", None) == (tried["status_code"], tried["answer_head"], tried["error"])
    assert 0 <= tried["latency_ms"] < 60_000
    assert [] == await log_of(http, endpoint.id, "?status=succeeded")
    assert 400 == (await log_page(http, endpoint.id, "?status=lost")).status_code


async def log_page(http: httpx.AsyncClient, endpoint_id: str, query: str = "") -> httpx.Response:
    return await http.get(f"/v1/webhook_endpoints/{endpoint_id}/deliveries{query}")


async def log_of(http: httpx.AsyncClient, endpoint_id: str, query: str = "") -> list[dict]:
    return (await log_page(http, endpoint_id, query)).json()["data"]


async def again(http: httpx.AsyncClient, endpoint_id: str, **which: object) -> httpx.Response:
    return await http.post(f"/v1/webhook_endpoints/{endpoint_id}/redeliver", json=which)


@pytest.mark.behaviour(194)
async def test_one_event_goes_out_again_with_its_id(
    edge: Edge, client: openai.AsyncOpenAI, http: httpx.AsyncClient, receiver: Receiver
):
    endpoint = await made(client, receiver.url())
    event_id, _ = [await happens(edge, "job.succeeded") for _ in range(2)]
    await deliver_due(edge)
    [delivery_id] = [
        one["id"] for one in await log_of(http, endpoint.id) if one["event_id"] == event_id
    ]

    by_event = await again(http, endpoint.id, event_id=event_id)
    await deliver_due(edge)
    by_delivery = await again(http, endpoint.id, delivery_id=delivery_id)
    await deliver_due(edge)

    assert [1, 1] == [by_event.json()["count"], by_delivery.json()["count"]]
    assert [event_id, event_id] == [call.id for call in receiver.received[2:]]
    assert 404 == (await again(http, endpoint.id, event_id="evt_none")).status_code


async def test_a_range_goes_out_again(
    edge: Edge, client: openai.AsyncOpenAI, http: httpx.AsyncClient, receiver: Receiver
):
    endpoint = await made(client, receiver.url())
    for _ in range(3):
        await happens(edge, "job.succeeded")
    await deliver_due(edge)

    past = await again(http, endpoint.id, until=1_700_000_000)
    every = await again(http, endpoint.id, since=1_700_000_000)

    assert [0, 3] == [past.json()["count"], every.json()["count"]]
    assert 3 == await deliver_due(edge)
    assert 3 == len({call.id for call in receiver.received})


async def test_all_that_failed_goes_out_again_once(
    edge: Edge, client: openai.AsyncOpenAI, http: httpx.AsyncClient, receiver: Receiver
):
    """What came through is not repeated, and what waits for its next attempt goes out now."""
    receiver.script("/hook", respond(200), respond(410), respond(200))
    endpoint = await made(client, receiver.url())
    ids = []
    for _ in range(3):  # taken; gone, which turns it off; then told to nobody
        ids.append(await happens(edge, "job.succeeded"))
        await deliver_due(edge)

    off = await http.get(f"/v1/webhook_endpoints/{endpoint.id}")
    refused = await again(http, endpoint.id, failed=True)
    await http.post(f"/v1/webhook_endpoints/{endpoint.id}", json={"enabled": True})
    counts = [(await again(http, endpoint.id, failed=True)).json()["count"] for _ in range(2)]
    await deliver_due(edge)

    assert ("disabled", "it answered 410") == (off.json()["status"], off.json()["disabled_reason"])
    assert (409, "conflict") == (refused.status_code, refused.json()["error"]["code"])
    assert [2, 0] == counts
    assert set(ids[1:]) == {call.id for call in receiver.received[2:]}
    assert 0 == (await again(http, endpoint.id, failed=True)).json()["count"]


@pytest.mark.parametrize("body", [{}, {"since": "soon"}, {"failed": "yes"}, {"which": 1}])
async def test_a_redelivery_says_of_what(
    client: openai.AsyncOpenAI, http: httpx.AsyncClient, body: dict[str, object]
):
    endpoint = await made(client, "https://a.example/")

    assert 400 == (await again(http, endpoint.id, **body)).status_code


async def test_turned_off_it_is_told_nothing_and_on_request_what_it_missed(
    edge: Edge, client: openai.AsyncOpenAI, http: httpx.AsyncClient, receiver: Receiver
):
    endpoint = await made(client, receiver.url())
    missed = [await happens(edge, "job.succeeded")]
    await http.post(f"/v1/webhook_endpoints/{endpoint.id}", json={"enabled": False})
    missed.append(await happens(edge, "job.succeeded"))

    assert 0 == await deliver_due(edge)
    log = await log_of(http, endpoint.id)
    assert [("failed", "the endpoint is disabled", [])] * 2 == [
        (one["status"], one["error"], one["attempts"]) for one in log
    ]

    await http.post(f"/v1/webhook_endpoints/{endpoint.id}", json={"enabled": True})
    await again(http, endpoint.id, failed=True)
    await deliver_due(edge)
    assert sorted(missed) == sorted(call.id for call in receiver.received)


async def test_the_operator_hears_of_the_gateway(
    edge: Edge, http: httpx.AsyncClient, receiver: Receiver
):
    """With the master key, on the same paths under /admin; a tenant's key is refused there."""
    operator = sdk(http, MASTER_KEY, "/admin")
    endpoint = await made(operator, receiver.url(), "provider.target_opened")
    with pytest.raises(openai.PermissionDeniedError):
        await sdk(http, KEY, "/admin").webhooks.list()

    await happens(edge, "provider.target_opened", "mock/mock-1", OPERATOR)
    await deliver_due(edge)

    [call] = receiver.received
    Webhook(endpoint.signing_secret).verify(call.body, call.headers)
    assert "mock/mock-1" == json.loads(call.body)["data"]["id"]
    assert [endpoint.id] == [one.id for one in (await operator.webhooks.list()).data]
    assert [] == (await sdk(http, KEY).webhooks.list()).data


async def test_both_paths_are_in_the_document(edge: Edge):
    """Each operation with a name of its own."""
    paths = rest_app().openapi_schema.to_schema()["paths"]
    ids = [one["operationId"] for path in paths.values() for one in path.values()]

    assert {"create_webhook_endpoint", "operator_create_webhook_endpoint"} <= set(ids)
    assert len(ids) == len(set(ids))


async def told(edge: Edge, receiver: Receiver, count: int) -> list[dict]:
    """Return the bodies of the first `count` events, in order."""
    async with asyncio.timeout(20):
        while len(receiver.received) < count:
            await deliver_due(edge)
    bodies = [json.loads(call.body) for call in receiver.received]
    return sorted(bodies, key=lambda body: body["id"])


async def test_a_target_that_is_left_alone_is_told_to_the_operator(
    edge: Edge, http: httpx.AsyncClient, receiver: Receiver
):
    await made(sdk(http, MASTER_KEY, "/admin"), receiver.url(), "provider.target_opened")
    broken = {
        "model": "mock",
        "messages": [{"role": "user", "content": "Hello"}],
        "mock": {"status": 503},
    }
    for _ in range(5):
        await http.post("/v1/chat/completions", json=broken)

    [body] = await told(edge, receiver, 1)

    data = body["data"]
    assert ("provider.target_opened", "mock/mock-1") == (body["type"], data["id"])
    assert ("mock", "mock-1", "overloaded", edge.runtime.owner) == (
        data["provider"],
        data["model"],
        data["reason"],
        data["process"],
    )


async def test_a_target_s_way_back_is_told_once(
    edge: Edge, http: httpx.AsyncClient, receiver: Receiver
):
    """However often its breaker tried it in between."""
    types = ("provider.target_opened", "provider.target_closed")
    await made(sdk(http, MASTER_KEY, "/admin"), receiver.url(), *types)
    news = News(edge.runtime.store, edge.clock, edge.ids, owner="here")
    closed, half = BreakerState(), BreakerState(phase=Phase.HALF_OPEN)
    opened = BreakerState(phase=Phase.OPEN, reason="overloaded")
    telling = asyncio.create_task(news.run())

    for before, after in ((closed, opened), (opened, half), (half, opened), (half, closed)):
        news.changed(("mock", "mock-1", "default"), before, after)

    assert sorted(types) == sorted(body["type"] for body in await told(edge, receiver, 2))
    telling.cancel()
