"""The doorbell over RabbitMQ, by Dramatiq's broker for it. Needs the package `pika`."""

import logging
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import Callbacks, CurrentMessage

from shared.queue.ringing import BrokerBell, enqueued_by
from shared.queue.tasks import QUEUE

RING_TIMEOUTS = {"socket_timeout": "1", "stack_timeout": "2", "blocked_connection_timeout": "2"}
"""Seconds to connect, to shake hands, and to wait while RabbitMQ is short of memory or disk."""
WORK_TIMEOUTS = {"socket_timeout": "5", "stack_timeout": "10", "blocked_connection_timeout": "10"}
PROBE_TIMEOUTS = {"socket_timeout": "0.3", "stack_timeout": "0.6"}


def rabbitmq_bell(url: str) -> BrokerBell:
    """Return the bell that rings there. Talks to nobody yet."""
    broker = _broker(url, RING_TIMEOUTS)
    return BrokerBell(enqueued_by(broker), broker.close)


def build_broker(url: str) -> RabbitmqBroker:
    """Return the broker a worker consumes with. Talks to nobody yet."""
    return _broker(url, WORK_TIMEOUTS)


def _broker(url: str, timeouts: dict[str, str]) -> RabbitmqBroker:
    """What the URL says of timeouts goes before ours."""
    parts = urlsplit(url)
    query = {"connection_attempts": "1", **timeouts, **dict(parse_qsl(parts.query))}
    # It logs a traceback for each failed connection; whoever wanted that one tells of it.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    broker = RabbitmqBroker(
        url=urlunsplit(parts._replace(query=urlencode(query))),
        middleware=[CurrentMessage(), Callbacks()],
        confirm_delivery=True,  # without it a queue that has gone is never made again
    )
    broker.declare_queue(QUEUE)
    return broker


def rabbitmq_answers(url: str) -> bool:
    """Return whether RabbitMQ lets us in within a second; blocks that long."""
    broker = _broker(url, PROBE_TIMEOUTS)
    try:
        return bool(broker.connection.is_open)
    except Exception:  # noqa: BLE001 (pika's are many; whichever it is, we are not in)
        return False
    finally:
        broker.close()
