"""Facts in Redis, so that what one process was told need not be told to all of them.

Best effort and off every call's path: a second late, and nothing at all while Redis is away.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import redis.asyncio
from redis import RedisError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from shared.clock import Clock
from shared.health.facts import MOST, Fact, FactBook, FactKey, FactKind
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import REDIS_FAILURES

log = get_logger("health")

KEY = "sluiceway:facts"
"""A sorted set: each fact with the moment on Redis' clock at which it ends."""

EVERY_S = 1.0
ANSWER_S = 0.5


class _Member(msgspec.Struct, frozen=True, array_like=True):
    provider: str
    model: str
    credential: str
    kind: FactKind


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Member).decode


class FactSharer:
    """Tells others what this process has learnt, and this process what they have; every second."""

    def __init__(self, url: str, facts: FactBook, clock: Clock) -> None:
        # Not in the URL's own words: a socket's client knows of no time for connecting.
        timeouts: dict[str, Any] = {"socket_timeout": ANSWER_S}
        if not url.startswith("unix:"):
            timeouts["socket_connect_timeout"] = ANSWER_S
        self._redis = redis.asyncio.Redis.from_url(
            url, protocol=2, retry=Retry(NoBackoff(), 0), **timeouts
        )
        self._facts = facts
        self._clock = clock
        facts.shared = True

    async def run(self) -> None:
        """Go on until cancelled; whatever becomes of Redis.

        redis-py waits with asyncio's `wait_for`, which loses a cancel that comes together with what
        it waits for, until Python 3.12. So it is asked for, too.
        """
        away, task = False, asyncio.current_task()
        while True:
            try:
                await self.exchange()
            except (RedisError, OSError, TimeoutError) as error:
                REDIS_FAILURES.inc()
                if not away:
                    log.warning("facts.away", why=f"{type(error).__name__}: {error}")
                away = True
            except Exception:
                log.exception("facts.failed")
            else:
                if away:
                    log.info("facts.back")
                away = False
            if task is not None and task.cancelling():
                return
            await self._clock.sleep(EVERY_S)

    async def exchange(self) -> None:
        """Tell and ask once.

        Raises:
            RedisError, OSError: Redis is away; what was to be told is told next time.
        """
        seconds, microseconds = await self._redis.time()
        ahead_s = seconds + microseconds / 1_000_000 - self._clock.monotonic()
        changes = self._facts.take_changes()
        try:
            told = await self._tell(changes, ahead_s)
        except BaseException:
            self._facts.put_back(changes)
            raise
        self._facts.now_told(told)

    async def aclose(self) -> None:
        """Close the connection."""
        self._facts.shared = False
        await self._redis.aclose()

    async def _tell(
        self, changes: Mapping[FactKey, Fact | None], ahead_s: float
    ) -> dict[FactKey, Fact]:
        """Return what all have told, these changes included.

        `ahead_s` is Redis' clock less ours.
        """
        ends = {
            _member(key, one.kind): one.until_s + ahead_s for key, one in changes.items() if one
        }
        ended = [
            _member(key, kind) for key, one in changes.items() if one is None for kind in FactKind
        ]
        now_s = ahead_s + self._clock.monotonic()
        pipe = self._redis.pipeline(transaction=False)
        if ended:
            pipe.zrem(KEY, *ended)
        if ends:
            pipe.zadd(KEY, ends)
            pipe.zremrangebyscore(KEY, "-inf", now_s)
        pipe.zrevrangebyscore(KEY, "+inf", now_s, start=0, num=MOST, withscores=True)
        *_, rows = await pipe.execute()
        told: dict[FactKey, Fact] = {}
        for raw, until_s in reversed(rows):  # of two about one target the later one stays
            one = _read(raw)
            if one is not None:
                key = (one.provider, one.model, one.credential)
                told[key] = Fact(kind=one.kind, until_s=until_s - ahead_s)
        return told


def _member(key: FactKey, kind: FactKind) -> bytes:
    return _encode(_Member(*key, kind))


def _read(raw: bytes) -> _Member | None:
    """Return a fact as another version may have written it, or not at all."""
    try:
        return _decode(raw)
    except msgspec.DecodeError:
        return None
