"""The courier: at least once, under one id, recorded before it is tried again."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from shared.clock import SystemClock
from shared.errors import StoreUnavailable
from shared.ids import new_id
from shared.sealing import Sealer
from shared.store.delivery_log import delivery_log
from shared.store.endpoints import (
    EndpointRow,
    disable_endpoint,
    get_endpoint,
    insert_endpoint,
    note_failure,
    update_endpoint,
)
from shared.store.webhooks import (
    claim_deliveries,
    deliveries_of,
    delivery_attempts_of,
)
from shared.webhooks.attempt import PostOffice, attempt
from shared.webhooks.delivery import Post
from shared.webhooks.egress import networks
from shared.webhooks.emit import emit
from shared.webhooks.event import job_event
from shared.webhooks.signature import new_secret
from tests.edge.workers.makers import Unheard
from tests.edge.workers.receiver import Response, respond
from workers.deliveries import Courier

pytestmark = pytest.mark.anyio


@pytest.fixture
def office(store, tenant):
    return PostOffice(
        store=store,
        clock=SystemClock(),
        ids=new_id,
        owner="w1",
        draw=lambda: 0.5,
        file_secret=lambda _: None,
        unseal=Sealer("k").open,
        post=Post(allowed=networks(["127.0.0.0/8"]), timeout_s=2.0),
    )


async def emitted(office, *urls) -> str:
    """Put an event in the outbox; return its id."""
    async with office.store.write() as tx:
        now = await tx.now()
        event = job_event(new_id("evt"), job_id="job_1", status="succeeded", at=now)
        await emit(tx, event, tenant_id="acme", urls=urls, ids=new_id, at=now)
    return event.id


async def claimed(office, *, lease_s=60.0):
    async with office.store.write() as tx:
        return await claim_deliveries(tx, owner="w1", lease_s=lease_s, limit=10)


async def only(office, event_id):
    async with office.store.read() as tx:
        [row] = await deliveries_of(tx, event_id)
        return row, await delivery_attempts_of(tx, row.id)


async def test_success_is_recorded(office, receiver, tenant):
    event_id = await emitted(office, receiver.url())
    [row] = await claimed(office)

    await attempt(row, office)

    after, tries = await only(office, event_id)
    [call] = receiver.received
    assert ("succeeded", 1, 200) == (after.status, after.attempts, after.last_status_code)
    assert [(200, b"ok")] == [(one.status_code, one.answer_head) for one in tries]
    assert event_id == call.id
    Webhook(Sealer("k").open(tenant.webhook_secret)).verify(call.body, call.headers)


async def test_the_file_s_secret_wins(office, receiver):
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    await emitted(office, receiver.url())
    [row] = await claimed(office)

    await attempt(row, msgspec.structs.replace(office, file_secret=lambda _: secret))

    [call] = receiver.received
    Webhook(secret).verify(call.body, call.headers)


@pytest.mark.behaviour(194, 195)
async def test_a_failure_is_tried_again_later_with_the_same_id(office, receiver):
    receiver.script("/hook", respond(500), respond(200))
    event_id = await emitted(office, receiver.url())
    [row] = await claimed(office)

    await attempt(row, office)

    after, _ = await only(office, event_id)
    left = after.next_at - datetime.now(UTC)
    assert ("pending", 1) == (after.status, after.attempts)
    assert timedelta(seconds=2) < left <= timedelta(seconds=5)
    assert [] == await claimed(office)

    async with office.store.write() as tx:
        await tx.connection.execute(sa.text("UPDATE delivery SET next_at = 0"))
    [again] = await claimed(office)
    await attempt(again, office)

    after, tries = await only(office, event_id)
    assert ("succeeded", [500, 200]) == (after.status, [one.status_code for one in tries])
    assert {event_id} == {call.id for call in receiver.received}


async def test_gone_ends_it(office, receiver):
    receiver.script("/hook", respond(410))
    event_id = await emitted(office, receiver.url())
    [row] = await claimed(office)

    await attempt(row, office)

    assert "failed" == (await only(office, event_id))[0].status


async def test_the_tenth_failure_ends_it(office, receiver):
    receiver.script("/hook", respond(500))
    event_id = await emitted(office, receiver.url())
    [row] = await claimed(office)

    await attempt(msgspec.structs.replace(row, attempts=9), office)

    assert "failed" == (await only(office, event_id))[0].status


async def test_killed_between_post_and_record_it_goes_out_again(office, receiver):
    """A duplicate with the same id, never none."""
    event_id = await emitted(office, receiver.url())
    [row] = await claimed(office, lease_s=0.0)

    with pytest.raises(StoreUnavailable):
        await attempt(row, msgspec.structs.replace(office, store=Forgetful(office.store)))
    [again] = await claimed(office)
    await attempt(again, office)

    after, tries = await only(office, event_id)
    assert ("succeeded", 1) == (after.status, len(tries))
    assert [event_id, event_id] == [call.id for call in receiver.received]


class Forgetful:
    """A store that cannot be written to."""

    def __init__(self, store):
        self._store = store

    def read(self):
        return self._store.read()

    def write(self):
        raise StoreUnavailable("away")


async def test_a_late_record_under_an_old_lease_changes_nothing(office, receiver):
    event_id = await emitted(office, receiver.url())
    [old] = await claimed(office, lease_s=0.0)
    [new] = await claimed(office)
    await attempt(new, office)

    await attempt(old, office)

    after, tries = await only(office, event_id)
    assert ("succeeded", 1) == (after.status, len(tries))


async def test_nothing_is_sent_of_what_was_rolled_back(office):
    async def fails_after_emitting():
        async with office.store.write() as tx:
            now = await tx.now()
            event = job_event("evt_x", job_id="job_1", status="failed", at=now)
            await emit(tx, event, tenant_id="acme", urls=["http://127.0.0.1/"], ids=new_id, at=now)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails_after_emitting()

    assert [] == await claimed(office)


async def test_nobody_listening_leaves_no_row(office):
    event_id = await emitted(office)

    async with office.store.read() as tx:
        assert [] == await deliveries_of(tx, event_id)


async def test_the_courier_delivers_what_is_due_and_drains(office, receiver):
    """A receiver that hangs does not hold the others up."""
    receiver.script("/hangs", Response(hang=True))
    await emitted(office, *(receiver.url("/hangs") for _ in range(5)))
    await emitted(office, *(receiver.url(f"/{number}") for number in range(40)))
    courier = Courier(office, poll_s=0.05)
    running = asyncio.create_task(courier.run())
    await receiver.wait_for(45)

    courier.stop()
    await running
    await courier.drain(5.0)

    assert 41 == len({call.path for call in receiver.received})
    assert [] == await claimed(office)


async def test_what_is_being_claimed_while_the_courier_stops_is_delivered(office, receiver):
    await emitted(office, receiver.url())
    unheard = Unheard(office.store)
    courier = Courier(msgspec.structs.replace(office, store=unheard), poll_s=0.05)
    running = asyncio.create_task(courier.run())
    await unheard.committed.wait()
    draining = asyncio.create_task(courier.drain(5.0))
    await asyncio.sleep(0.1)
    unheard.heard.set()

    await draining
    running.cancel()  # as the process does then
    await asyncio.wait([running])

    assert 1 == len(receiver.received)
    assert [] == await claimed(office)


async def test_the_courier_wakes_when_rung(office, receiver):
    courier = Courier(office, poll_s=60.0)
    running = asyncio.create_task(courier.run())
    await asyncio.sleep(0.1)  # it has looked and found nothing
    await emitted(office, receiver.url())

    courier.ring()

    await receiver.wait_for(1, within_s=10.0)
    courier.stop()
    await running
    await courier.drain(5.0)


# Endpoints


@pytest.fixture
async def endpoint(office, receiver):
    """An endpoint of the tenant's that is subscribed to the ends of jobs."""
    async with office.store.write() as tx:
        row = EndpointRow(
            id="we_1",
            tenant_id="acme",
            name="n",
            url=receiver.url(),
            event_types=("job.succeeded",),
            secret=Sealer("k").seal(new_secret(os.urandom)),
            concurrency=2,
            created_at=await tx.now(),
        )
        await insert_endpoint(tx, row)
    return row


