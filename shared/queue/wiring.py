"""Which broker a URL means. Libraries are loaded for the one in use only."""

import dramatiq

from shared.queue.bell import Bell
from shared.queue.silent import SilentBell


def open_bell(broker_url: str | None) -> Bell:
    """Return the bell of the broker at that URL, a silent one without. Talks to nobody yet."""
    if broker_url is None:
        return SilentBell()
    match _scheme(broker_url):
        case "sqs":
            from shared.queue.sqs import sqs_bell

            return sqs_bell(broker_url)
        case "amqp" | "amqps":
            from shared.queue.rabbitmq import rabbitmq_bell

            return rabbitmq_bell(broker_url)
        case _:
            from shared.queue.redis import redis_bell

            return redis_bell(broker_url)


def consuming_broker(broker_url: str) -> dramatiq.Broker:
    """Return the broker a worker listens to. Talks to nobody yet."""
    match _scheme(broker_url):
        case "sqs":
            from shared.queue import sqs

            return sqs.build_broker(broker_url)
        case "amqp" | "amqps":
            from shared.queue import rabbitmq

            return rabbitmq.build_broker(broker_url)
        case _:
            from shared.queue import redis

            return redis.build_broker(broker_url)


def broker_answers(broker_url: str) -> bool:
    """Return whether the broker answers, within a second or two; blocks that long."""
    match _scheme(broker_url):
        case "sqs":
            from shared.queue.sqs import sqs_answers

            return sqs_answers(broker_url)
        case "amqp" | "amqps":
            from shared.queue.rabbitmq import rabbitmq_answers

            return rabbitmq_answers(broker_url)
        case _:
            from shared.queue.health import redis_answers

            return redis_answers(broker_url)


def _scheme(url: str) -> str:
    return url.partition(":")[0]
