"""The courier: at least once, under one id, recorded before it is tried again."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from shared.clock import SystemClock
from shared.errors import StoreUnavailable
from shared.ids import new_id
from shared.sealing import Sealer
from shared.store.webhooks import (
    claim_deliveries,
    deliveries_of,
    delivery_attempts_of,
)
from shared.webhooks.egress import networks
from shared.webhooks.emit import emit
from shared.webhooks.event import job_event
from tests.edge.workers.receiver import Response, respond
from workers.deliveries import Courier, Route, attempt
from workers.delivery import Post

pytestmark = pytest.mark.anyio


@pytest.fixture
def route(store, tenant):
    return Route(
        store=store,
        clock=SystemClock(),
        owner="w1",
        draw=lambda: 0.5,
        file_secret=lambda _: None,
        unseal=Sealer("k").open,
        post=Post(allowed=networks(["127.0.0.0/8"]), timeout_s=2.0),
    )


async def emitted(route, *urls) -> str:
    """Put an event in the outbox; return its id."""
    async with route.store.write() as tx:
        now = await tx.now()
        event = job_event(new_id("evt"), job_id="job_1", status="succeeded", at=now)
        await emit(tx, event, tenant_id="acme", urls=urls, ids=new_id, at=now)
    return event.id


async def claimed(route, *, lease_s=60.0):
    async with route.store.write() as tx:
        return await claim_deliveries(tx, owner="w1", lease_s=lease_s, limit=10)


async def only(route, event_id):
    async with route.store.read() as tx:
        [row] = await deliveries_of(tx, event_id)
        return row, await delivery_attempts_of(tx, row.id)


async def test_success_is_recorded(route, receiver, tenant):
    event_id = await emitted(route, receiver.url())
    [row] = await claimed(route)

    await attempt(row, route)

    after, tries = await only(route, event_id)
    [call] = receiver.received
    assert ("succeeded", 1, 200) == (after.status, after.attempts, after.last_status_code)
    assert [(200, b"ok")] == [(one.status_code, one.answer_head) for one in tries]
    assert event_id == call.id
    Webhook(Sealer("k").open(tenant.webhook_secret)).verify(call.body, call.headers)


async def test_the_file_s_secret_wins(route, receiver):
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    await emitted(route, receiver.url())
    [row] = await claimed(route)

    await attempt(row, msgspec.structs.replace(route, file_secret=lambda _: secret))

    [call] = receiver.received
    Webhook(secret).verify(call.body, call.headers)


@pytest.mark.behaviour(194, 195)
async def test_a_failure_is_tried_again_later_with_the_same_id(route, receiver):
    receiver.script("/hook", respond(500), respond(200))
    event_id = await emitted(route, receiver.url())
    [row] = await claimed(route)

    await attempt(row, route)

    after, _ = await only(route, event_id)
    left = after.next_at - datetime.now(UTC)
    assert ("pending", 1) == (after.status, after.attempts)
    assert timedelta(seconds=2) < left <= timedelta(seconds=5)
    assert [] == await claimed(route)

    async with route.store.write() as tx:
        await tx.connection.execute(sa.text("UPDATE delivery SET next_at = 0"))
    [again] = await claimed(route)
    await attempt(again, route)

    after, tries = await only(route, event_id)
    assert ("succeeded", [500, 200]) == (after.status, [one.status_code for one in tries])
    assert {event_id} == {call.id for call in receiver.received}


async def test_gone_ends_it(route, receiver):
    receiver.script("/hook", respond(410))
    event_id = await emitted(route, receiver.url())
    [row] = await claimed(route)

    await attempt(row, route)

    assert "failed" == (await only(route, event_id))[0].status


async def test_the_tenth_failure_ends_it(route, receiver):
    receiver.script("/hook", respond(500))
    event_id = await emitted(route, receiver.url())
    [row] = await claimed(route)

    await attempt(msgspec.structs.replace(row, attempts=9), route)

    assert "failed" == (await only(route, event_id))[0].status


async def test_killed_between_post_and_record_it_goes_out_again(route, receiver):
    """A duplicate with the same id, never none."""
    event_id = await emitted(route, receiver.url())
    [row] = await claimed(route, lease_s=0.0)

    with pytest.raises(StoreUnavailable):
        await attempt(row, msgspec.structs.replace(route, store=Forgetful(route.store)))
    [again] = await claimed(route)
    await attempt(again, route)

    after, tries = await only(route, event_id)
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


async def test_a_late_record_under_an_old_lease_changes_nothing(route, receiver):
    event_id = await emitted(route, receiver.url())
    [old] = await claimed(route, lease_s=0.0)
    [new] = await claimed(route)
    await attempt(new, route)

    await attempt(old, route)

    after, tries = await only(route, event_id)
    assert ("succeeded", 1) == (after.status, len(tries))


async def test_nothing_is_sent_of_what_was_rolled_back(route):
    async def fails_after_emitting():
        async with route.store.write() as tx:
            now = await tx.now()
            event = job_event("evt_x", job_id="job_1", status="failed", at=now)
            await emit(tx, event, tenant_id="acme", urls=["http://127.0.0.1/"], ids=new_id, at=now)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails_after_emitting()

    assert [] == await claimed(route)


async def test_nobody_listening_leaves_no_row(route):
    event_id = await emitted(route)

    async with route.store.read() as tx:
        assert [] == await deliveries_of(tx, event_id)


async def test_the_courier_delivers_what_is_due_and_drains(route, receiver):
    """A receiver that hangs does not hold the others up."""
    receiver.script("/hangs", Response(hang=True))
    await emitted(route, *(receiver.url("/hangs") for _ in range(5)))
    await emitted(route, *(receiver.url(f"/{number}") for number in range(40)))
    courier = Courier(route, poll_s=0.05)
    running = asyncio.create_task(courier.run())
    await receiver.wait_for(45)

    courier.stop()
    await running
    await courier.drain(5.0)

    assert 41 == len({call.path for call in receiver.received})
    assert [] == await claimed(route)


async def test_the_courier_wakes_when_rung(route, receiver):
    courier = Courier(route, poll_s=60.0)
    running = asyncio.create_task(courier.run())
    await asyncio.sleep(0.1)  # it has looked and found nothing
    await emitted(route, receiver.url())

    courier.ring()

    await receiver.wait_for(1, within_s=10.0)
    courier.stop()
    await running
    await courier.drain(5.0)
