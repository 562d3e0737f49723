"""Brokers as bells and listeners meet them: each behind a proxy that plays faults."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlencode, urlsplit

import boto3
import pytest
import redis

from shared.queue.redis import NAMESPACE
from shared.queue.tasks import QUEUE
from tests.fakes.proxy import Proxy, running_proxy
from tests.services import RedisServer

REGION = "eu-west-1"
_numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class Broker:
    """One with nothing on it. `forget` makes it so again, past the proxy."""

    url: str
    proxy: Proxy
    waiting: Callable[[], int]
    forget: Callable[[], None]


@pytest.fixture
def redis_broker(redis_server: RedisServer) -> Iterator[Broker]:
    with (
        running_proxy(redis_server.socket) as proxy,
        redis.Redis.from_url(redis_server.url) as client,
    ):
        yield Broker(
            url=f"redis://127.0.0.1:{proxy.port}/0",
            proxy=proxy,
            waiting=lambda: client.llen(f"{NAMESPACE}:{QUEUE}"),
            forget=client.flushall,
        )


@pytest.fixture
def sqs(aws_url: str):
    """The test's own client of SQS, past everything."""
    client = boto3.client("sqs", region_name=REGION, endpoint_url=aws_url)
    yield client
    client.close()


@pytest.fixture
def prefix() -> str:
    """What no other test's queue begins with."""
    return f"test{next(_numbers)}"


@pytest.fixture
def queue_name(prefix: str) -> str:
    return f"{prefix}_{QUEUE}"


@pytest.fixture
def sqs_broker(aws_url: str, sqs, prefix: str, queue_name: str) -> Iterator[Broker]:
    port = urlsplit(aws_url).port
    assert port is not None

    def queue() -> str:
        return sqs.get_queue_url(QueueName=queue_name)["QueueUrl"]

    def waiting() -> int:
        name = "ApproximateNumberOfMessages"
        found = sqs.get_queue_attributes(QueueUrl=queue(), AttributeNames=[name])
        return int(found["Attributes"][name])

    with running_proxy(port) as proxy:
        options = {"endpoint": f"http://127.0.0.1:{proxy.port}", "prefix": prefix}
        yield Broker(
            url=f"sqs://{REGION}?{urlencode(options)}",
            proxy=proxy,
            waiting=waiting,
            forget=lambda: sqs.delete_queue(QueueUrl=queue()),
        )


@pytest.fixture
def rabbitmq_broker() -> Iterator[Broker]:
    pytest.importorskip("pika", reason="RabbitMQ is an extra")
    from tests.fakes.amqp import running_amqp

    with running_amqp() as server, running_proxy(server.port) as proxy:
        yield Broker(
            url=f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F",
            proxy=proxy,
            waiting=lambda: len(server.queues[QUEUE]),
            forget=server.queues.clear,
        )


@pytest.fixture(params=["redis", "sqs", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """The test runs once on each kind."""
    found: Broker = request.getfixturevalue(f"{request.param}_broker")
    return found
