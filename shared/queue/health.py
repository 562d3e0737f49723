"""Is the broker there? For readiness and for people."""

from functools import lru_cache

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

ANSWER_S = 0.3


def redis_answers(url: str) -> bool:
    """Return whether Redis answers within 0.3 s; blocks that long, so call it in a thread."""
    try:
        return bool(_client(url).ping())
    except (redis.RedisError, OSError):
        return False


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    timeouts = {"socket_timeout": ANSWER_S}
    if not url.startswith("unix:"):
        timeouts["socket_connect_timeout"] = ANSWER_S
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **timeouts)
