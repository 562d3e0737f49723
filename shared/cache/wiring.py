"""The cache that the config asks for, open for as long as its process lives."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path

import msgspec

from shared.cache.bulletin import Bulletin
from shared.cache.entry import AnswerCache
from shared.cache.flights import Flights
from shared.cache.hits import HitBook
from shared.cache.memory import MemoryCache
from shared.clock import Clock
from shared.config.conduct import CacheConfig
from shared.errors import StoreUnavailable
from shared.store.engine import Store
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import CACHE_BYTES, CACHE_ENTRIES
from shared.telemetry.tally import watched

log = get_logger("cache")

BULLETIN = "cache-forgotten"
"""The file in the data folder by which its processes tell each other to forget."""

MIB = 1024 * 1024


class Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway that gives kept answers needs. One per process."""

    cache: AnswerCache
    flights: Flights
    hits: HitBook
    rules: CacheConfig


@asynccontextmanager
async def open_shelf(
    rules: CacheConfig, url: str | None, *, data_dir: Path, store: Store, clock: Clock
) -> AsyncIterator[Shelf]:
    """Yield this process's shelf; answers are in the Redis at `url`, else in memory.

    A Redis that is away does not stop the start.
    """
    async with AsyncExitStack() as opened:
        hits = HitBook(store, clock)
        task = asyncio.create_task(hits.run())
        opened.push_async_callback(_last_hits, hits, task)
        if url is None:
            cache = opened.enter_context(_in_memory(rules, data_dir, clock))
        else:
            cache = await opened.enter_async_context(_in_redis(rules, url, clock))
        yield Shelf(cache=cache, flights=Flights(), hits=hits, rules=rules)


@contextmanager
def _in_memory(rules: CacheConfig, data_dir: Path, clock: Clock) -> Iterator[AnswerCache]:
    bulletin = Bulletin(data_dir / BULLETIN)
    cache = MemoryCache(
        ttl_s=rules.ttl_s,
        most_entries=rules.max_entries,
        most_bytes=rules.max_mb * MIB,
        most_entry_bytes=rules.max_entry_kb * 1024,
        clock=clock,
        bulletin=bulletin,
    )
    with (
        closing(bulletin),
        watched(CACHE_ENTRIES, lambda: len(cache)),
        watched(CACHE_BYTES, lambda: cache.size_bytes),
    ):
        yield cache


@asynccontextmanager
async def _in_redis(rules: CacheConfig, url: str, clock: Clock) -> AsyncIterator[AnswerCache]:
    # A process without Redis does without its client, too.
    from shared.cache.redis import RedisCache

    cache = RedisCache(
        url, ttl_s=rules.ttl_s, most_entry_bytes=rules.max_entry_kb * 1024, clock=clock
    )
    await cache.start()
    try:
        yield cache
    finally:
        await cache.aclose()


async def _last_hits(hits: HitBook, task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
    try:
        await hits.flush()
    except StoreUnavailable as error:
        log.warning("cache.hits_lost", why=str(error))
