"""What one process was told by a provider, the others know a second later; while Redis is there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress

import pytest
import redis
from typing_extensions import override

from shared.clock import SystemClock
from shared.health.facts import Fact, FactBook, FactKind
from shared.health.redis import KEY, FactSharer
from shared.health.wiring import open_sharing
from tests.services import RedisServer, run_redis

pytestmark = pytest.mark.anyio

TARGET = ("p", "a", "k1")
CLOCK = SystemClock()


def fact(kind: FactKind = FactKind.LIMITED, length_s: float = 60.0) -> Fact:
    return Fact(kind=kind, until_s=CLOCK.monotonic() + length_s)


def holds(book: FactBook, key: tuple[str, str, str] = TARGET) -> bool:
    return book.of(key, CLOCK.monotonic()) is not None


@pytest.fixture
def own_redis():
    with run_redis() as server:
        yield server


@pytest.fixture
async def sharers(
    own_redis: RedisServer,
) -> AsyncIterator[Callable[[], tuple[FactBook, FactSharer]]]:
    """Makes another process's book, and what shares it when told."""
    async with AsyncExitStack() as opened:

        def make() -> tuple[FactBook, FactSharer]:
            book = FactBook()
            sharer = FactSharer(own_redis.url, book, CLOCK)
            opened.push_async_callback(sharer.aclose)
            return book, sharer

        yield make


async def test_the_others_learn_what_one_was_told(sharers):
    (one, one_sharer), (other, other_sharer) = sharers(), sharers()
    one.learn(TARGET, fact(length_s=30.0), CLOCK.monotonic())
    await one_sharer.exchange()
    await other_sharer.exchange()

    found = other.of(TARGET, CLOCK.monotonic())
    assert found is not None
    assert found.kind is FactKind.LIMITED
    assert found.until_s - CLOCK.monotonic() == pytest.approx(30.0, abs=1.0)


async def test_what_holds_no_more_is_forgotten_by_all(sharers):
    """A credential that works again is in use again everywhere."""
    (one, one_sharer), (other, other_sharer) = sharers(), sharers()
    one.learn(TARGET, fact(FactKind.PARKED), CLOCK.monotonic())
    await one_sharer.exchange()
    await other_sharer.exchange()
    other.cleared(TARGET, CLOCK.monotonic())
    await other_sharer.exchange()
    await one_sharer.exchange()

    # Its own fact stays with the process that was told: it finds out by itself.
    assert [True, False] == [holds(one), holds(other)]


async def test_redis_keeps_nothing_that_has_ended(sharers, own_redis):
    (one, one_sharer), (other, other_sharer) = sharers(), sharers()
    one.learn(TARGET, fact(length_s=0.05), CLOCK.monotonic())
    await one_sharer.exchange()
    await asyncio.sleep(0.1)
    other.learn(("p", "b", "k1"), fact(), CLOCK.monotonic())
    await other_sharer.exchange()

    assert not holds(other)
    with redis.Redis.from_url(own_redis.url) as client:
        assert 1 == client.zcard(KEY)


async def test_what_another_version_wrote_is_passed_over(sharers, own_redis):
    with redis.Redis.from_url(own_redis.url) as client:
        client.zadd(KEY, {"nonsense": 9e12, '["p","a","k1","unheard_of"]': 9e12})
    book, sharer = sharers()
    await sharer.exchange()

    assert [] == list(book)


async def test_without_redis_each_process_keeps_its_own():
    """Nobody waits for a Redis that has gone, and a stop does not either."""
    book = FactBook()
    async with AsyncExitStack() as opened:
        with run_redis() as server:
            await opened.enter_async_context(open_sharing(server.url, book, CLOCK))
        book.learn(TARGET, fact(), CLOCK.monotonic())
        await asyncio.sleep(0)

        assert holds(book)


async def test_a_process_without_redis_shares_nothing():
    book = FactBook()
    async with open_sharing(None, book, CLOCK):
        book.learn(TARGET, fact(), CLOCK.monotonic())

    assert holds(book)
    assert {} == book.take_changes()


async def test_what_was_learnt_while_redis_was_away_is_told_later(sharers, own_redis):
    (one, one_sharer), (other, other_sharer) = sharers(), sharers()
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", 1)
        one.learn(TARGET, fact(), CLOCK.monotonic())
        with pytest.raises(redis.RedisError):
            await one_sharer.exchange()
        client.config_set("maxmemory", 0)
    await one_sharer.exchange()
    await other_sharer.exchange()

    assert holds(other)


class Losing(FactSharer):
    """Loses a cancel, as redis-py may that waits with asyncio's `wait_for`."""

    def __init__(self):
        super().__init__("redis://127.0.0.1:1", FactBook(), CLOCK)
        self.asked = asyncio.Event()

    @override
    async def exchange(self):
        self.asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def test_a_cancel_that_the_client_loses_ends_it_all_the_same():
    sharer = Losing()
    running = asyncio.create_task(sharer.run())
    await sharer.asked.wait()
    running.cancel()

    async with asyncio.timeout(5):
        await running
    await sharer.aclose()
