"""Kept responses: each tenant's own, with all that they go on from."""

from datetime import timedelta

from shared.store.responses import (
    StoredResponse,
    delete_response,
    get_response,
    insert_response,
    keep_turns,
    prune_responses,
    turns_of,
)

MONTH = timedelta(days=30)


def turn(own_id, previous_id=None):
    return StoredResponse(
        id=own_id, previous_id=previous_id, context_bytes=7, input=b"[]", body=b'{"a":1}'
    )


async def keep(store, *turns, tenant="acme"):
    """Keep these, each going on from the ones before it, all for a month from now."""
    async with store.write() as tx:
        at = await tx.now()
        for new in turns:
            assert await insert_response(tx, tenant, new, at=at, expires_at=at + MONTH)


async def ids(store, own_id, tenant="acme"):
    async with store.read() as tx:
        return [found.id for found in await turns_of(tx, tenant, own_id)]


async def found(store, own_id, tenant="acme"):
    async with store.read() as tx:
        return await get_response(tx, tenant, own_id)


async def test_a_response_is_its_tenants_alone(store):
    await keep(store, turn("a"))

    assert turn("a") == await found(store, "a")
    assert await found(store, "a", tenant="other") is None
    assert [] == await ids(store, "a", tenant="other")


async def test_two_tenants_may_have_one_id(store):
    await keep(store, turn("a"))
    await keep(store, turn("a"), tenant="other")

    assert ["a"] == await ids(store, "a", tenant="other")


async def test_an_id_is_kept_once(store):
    """A vendor that repeats its ids spoils nothing that is there."""
    await keep(store, turn("a"), turn("b", "a"))

    async with store.write() as tx:
        at = await tx.now()
        again = await insert_response(tx, "acme", turn("a", "b"), at=at, expires_at=at)

    assert not again
    assert ["a", "b"] == await ids(store, "b")


async def test_turns_come_oldest_first(store):
    await keep(store, turn("a"), turn("b", "a"), turn("c", "b"), turn("other", "a"))

    assert ["a", "b", "c"] == await ids(store, "c")
    assert [] == await ids(store, "nobody")


async def test_a_deleted_turn_stays_for_those_that_go_on_from_it(store):
    await keep(store, turn("a"), turn("b", "a"))

    async with store.write() as tx:
        deleted = [await delete_response(tx, "acme", "a") for _ in range(2)]

    assert [True, False] == deleted
    assert await found(store, "a") is None
    assert ["a", "b"] == await ids(store, "b")


async def test_deleting_the_last_turn_leaves_nothing_of_it(store):
    await keep(store, turn("a"), turn("b", "a"))

    async with store.write() as tx:
        assert not await delete_response(tx, "other", "b")
        assert await delete_response(tx, "acme", "b")

    assert [] == await ids(store, "b")
    assert ["a"] == await ids(store, "a")


async def test_pruning_takes_what_is_over_and_nothing_that_is_still_gone_on_from(store, clock):
    await keep(store, turn("a"), turn("lonely"))
    clock.forward(20 * 24 * 3600)
    await keep(store, turn("b", "a"))
    async with store.write() as tx:
        await keep_turns(tx, "acme", ["a"], until=await tx.now() + MONTH)
    clock.forward(11 * 24 * 3600)

    assert await found(store, "lonely") is None
    async with store.write() as tx:
        assert 1 == await prune_responses(tx, await tx.now())
    assert ["a", "b"] == await ids(store, "b")
    assert [] == await ids(store, "lonely")
