"""Named leases."""

import asyncio

from shared.store.leases import drop_lease, take_lease


async def take(store, owner, name="scheduler", ttl_s=30):
    async with store.write() as tx:
        return await take_lease(tx, name, owner, ttl_s)


async def test_one_holder_at_a_time_and_a_growing_token(store, clock):
    assert 1 == await take(store, "a")
    assert await take(store, "b") is None
    assert 1 == await take(store, "a"), "renewing keeps the token"
    clock.forward(29)
    assert await take(store, "b") is None
    clock.forward(1)
    assert 2 == await take(store, "b")
    assert await take(store, "a") is None
    assert 1 == await take(store, "a", name="other")


async def test_renewing_prolongs(store, clock):
    await take(store, "a")
    clock.forward(20)
    await take(store, "a")
    clock.forward(20)

    assert await take(store, "b") is None


async def test_a_dropped_lease_is_free_and_its_token_is_not_used_again(store):
    await take(store, "a")
    async with store.write() as tx:
        await drop_lease(tx, "scheduler", "b")
    assert await take(store, "b") is None
    async with store.write() as tx:
        await drop_lease(tx, "scheduler", "a")

    assert 2 == await take(store, "b")
    async with store.write() as tx:
        await drop_lease(tx, "scheduler", "b")
    assert 3 == await take(store, "b")


async def test_of_many_at_once_one_wins(store):
    tokens = await asyncio.gather(*(take(store, f"owner_{number}") for number in range(8)))

    assert [1] == [token for token in tokens if token is not None]
