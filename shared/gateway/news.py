"""Tells the gateway's operator by webhook when a target is left alone, and when it is back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.clock import Clock
from shared.errors import StoreUnavailable
from shared.health.book import TargetKey
from shared.health.breaker import BreakerState, Phase
from shared.health.telling import tell
from shared.ids import IdMaker
from shared.store.endpoints import listeners
from shared.store.engine import Store
from shared.telemetry.log import get_logger
from shared.webhooks.emit import emit
from shared.webhooks.event import OPERATOR, TARGET_CLOSED, TARGET_OPENED, subject_event

MOST_WAITING = 1_000
"""Changes kept while the database is away."""

AWAY_S = 1.0

log = get_logger(__name__)

Change = tuple[str, dict[str, str | None]]


class News:
    """The changes that one process sees, each told once."""

    def __init__(self, store: Store, clock: Clock, ids: IdMaker, *, owner: str) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._owner = owner
        self._waiting: asyncio.Queue[Change] = asyncio.Queue(MOST_WAITING)

    def changed(self, key: TargetKey, before: BreakerState, after: BreakerState) -> None:
        """Log a breaker's change and note it; one that opens again was never closed."""
        tell(key, before, after)
        if Phase.CLOSED not in {before.phase, after.phase}:
            return
        provider, model, credential = key
        kind = TARGET_CLOSED if after.phase is Phase.CLOSED else TARGET_OPENED
        facts = {
            "provider": provider,
            "model": model,
            "credential": credential,
            "reason": after.reason,
            "process": self._owner,
        }
        try:
            self._waiting.put_nowait((kind, facts))
        except asyncio.QueueFull:
            log.warning("news.dropped", type=kind, provider=provider)

    async def run(self) -> None:
        """Tell what is noted, for ever; an outage of the database delays it."""
        while True:
            change = await self._waiting.get()
            while True:
                try:
                    await self._tell(*change)
                    break
                except StoreUnavailable:
                    await self._clock.sleep(AWAY_S)
                except Exception:
                    log.exception("news.failed")
                    break

    async def _tell(self, kind: str, facts: dict[str, str | None]) -> None:
        async with self._store.read() as tx:  # mostly nobody listens
            if not await listeners(tx, OPERATOR, kind):
                return
        async with self._store.write() as tx:
            now = await tx.now()
            subject = f"{facts['provider']}/{facts['model']}"
            event = subject_event(self._ids("evt"), kind, subject, now, facts)
            await emit(tx, event, tenant_id=OPERATOR, ids=self._ids, at=now)


@asynccontextmanager
async def open_news(store: Store, clock: Clock, ids: IdMaker, *, owner: str) -> AsyncIterator[News]:
    """Yield a process's News, which are told until the end of the block."""
    news = News(store, clock, ids, owner=owner)
    telling = asyncio.create_task(news.run())
    try:
        yield news
    finally:
        telling.cancel()
        await asyncio.wait([telling])