async def failing_for(office, length: timedelta, events: int):
    """Let the endpoint have failed for so long, for that many events."""
    async with office.store.write() as tx:
        since = await tx.now() - length
        for _ in range(events):
            await note_failure(tx, "we_1", first=True, at=since)


async def state(office) -> EndpointRow:
    async with office.store.read() as tx:
        row = await get_endpoint(tx, "we_1")
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("length", "events", "disabled"),
    [
        (timedelta(days=5, minutes=1), 9, True),  # the tenth fails now
        (timedelta(days=5, minutes=1), 8, False),
        (timedelta(days=4, hours=23), 100, False),
    ],
)
async def test_days_of_nothing_but_failures_turn_an_endpoint_off(
    office, receiver, endpoint, length, events, disabled
):
    """Its owner is told at another endpoint."""
    async with office.store.write() as tx:
        other = msgspec.structs.replace(
            endpoint,
            id="we_2",
            url=receiver.url("/owner"),
            event_types=("webhook_endpoint.disabled",),
        )
        await insert_endpoint(tx, other)
    await failing_for(office, length, events)
    receiver.script("/hook", respond(500))
    await emitted(office)
    [row] = await claimed(office)

    await attempt(row, office)
    told = await claimed(office)

    after = await state(office)
    assert disabled == (after.disabled_at is not None)
    if disabled:
        assert "it has taken nothing for 5 days" == after.disabled_why
        [event] = told
        assert ("we_2", "webhook_endpoint.disabled") == (event.endpoint_id, event.event_type)
        assert "we_1" == msgspec.json.decode(event.body)["data"]["id"]
        [entry] = await logged(office)
        assert "failed" == entry.status, "no more attempts"
    else:
        assert ([], events + 1) == (told, after.failures)


