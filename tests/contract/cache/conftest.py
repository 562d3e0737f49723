"""Caches of both kinds."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from shared.cache.bulletin import Bulletin
from shared.cache.entry import AnswerCache
from shared.cache.memory import MemoryCache
from shared.cache.redis import RedisCache
from shared.clock import SystemClock
from tests.services import RedisServer, run_redis

Opens = Callable[..., AbstractAsyncContextManager[AnswerCache]]

MOST_ENTRY_BYTES = 100_000


@asynccontextmanager
async def redis_cache(url: str, *, ttl_s: float = 60.0) -> AsyncIterator[RedisCache]:
    """A cache in the Redis at this URL."""
    cache = RedisCache(url, ttl_s=ttl_s, most_entry_bytes=MOST_ENTRY_BYTES, clock=SystemClock())
    await cache.start()
    try:
        yield cache
    finally:
        await cache.aclose()


@pytest.fixture(params=["memory", "redis"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    """Return a function that opens one more process's cache; the test runs once on each kind.

    Those in memory have a folder in common, as the processes of one machine do.
    """
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        return lambda **how: redis_cache(server.url, **how)

    @asynccontextmanager
    async def in_memory(*, ttl_s: float = 60.0) -> AsyncIterator[AnswerCache]:
        yield MemoryCache(
            ttl_s=ttl_s,
            most_entries=1000,
            most_bytes=10_000_000,
            most_entry_bytes=MOST_ENTRY_BYTES,
            clock=SystemClock(),
            bulletin=Bulletin(tmp_path / "forgotten"),
        )

    return in_memory


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that the test may break."""
    with run_redis() as server:
        yield server
