"""Events and their deliveries."""

import asyncio

from shared.store.records import DeliveryAttempt, DeliveryRow
from shared.store.webhooks import (
    claim_deliveries,
    deliveries_of,
    delivery_attempts_of,
    due_deliveries,
    insert_event,
    record_delivery,
)
from tests.contract.store.makers import SECOND, START, make_event

FAILED = DeliveryAttempt(
    at=START + SECOND, status_code=500, duration_ms=12, error="500", answer_head=b"\x00oops"
)
FINE = DeliveryAttempt(at=START + 2 * SECOND, status_code=204, duration_ms=3)


async def insert(store, *urls, event_id="evt_1", at=START):
    async with store.write() as tx:
        await insert_event(tx, make_event(event_id), urls, at)


async def claim(store, owner="w1", limit=10, lease_s=30):
    async with store.write() as tx:
        return await claim_deliveries(tx, owner=owner, lease_s=lease_s, limit=limit)


async def record(store, row, attempt, status, next_at=None):
    async with store.write() as tx:
        return await record_delivery(
            tx,
            delivery_id=row.id,
            token=row.lease_token,
            attempt=attempt,
            status=status,
            next_at=next_at,
        )


async def test_a_claimed_delivery_brings_all_that_is_needed(store):
    await insert(store, ("del_1", "https://a/"), ("del_2", "https://b/"))

    expected = DeliveryRow(
        id="del_1",
        event_id="evt_1",
        tenant_id="acme",
        url="https://a/",
        status="delivering",
        next_at=START,
        lease_owner="w1",
        lease_token=1,
        lease_until=START + 30 * SECOND,
        event_type="job.succeeded",
        body=b'{"type": "job.succeeded"}',
    )
    assert [expected] == await claim(store, limit=1)
    assert ["del_2"] == [row.id for row in await claim(store)]
    assert [] == await claim(store)


async def test_an_event_without_urls_waits_for_nobody(store):
    await insert(store)

    assert [] == await claim(store)


async def test_a_failed_try_is_recorded_and_due_again_later(store, clock):
    await insert(store, ("del_1", "https://a/"))
    (row,) = await claim(store)

    assert await record(store, row, FAILED, "pending", START + 5 * SECOND)
    assert [] == await claim(store)
    clock.forward(5)
    (again,) = await claim(store)
    assert (2, 1, 500, "500") == (
        again.lease_token,
        again.attempts,
        again.last_status_code,
        again.last_error,
    )
    assert await record(store, again, FINE, "succeeded")
    async with store.read() as tx:
        assert [FAILED, FINE] == await delivery_attempts_of(tx, "del_1")
        (done,) = await deliveries_of(tx, "evt_1")
    assert ("succeeded", 2, 204, None, None, None) == (
        done.status,
        done.attempts,
        done.last_status_code,
        done.last_error,
        done.lease_owner,
        done.lease_until,
    )


async def test_a_dead_deliverers_work_goes_to_another_and_its_word_no_longer_counts(store, clock):
    await insert(store, ("del_1", "https://a/"))
    (first,) = await claim(store, "w1")
    clock.forward(29)
    assert [] == await claim(store, "w2")
    clock.forward(1)
    (second,) = await claim(store, "w2")

    assert not await record(store, first, FAILED, "failed")
    assert await record(store, second, FINE, "succeeded")
    assert not await record(store, second, FINE, "succeeded"), "once"
    async with store.read() as tx:
        assert [FINE] == await delivery_attempts_of(tx, "del_1")


async def test_what_is_due(store, clock):
    await insert(store, ("del_1", "https://a/"))
    await insert(store, ("del_2", "https://a/"), event_id="evt_2", at=START + SECOND)

    async with store.read() as tx:
        assert 0 == await due_deliveries(tx, START - SECOND)
        assert 1 == await due_deliveries(tx, START)
        assert 2 == await due_deliveries(tx, START + SECOND)
    await claim(store)
    async with store.read() as tx:
        assert 1 == await due_deliveries(tx, START + SECOND)
        assert 2 == await due_deliveries(tx, START + 30 * SECOND)


async def test_the_longest_due_goes_first(store, clock):
    for number, late_s in enumerate([3, 1, 2]):
        await insert(
            store,
            (f"del_{number}", "https://a/"),
            event_id=f"evt_{number}",
            at=START - late_s * SECOND,
        )

    assert ["del_0", "del_2"] == [row.id for row in await claim(store, limit=2)]


async def test_claimers_at_once_never_share(store):
    await insert(store, *((f"del_{number:02}", "https://a/") for number in range(40)))

    async def work(owner):
        mine = []
        while rows := await claim(store, owner, limit=3):
            mine += [row.id for row in rows]
        return mine

    claimed = await asyncio.gather(*(work(f"w{number}") for number in range(5)))

    everything = [id_ for mine in claimed for id_ in mine]
    assert 40 == len(everything) == len(set(everything))
