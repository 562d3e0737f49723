"""Bounds of a cache in memory."""

import pytest

from shared.cache.entry import ENTRY_BESIDES_BYTES
from shared.cache.memory import MemoryCache
from tests.contract.cache.answers import at, entry, found, kept
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio


def memory(clock=None, **bounds):
    how = {"ttl_s": 60, "most_entries": 3, "most_bytes": 10**6, "most_entry_bytes": 10**6, **bounds}
    return MemoryCache(clock=clock or FakeClock(), **how)


async def test_the_longest_unused_makes_room():
    cache = memory()
    for digest in ("a", "b", "c"):
        await kept(cache, at(digest))
    await found(cache, at("a"))

    await kept(cache, at("d"))

    assert [True, False, True, True] == [
        await found(cache, at(digest)) is not None for digest in ("a", "b", "c", "d")
    ]
    assert 3 == len(cache)


async def test_many_make_room_at_once_and_never_more_than_may_be_are_kept():
    cache = memory(most_entries=640)
    for number in range(640):
        await kept(cache, at(f"d{number}"))
    await found(cache, at("d0"))
    size = cache.size_bytes / 640

    await kept(cache, at("d640"))

    there = [await found(cache, at(f"d{one}")) is not None for one in range(13)]
    assert [True] + [False] * 10 + [True, True] == there
    assert 631 == len(cache)
    assert size * 630 < cache.size_bytes < size * 632
    for number in range(641, 1280):
        await kept(cache, at(f"d{number}"))
        assert len(cache) <= 640
        assert await found(cache, at(f"d{number}")) is not None


async def test_bytes_are_bounded_too():
    size = 1000 + ENTRY_BESIDES_BYTES
    cache = memory(most_entries=100, most_bytes=3 * size)
    for number in range(5):
        await kept(cache, at(f"d{number}"), entry(b"x" * 1000))

    assert 3 == len(cache)
    assert 3000 < cache.size_bytes <= 3 * size
    assert 3 == await cache.forget(tenant=None, model=None)
    assert (0, 0) == (len(cache), cache.size_bytes)
    await kept(cache, at("d9"), entry(b"x" * 3000))
    assert cache.size_bytes <= 3 * size


async def test_what_is_larger_than_the_whole_cache_pushes_nothing_out():
    cache = memory(most_bytes=2000)
    await kept(cache, at("a"))

    await kept(cache, at("b"), entry(b"x" * 3000))

    assert await found(cache, at("a")) is not None
    assert 1 == len(cache)


async def test_ages_go_by_the_clock():
    clock = FakeClock()
    cache = memory(clock)
    await kept(cache, at())

    clock.advance(59)
    assert 59 == (await cache.look(at())).age_s
    clock.advance(1)
    assert (await cache.look(at())).entry is None
    assert 0 == cache.size_bytes
