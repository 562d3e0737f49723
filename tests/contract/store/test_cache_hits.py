"""What kept answers have saved, by the hour."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.cache.entry import Entry
from shared.cache.hits import HitBook
from shared.chat.usage import Usage
from shared.errors import StoreUnavailable
from shared.store.cache_hits import CacheHits, CacheTotals, add_cache_hits, cache_totals
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hits(number: int, at: datetime = NOON, **named: str) -> CacheHits:
    named = {"tenant_id": "acme", "provider": "openai", "model": "gpt", **named}
    return CacheHits(
        starts_at=at,
        hits=number,
        input_tokens=2 * number,
        output_tokens=3 * number,
        saved_nanousd=4 * number,
        **named,
    )


def sums(number: int) -> CacheTotals:
    return CacheTotals(
        hits=number, input_tokens=2 * number, output_tokens=3 * number, saved_nanousd=4 * number
    )


async def totals(store, since=NOON, until=NOON + HOUR, tenant="acme"):
    async with store.read() as tx:
        return await cache_totals(tx, tenant, since, until)


async def test_hits_add_up(store):
    for rows in ([hits(1), hits(2, model="other")], [hits(4)], [hits(8, tenant_id="other")]):
        async with store.write() as tx:
            await add_cache_hits(tx, rows)

    assert [sums(7), sums(8), sums(0)] == [
        await totals(store),
        await totals(store, tenant="other"),
        await totals(store, tenant="none"),
    ]


async def test_an_hour_counts_whole_when_a_part_of_it_is_asked_for(store):
    async with store.write() as tx:
        await add_cache_hits(tx, [hits(1, NOON - HOUR), hits(2), hits(4, NOON + HOUR)])

    half = HOUR / 2
    assert sums(2) == await totals(store)
    assert sums(2) == await totals(store, NOON + half, NOON + HOUR)
    assert sums(3) == await totals(store, NOON - half, NOON + half)
    assert sums(6) == await totals(store, NOON, NOON + HOUR + half)


async def test_processes_add_at_the_same_time(store):
    async def add() -> None:
        async with store.write() as tx:
            await add_cache_hits(tx, [hits(1, model=model) for model in ("b", "a", "c")])

    await asyncio.gather(*(add() for _ in range(10)))

    assert sums(30) == await totals(store)


async def test_what_cannot_be_written_waits(store):
    """An outage of the database loses no count."""
    clock = FakeClock(NOON)
    book = HitBook(store, clock)
    entry = Entry(
        body=b"{}",
        route="gpt",
        provider="openai",
        model="gpt",
        usage=Usage(input_tokens=2, output_tokens=3),
        cost_nanousd=4,
    )
    book.add("acme", entry)
    await book.flush()
    away = HitBook(Away(), clock)
    away.add("acme", entry)
    with pytest.raises(StoreUnavailable):
        await away.flush()
    away.add("acme", entry)
    away._store = store

    await away.flush()
    await away.flush()

    assert sums(3) == await totals(store)


class Away:
    """A store that does not answer."""

    def write(self):
        raise StoreUnavailable("away")
