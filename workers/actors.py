"""The hand-over actor: takes a ring from the broker and wakes the process's own loop."""

import asyncio
import threading
from collections.abc import Callable

import dramatiq

from shared.queue.tasks import QUEUE, RING, TOPICS
from shared.queue.wiring import consuming_broker
from shared.telemetry.log import get_logger

THREADS = 8
IDLE_MS = 150
"""How long an idle consumer of Redis sleeps between looks: 47 to 81 ms from ring to start
(measured). RabbitMQ pushes, SQS is polled long."""
STOP_S = 5.0
PREFETCH = 8
"""Messages taken ahead of the threads; more of them would hide rings from other workers."""

OnRing = Callable[[str], None]
"""Called on the event loop's thread with a topic; returns at once."""

log = get_logger(__name__)


def declare_ring(
    broker: dramatiq.Broker, loop: asyncio.AbstractEventLoop, on_ring: OnRing
) -> "dramatiq.Actor[[str], None]":
    """Declare the actor on the broker; it returns as soon as the loop has been told.

    Dramatiq acknowledges then, which is right: the lease in the database is what keeps a job.
    """

    @dramatiq.actor(broker=broker, actor_name=RING, queue_name=QUEUE)
    def ring(topic: str) -> None:
        if topic in TOPICS and not loop.is_closed():
            loop.call_soon_threadsafe(on_ring, topic)

    return ring


class Listener:
    """Consumes rings on threads. The broker may be away at the start, die, and come back."""

    def __init__(self, broker: dramatiq.Broker) -> None:
        self._broker = broker
        self._worker = dramatiq.Worker(broker, worker_timeout=IDLE_MS, worker_threads=THREADS)
        # Its variable `dramatiq_queue_prefetch` works only if it is set before the import.
        self._worker.queue_prefetch = PREFETCH

    def start(self) -> None:
        """Start the threads; they connect, and connect again, by themselves."""
        self._worker.start()

    async def aclose(self) -> None:
        """Stop the threads, within five seconds even if the broker does not answer."""
        thread = threading.Thread(target=self._stop, name="listener stop", daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, STOP_S)
        if thread.is_alive():
            log.warning("listener.stop_timed_out", after_s=STOP_S)

    def _stop(self) -> None:
        try:
            self._worker.stop(timeout=2000)
            self._broker.close()
        except Exception as error:  # noqa: BLE001 (rings in flight may be lost: that is their nature)
            log.warning("listener.stop_failed", error=type(error).__name__)


def listen(broker_url: str, loop: asyncio.AbstractEventLoop, on_ring: OnRing) -> Listener:
    """Start listening for rings at that broker. Talks to it on threads only."""
    broker = consuming_broker(broker_url)
    declare_ring(broker, loop, on_ring)
    listener = Listener(broker)
    listener.start()
    return listener
