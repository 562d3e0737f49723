"""The limiter of a process: over Redis when there is one, else in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.clock import Clock
from shared.limits.limiter import Limiter, Policy
from shared.limits.local import LocalLimiter


@asynccontextmanager
async def open_limiter(
    redis_url: str | None, *, owner: str, policy: Policy, clock: Clock, processes: int = 1
) -> AsyncIterator[Limiter]:
    """Yield this process's limiter, and hand in what it holds at the end.

    `owner` names the process among all that share the Redis. `policy` is for a Redis that is
    away, which does not stop the start; `processes` share the limits as long as none was seen.
    Without a URL limits are kept in memory, each process its share.
    """
    if redis_url is None:
        yield LocalLimiter(clock, share=processes)
        return
    # A process without Redis does without its client, too.
    from shared.limits.fallback import SharedLimiter
    from shared.limits.redis import RedisLink

    limiter = SharedLimiter(
        RedisLink(redis_url), owner=owner, policy=policy, clock=clock, processes=processes
    )
    await limiter.start()
    try:
        yield limiter
    finally:
        await limiter.aclose()
