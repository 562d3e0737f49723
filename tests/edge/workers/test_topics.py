"""SNS topics as receivers, against AWS's services as moto plays them."""

import json

import boto3
import pytest
from standardwebhooks import Webhook

from shared.clock import SystemClock
from shared.store.records import DeliveryRow
from shared.webhooks.delivery import Post, deliver
from shared.webhooks.sns import Topics

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
REGION = "eu-west-1"
BODY = b'{"type":"job.succeeded","data":{"id":"job_1"}}'


@pytest.fixture
def sns_url(aws_url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", aws_url)
    return aws_url


@pytest.fixture
def topics():
    made = Topics(["arn:aws:sns:*"])
    yield made
    made.close()


def subscribed(url, name, **attributes):
    """Return the ARN of a topic and what reads the messages published to it."""
    sns = boto3.client("sns", region_name=REGION, endpoint_url=url)
    sqs = boto3.client("sqs", region_name=REGION, endpoint_url=url)
    arn = sns.create_topic(Name=name, Attributes=attributes)["TopicArn"]
    queue = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    named = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=named["Attributes"]["QueueArn"])

    def messages():
        found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        return [json.loads(one["Body"]) for one in found.get("Messages", [])]

    return arn, messages


async def sent(arn, topics):
    delivery = DeliveryRow(
        id="dlv_1",
        event_id="evt_1",
        tenant_id="acme",
        url=arn,
        status="delivering",
        event_type="job.succeeded",
        body=BODY,
    )
    post = Post(topics=topics)
    return await deliver(delivery, post, secrets=[SECRET], clock=SystemClock())


@pytest.mark.parametrize("kind", ["", ".fifo"])
async def test_a_topic_gets_the_signed_event(sns_url, topics, kind):
    """Its attributes are what a POST has as headers."""
    attributes = {"FifoTopic": "true", "FifoQueue": "true"} if kind else {}
    arn, messages = subscribed(sns_url, f"told{kind}", **attributes)

    outcome = await sent(arn, topics)

    [message] = messages()
    headers = {name: one["Value"] for name, one in message["MessageAttributes"].items()}
    assert (True, 200) == (outcome.delivered, outcome.status_code)
    assert message["MessageId"].encode() == outcome.answer_head
    assert (BODY.decode(), "job.succeeded") == (message["Message"], headers["event-type"])
    Webhook(SECRET).verify(message["Message"], headers)


async def test_a_topic_that_is_gone_is_a_failure_with_its_status(sns_url, topics):
    outcome = await sent(f"arn:aws:sns:{REGION}:123456789012:none", topics)

    assert (404, False) == (outcome.status_code, outcome.delivered)
    assert b"NotFound" in outcome.answer_head


async def test_sns_away_is_a_failure_without_status(aws_url, monkeypatch, topics):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", "http://127.0.0.1:1")

    outcome = await sent(f"arn:aws:sns:{REGION}:123456789012:told", topics)

    assert outcome.status_code is None
    assert "Connect" in str(outcome.error)


@pytest.mark.parametrize(
    ("allowed", "told"),
    [
        ([], False),
        (["arn:aws:sns:eu-west-1:123456789012:other"], False),
        (["arn:aws:sns:eu-west-1:123456789012:allow*"], True),
    ],
)
async def test_only_allowed_topics_are_published_to(sns_url, allowed, told):
    """The rights are the gateway's, not the tenant's."""
    arn, messages = subscribed(sns_url, "allowed-topic")
    topics = Topics(allowed)

    outcome = await sent(arn, topics)

    assert told == outcome.delivered == bool(messages())
    assert told or str(outcome.error).startswith("refused: ")
    topics.close()


async def test_without_sns_nothing_is_published():
    outcome = await sent(f"arn:aws:sns:{REGION}:123456789012:told", None)

    assert "refused: nothing is published to SNS here" == outcome.error
