"""Events and their deliveries."""

import asyncio

from shared.store.delivery_log import delivery_log, prune_events
from shared.store.endpoints import (
    EndpointRow,
    count_endpoints,
    delete_endpoint,
    disable_endpoint,
    enable_endpoint,
    get_endpoint,
    insert_endpoint,
    list_endpoints,
    listeners,
    note_failure,
    note_success,
)
from shared.store.records import DeliveryAttempt, DeliveryRow
from shared.store.webhooks import (
    NewDelivery,
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


async def insert(store, *deliveries, event_id="evt_1", at=START):
    """Put an event in the outbox, with deliveries of (id, URL) or (id, URL, endpoint)."""
    new = [
        NewDelivery(id=id_, url=url, endpoint_id=of[0] if of else None)
        for id_, url, *of in deliveries
    ]
    async with store.write() as tx:
        await insert_event(tx, make_event(event_id), new, at)


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


# Endpoints


def make_endpoint(id_="we_1", **values) -> EndpointRow:
    known = {"tenant_id": "acme", "name": "n", "url": "https://a/", "secret": "sealed"}
    known |= {"event_types": ("job.succeeded",), "concurrency": 10, "created_at": START}
    return EndpointRow(id=id_, **{**known, **values})


async def endpoint(store, id_="we_1", **values):
    async with store.write() as tx:
        await insert_endpoint(tx, make_endpoint(id_, **values))


async def test_an_endpoint_is_kept_whole(store):
    row = make_endpoint(old_secret="older", old_secret_until=START + SECOND)
    async with store.write() as tx:
        await insert_endpoint(tx, row)

    async with store.read() as tx:
        assert row == await get_endpoint(tx, "we_1", "acme")
        assert await get_endpoint(tx, "we_1", "other") is None
        assert [row] == await list_endpoints(tx, "acme", limit=5)
        assert [] == await list_endpoints(tx, "acme", limit=5, after="we_1")
        assert 1 == await count_endpoints(tx, "acme")


async def test_an_endpoint_has_only_so_many_under_way(store, clock):
    """Those behind its own go to others; a dead worker's do not count for ever."""
    await endpoint(store, concurrency=2)
    await insert(store, *((f"del_{number}", "https://a/", "we_1") for number in range(6)))
    await insert(store, ("del_x", "https://b/"), event_id="evt_2", at=START + SECOND)
    clock.forward(2)

    first = await claim(store)
    assert ["del_0", "del_1", "del_x"] == [row.id for row in first]
    assert [] == await claim(store, "w2")
    assert await record(store, first[0], FINE, "succeeded")
    assert ["del_2"] == [row.id for row in await claim(store, "w2")]
    clock.forward(30)
    assert ["del_3", "del_4", "del_x"] == [row.id for row in await claim(store, "w3")]


async def test_a_long_backlog_does_not_hold_up_other_endpoints(store, clock):
    await endpoint(store, "we_1", concurrency=1)
    await endpoint(store, "we_2", concurrency=3)
    await insert(store, *((f"del_a{number}", "https://a/", "we_1") for number in range(20)))
    rows = ((f"del_b{number}", "https://b/", "we_2") for number in range(5))
    await insert(store, *rows, event_id="evt_2", at=START + SECOND)
    clock.forward(2)

    assert ["del_a0", "del_b0", "del_b1", "del_b2"] == [
        row.id for row in await claim(store, limit=4)
    ]


async def test_claimers_at_once_never_overfill_an_endpoint(store):
    await endpoint(store, concurrency=3)
    await insert(store, *((f"del_{number:02}", "https://a/", "we_1") for number in range(20)))

    claimed = await asyncio.gather(*(claim(store, f"w{number}") for number in range(6)))

    assert 3 >= sum(map(len, claimed)) > 0


async def test_who_listens(store):
    await endpoint(store, "we_1", event_types=("job.failed", "job.succeeded"))
    await endpoint(store, "we_2", event_types=("job.failed",))
    await endpoint(store, "we_3", tenant_id="other")
    async with store.write() as tx:
        assert await disable_endpoint(tx, "we_2", why="because", at=START)
        assert not await disable_endpoint(tx, "we_2", why="again", at=START + SECOND)

    async with store.read() as tx:
        listening = await listeners(tx, "acme", "job.failed")
        assert [("we_1", False), ("we_2", True)] == [
            (one.endpoint_id, one.disabled) for one in listening
        ]
        assert ["we_1"] == [one.endpoint_id for one in await listeners(tx, "acme", "job.succeeded")]


async def test_turning_off_gives_up_what_waits_and_turning_on_forgets(store):
    await endpoint(store, concurrency=1)
    await insert(store, ("del_1", "https://a/", "we_1"), ("del_2", "https://a/", "we_1"))
    (under_way,) = await claim(store)
    async with store.write() as tx:
        noted = await note_failure(tx, "we_1", first=True, at=START)
        again = await note_failure(tx, "we_1", first=False, at=START + SECOND)
        await disable_endpoint(tx, "we_1", why="because", at=START)
        assert await note_failure(tx, "we_1", first=True, at=START) is None
    assert [(START, 1), (START, 1)] == [(one.failing_since, one.failures) for one in (noted, again)]

    assert [] == await claim(store)
    assert await record(store, under_way, FINE, "succeeded")
    async with store.write() as tx:
        await enable_endpoint(tx, "we_1")
    async with store.read() as tx:
        assert {"del_1": "succeeded", "del_2": "failed"} == {
            one.id: one.status for one in await delivery_log(tx, "we_1", limit=5)
        }
        assert make_endpoint(concurrency=1) == await get_endpoint(tx, "we_1")


async def test_success_clears_the_record(store):
    await endpoint(store, failing_since=START, failures=4)
    async with store.write() as tx:
        await note_success(tx, "we_1")

    async with store.read() as tx:
        assert make_endpoint() == await get_endpoint(tx, "we_1")


async def test_deleting_takes_the_log_along(store):
    await endpoint(store)
    await insert(store, ("del_1", "https://a/", "we_1"), ("del_2", "https://b/"))
    async with store.write() as tx:
        assert not await delete_endpoint(tx, "we_1", "other")
        assert await delete_endpoint(tx, "we_1", "acme")

    assert ["del_2"] == [row.id for row in await claim(store)]


async def test_old_events_are_forgotten_once_nobody_tries_them(store, clock):
    await insert(store, ("del_1", "https://a/"))
    await insert(store, ("del_2", "https://a/"), event_id="evt_2")
    await insert(store, ("del_3", "https://a/", "we_gone"), event_id="evt_3")
    clock.forward(31 * 24 * 3600)
    (row, _) = await claim(store)
    await record(store, row, FINE, "succeeded")

    async with store.write() as tx:
        assert 2 == await prune_events(tx, clock.now())
    async with store.read() as tx:
        assert [] == await deliveries_of(tx, "evt_1")
        assert ["del_2"] == [one.id for one in await deliveries_of(tx, "evt_2")]
        assert [] == await deliveries_of(tx, "evt_3")
    async with store.write() as tx:
        assert 1 == await prune_events(tx, clock.now()), "its event has nobody left"
