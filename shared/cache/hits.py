"""How often the cache has answered whom, and what that saved: in SQL, by the hour.

No money depends on it, so it is written in groups; a process that is killed loses its last group.
"""

from datetime import datetime

from shared.cache.entry import Entry
from shared.clock import Clock
from shared.errors import StoreUnavailable
from shared.store.cache_hits import CacheHits, add_cache_hits
from shared.store.engine import Store
from shared.telemetry.log import get_logger

log = get_logger("cache")

FLUSH_S = 2.0
MOST_WAITING = 10_000
"""Groups that wait for a database that is away; further ones are not counted."""

_Key = tuple[str, datetime, str, str]
"""Tenant, hour, provider, model."""


class HitBook:
    """Counts hits; `run` has them written."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[_Key, list[int]] = {}

    def add(self, tenant_id: str, entry: Entry) -> None:
        """Count a hit; never waits and never fails."""
        hour = self._clock.now().replace(minute=0, second=0, microsecond=0)
        key = (tenant_id, hour, entry.provider, entry.model)
        counts = self._waiting.get(key)
        if counts is None:
            if len(self._waiting) >= MOST_WAITING:
                return
            counts = self._waiting[key] = [0, 0, 0, 0]
        counts[0] += 1
        if entry.usage is not None:
            counts[1] += entry.usage.input_tokens
            counts[2] += entry.usage.output_tokens
        counts[3] += entry.cost_nanousd or 0

    async def run(self) -> None:
        """Write for ever; cancelled by its owner, who then calls `flush` a last time."""
        while True:
            await self._clock.sleep(FLUSH_S)
            try:
                await self.flush()
            except StoreUnavailable as error:
                log.warning("cache.hits_waiting", why=str(error))
            except Exception:
                log.exception("cache.hits_failed")

    async def flush(self) -> None:
        """Write what waits.

        Raises:
            StoreUnavailable: it waits on.
        """
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            async with self._store.write() as tx:
                await add_cache_hits(tx, [_row(key, counts) for key, counts in waiting.items()])
        except BaseException:
            for key, counts in waiting.items():
                later = self._waiting.setdefault(key, [0, 0, 0, 0])
                later[:] = [one + other for one, other in zip(later, counts, strict=True)]
            raise


def _row(key: _Key, counts: list[int]) -> CacheHits:
    tenant_id, hour, provider, model = key
    hits, input_tokens, output_tokens, saved_nanousd = counts
    return CacheHits(
        tenant_id=tenant_id,
        starts_at=hour,
        provider=provider,
        model=model,
        hits=hits,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        saved_nanousd=saved_nanousd,
    )
