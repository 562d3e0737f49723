"""The doorbell over Dramatiq's Redis broker.

Redis may be away when a process starts, die, be emptied and come back: enqueueing then fails
quickly, and consumers reconnect by themselves.
"""

import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Callbacks, CurrentMessage
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from shared.queue.ringing import BrokerBell, enqueued_by
from shared.queue.tasks import QUEUE

NAMESPACE = "sluiceway"


def redis_bell(redis_url: str) -> BrokerBell:
    """Return the bell that rings there. Talks to nobody yet."""
    broker = build_ringing_broker(redis_url)
    return BrokerBell(enqueued_by(broker), broker.close)


def build_broker(redis_url: str) -> RedisBroker:
    """Return the broker a worker consumes with; `redis://`, `rediss://` and `unix://` URLs.

    Talks to nobody yet. The client is our own: a broker's `url=` gets no retries at all, and the
    default pool starves acknowledgements.
    """
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.02), retries=3)
    return _broker(redis_url, socket_timeout_s=5.0, connect_timeout_s=1.0, retry=retry)


def build_ringing_broker(redis_url: str) -> RedisBroker:
    """Return the broker the bell enqueues with: short timeouts, no retries."""
    retry = Retry(NoBackoff(), retries=0)
    return _broker(redis_url, socket_timeout_s=0.3, connect_timeout_s=0.3, retry=retry)


def _broker(
    redis_url: str, *, socket_timeout_s: float, connect_timeout_s: float, retry: Retry
) -> RedisBroker:
    timeouts = {"socket_timeout": socket_timeout_s}
    if not redis_url.startswith("unix:"):  # a unix socket connects at once or not at all
        timeouts["socket_connect_timeout"] = connect_timeout_s
    client = redis.Redis.from_url(redis_url, max_connections=64, retry=retry, **timeouts)
    # Retries, TimeLimit, AgeLimit, Results and their kin lose or double work when Redis blinks.
    broker = RedisBroker(  # type: ignore[no-untyped-call]
        client=client, namespace=NAMESPACE, middleware=[CurrentMessage(), Callbacks()]
    )
    broker.declare_queue(QUEUE)
    return broker
