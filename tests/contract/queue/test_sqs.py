"""SQS as a doorbell: how its queue is made, and what starves, loses or doubles nothing."""

import json
from itertools import islice

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from dramatiq.errors import ConnectionClosed

from shared.queue.sqs import MOST_RECEIVES, SqsDoorbell, build_broker
from shared.queue.tasks import QUEUE
from tests.contract.queue.conftest import Broker

TOPICS = [f"jobs:{number}" for number in range(23)]


@pytest.fixture
def doorbell(sqs_broker: Broker):
    opened = build_broker(sqs_broker.url)
    yield opened
    opened.close()


@pytest.fixture
def consumer(doorbell: SqsDoorbell):
    opened = doorbell.consume(QUEUE, prefetch=8)
    yield opened
    opened.close()


def requests_of(doorbell: SqsDoorbell, operation: str) -> list[dict[str, object]]:
    """Return the list to which each of its requests of that kind is added from now on."""
    seen: list[dict[str, object]] = []
    events = doorbell.sqs.meta.client.meta.events
    events.register(
        f"provide-client-params.sqs.{operation}", lambda params, **_: seen.append(params)
    )
    return seen


def attributes(sqs, queue_name: str) -> dict[str, str]:
    url = sqs.get_queue_url(QueueName=queue_name)["QueueUrl"]
    found: dict[str, str] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])[
        "Attributes"
    ]
    return found


def test_the_queue_is_made_with_a_place_for_the_dead(doorbell: SqsDoorbell, sqs, queue_name: str):
    """Messages are hidden for a minute, kept a quarter of an hour, dead after five tries."""
    doorbell.send(["deliveries"])

    made, dead = attributes(sqs, queue_name), attributes(sqs, f"{queue_name}_dlq")

    assert ("60", "900") == (made["VisibilityTimeout"], made["MessageRetentionPeriod"])
    assert {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 5} == json.loads(
        made["RedrivePolicy"]
    )
    assert str(14 * 86400) == dead["MessageRetentionPeriod"]


def test_a_queue_that_is_there_is_left_as_it_is(doorbell: SqsDoorbell, sqs, queue_name: str):
    """Whoever makes queues by Terraform keeps their settings."""
    sqs.create_queue(QueueName=queue_name, Attributes={"VisibilityTimeout": "17"})

    doorbell.send(["deliveries"])

    assert "17" == attributes(sqs, queue_name)["VisibilityTimeout"]
    assert not sqs.list_queues(QueueNamePrefix=f"{queue_name}_dlq").get("QueueUrls")


def test_rings_leave_by_tens_and_each_topic_is_a_group(doorbell: SqsDoorbell, sqs, queue_name: str):
    """On a fair queue a busy class then delays no other one."""
    sent = requests_of(doorbell, "SendMessageBatch")

    doorbell.send(TOPICS)

    groups = [[entry["MessageGroupId"] for entry in request["Entries"]] for request in sent]
    assert [TOPICS[:10], TOPICS[10:20], TOPICS[20:]] == groups


def test_what_was_heard_is_deleted_by_tens(doorbell: SqsDoorbell, consumer, sqs_broker: Broker):
    doorbell.send(TOPICS[:8])
    deleted = requests_of(doorbell, "DeleteMessageBatch")

    heard = list(taken(consumer, 8))
    for message in heard:
        consumer.ack(message)
    assert [] == deleted
    consumer.close()

    assert set(TOPICS[:8]) == {message.args[0] for message in heard}
    assert [8] == [len(request["Entries"]) for request in deleted]
    assert 0 == sqs_broker.waiting()


def test_failing_deletes_starve_nobody(doorbell: SqsDoorbell, consumer):
    """The package's own consumer stands still after ten of them."""

    def fail(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://sqs.test")

    doorbell.sqs.meta.client.meta.events.register("before-call.sqs.DeleteMessageBatch", fail)
    doorbell.send(TOPICS)

    heard = []
    for message in taken(consumer, len(TOPICS)):
        heard.append(message.args[0])
        consumer.ack(message)

    assert set(TOPICS) == set(heard)


def test_no_more_are_taken_than_may_be_out(doorbell: SqsDoorbell, consumer):
    doorbell.send(TOPICS[:9])

    held = list(taken(consumer, 8))

    assert next(consumer) is None
    consumer.ack(held[0])
    assert next(consumer) is not None


def test_what_is_given_back_is_there_for_others_at_once(doorbell: SqsDoorbell, consumer):
    doorbell.send(TOPICS[:8])
    mine = list(taken(consumer, 3))

    consumer.requeue(mine)
    consumer.close()

    other = doorbell.consume(QUEUE, prefetch=8)
    assert set(TOPICS[:8]) == {message.args[0] for message in taken(other, 8)}
    other.close()


def test_poison_stops_nothing_and_ends_among_the_dead(
    doorbell: SqsDoorbell, consumer, sqs, queue_name: str
):
    """It is not ours to delete: whoever looks finds it there for two weeks."""
    url = sqs.get_queue_url(QueueName=queue_name)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="not ours")
    doorbell.send(["deliveries"])

    assert ["deliveries"] == [message.args[0] for message in taken(consumer, 1)]
    assert "2" == attributes(sqs, queue_name)["ApproximateNumberOfMessagesNotVisible"]

    sqs.send_message(QueueUrl=url, MessageBody="not ours either")
    for _ in range(MOST_RECEIVES + 1):
        sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    assert "1" == attributes(sqs, f"{queue_name}_dlq")["ApproximateNumberOfMessages"]


def test_credentials_may_come_later(
    sqs_broker: Broker, monkeypatch: pytest.MonkeyPatch, queue_name: str
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    boto3.setup_default_session()  # it remembers the credentials of earlier tests
    doorbell = build_broker(sqs_broker.url)
    with pytest.raises(ConnectionClosed):
        doorbell.send(["deliveries"])

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    doorbell.send(["deliveries"])

    assert 1 == sqs_broker.waiting()
    doorbell.close()


def taken(consumer, count: int):
    """Yield the next messages, waiting for each."""
    return islice(filter(None, consumer), count)