async def logged(office):
    async with office.store.read() as tx:
        return await delivery_log(tx, "we_1", limit=10)


async def test_turned_off_while_under_way_it_is_not_tried_again(office, receiver, endpoint):
    receiver.script("/hook", respond(500))
    await emitted(office)
    [row] = await claimed(office)
    async with office.store.write() as tx:
        await disable_endpoint(tx, "we_1", why="because", at=await tx.now())

    await attempt(row, office)

    [entry] = await logged(office)
    assert ("failed", None, 1) == (entry.status, entry.next_at, len(entry.attempts))


async def test_one_success_starts_the_count_anew(office, receiver, endpoint):
    await failing_for(office, timedelta(days=6), 100)
    await emitted(office)
    [row] = await claimed(office)

    await attempt(row, office)

    after = await state(office)
    assert (None, 0, None) == (after.failing_since, after.failures, after.disabled_at)


async def test_further_attempts_of_an_event_do_not_count(office, receiver, endpoint):
    receiver.script("/hook", respond(500))
    await emitted(office)
    [row] = await claimed(office)

    await attempt(msgspec.structs.replace(row, attempts=1), office)

    assert 0 == (await state(office)).failures


async def test_a_named_url_and_an_endpoint_are_told_under_one_id(
    office, receiver, endpoint, tenant
):
    """Each signed with a secret of its own."""
    event_id = await emitted(office, receiver.url("/named"))
    for row in await claimed(office):
        await attempt(row, office)

    by_path = {call.path: call for call in receiver.received}
    assert {event_id} == {call.id for call in receiver.received}
    secrets = {"/named": tenant.webhook_secret, "/hook": endpoint.secret}
    for path, sealed in secrets.items():
        call = by_path[path]
        Webhook(Sealer("k").open(sealed)).verify(call.body, call.headers)


async def test_an_old_secret_signs_until_its_day_has_passed(office, receiver, endpoint):
    old = Sealer("k").seal(new_secret(os.urandom))
    for until, signatures in ((timedelta(minutes=1), 2), (-timedelta(minutes=1), 1)):
        async with office.store.write() as tx:
            moment = await tx.now() + until
            row = msgspec.structs.replace(endpoint, old_secret=old, old_secret_until=moment)
            await update_endpoint(tx, row)
        await emitted(office)
        [due] = await claimed(office)
        await attempt(due, office)
        assert signatures == len(receiver.received[-1].headers["webhook-signature"].split(" "))


async def test_a_backlog_of_one_endpoint_goes_out_without_pauses(office, receiver, endpoint):
    """Though only two are under way at a time; the next ones wait for no poll."""
    for _ in range(20):
        await emitted(office)
    courier = Courier(office, poll_s=60.0)
    running = asyncio.create_task(courier.run())

    await receiver.wait_for(20)

    courier.stop()
    await running
    await courier.drain(5.0)
    assert 20 == len({call.id for call in receiver.received})
