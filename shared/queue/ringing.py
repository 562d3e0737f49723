"""The bell over a broker: one background thread sends, because asking a broker blocks."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import dramatiq

from shared.queue.bell import RING_GAP_S
from shared.queue.tasks import QUEUE, RING
from shared.telemetry.log import get_logger

Send = Callable[[Sequence[str]], None]
"""Sends a message for each topic; blocks, and may fail in any way."""

log = get_logger(__name__)


def ring_message(topic: str) -> "dramatiq.Message[None]":
    """Return the message that says: look for `topic`."""
    return dramatiq.Message(queue_name=QUEUE, actor_name=RING, args=(topic,), kwargs={}, options={})


def enqueued_by(broker: dramatiq.Broker) -> Send:
    """Return what sends through a Dramatiq broker, one message after the other."""

    def send(topics: Sequence[str]) -> None:
        for topic in topics:
            broker.enqueue(ring_message(topic))

    return send


class BrokerBell:
    """Rings through a broker, and closes it when told to stop.

    Topics wait in a set, so at most one message per topic is outstanding here, however slow the
    broker is. What cannot be sent is dropped: workers look by themselves.
    """

    def __init__(
        self, send: Send, close: Callable[[], None] = lambda: None, *, gap_s: float = RING_GAP_S
    ) -> None:
        self._send_to_broker = send
        self._close = close
        self._gap_s = gap_s
        self._pending: set[str] = set()
        self._lock = threading.Lock()
        self._rung = threading.Event()
        self._closing = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
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

    def _run(self) -> None:
        while not self._closing.is_set():
            self._rung.wait()
            self._send_pending()
            self._closing.wait(self._gap_s)
        self._send_pending()
        self._close()

    def _send_pending(self) -> None:
        self._rung.clear()
        with self._lock:
            topics, self._pending = self._pending, set()
        if topics:
            self._send(sorted(topics))

    def _send(self, topics: Sequence[str]) -> None:
        try:
            self._send_to_broker(topics)
        except Exception as error:  # noqa: BLE001 (whatever it is, the job is already committed)
            if not self._failing:  # once per outage, not once per job
                log.warning("bell.failed", topics=topics, error=type(error).__name__)
            self._failing = True
        else:
            if self._failing:
                log.info("bell.recovered", topics=topics)
            self._failing = False
