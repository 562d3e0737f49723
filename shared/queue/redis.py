"""The doorbell over Dramatiq's Redis broker.

Redis may be away when a process starts, die, be emptied and come back: enqueueing then fails
quickly in a thread of its own, and consumers reconnect by themselves.
"""

import asyncio
import threading

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Callbacks, CurrentMessage
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from shared.queue.bell import RING_GAP_S
from shared.queue.tasks import QUEUE, RING
from shared.telemetry.log import get_logger

NAMESPACE = "sluiceway"

log = get_logger(__name__)


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


def ring_message(topic: str) -> "dramatiq.Message[None]":
    """Return the message that says: look for `topic`."""
    return dramatiq.Message(queue_name=QUEUE, actor_name=RING, args=(topic,), kwargs={}, options={})


class RedisBell:
    """Rings through a broker from one background thread, because enqueueing blocks.

    Topics wait in a set, so at most one message per topic is outstanding here, however slow
    Redis is. What cannot be sent is dropped: workers look by themselves.
    """

    def __init__(self, broker: dramatiq.Broker, *, gap_s: float = RING_GAP_S) -> None:
        self._broker = broker
        self._gap_s = gap_s
        self._pending: set[str] = set()
        self._lock = threading.Lock()
        self._rung = threading.Event()
        self._closing = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._send_all, name="bell", daemon=True)
        self._thread.start()

    def ring(self, topic: str) -> None:
        """Ask workers to look for `topic`; never waits and never fails."""
        with self._lock:
            self._pending.add(topic)
        self._rung.set()

    async def aclose(self) -> None:
        """Send what is pending, within a second, and stop."""
        self._closing.set()
        self._rung.set()
        await asyncio.to_thread(self._thread.join, 1.0)
        self._broker.close()

    def _send_all(self) -> None:
        while not self._closing.is_set():
            self._rung.wait()
            self._send_pending()
            self._closing.wait(self._gap_s)
        self._send_pending()

    def _send_pending(self) -> None:
        self._rung.clear()
        with self._lock:
            topics, self._pending = self._pending, set()
        for topic in sorted(topics):
            self._send(topic)

    def _send(self, topic: str) -> None:
        try:
            self._broker.enqueue(ring_message(topic))
        except Exception as error:  # noqa: BLE001 (whatever it is, the job is already committed)
            if not self._failing:  # once per outage, not once per job
                log.warning("bell.failed", topic=topic, error=type(error).__name__)
            self._failing = True
        else:
            if self._failing:
                log.info("bell.recovered", topic=topic)
            self._failing = False
