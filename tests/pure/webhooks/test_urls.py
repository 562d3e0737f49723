"""The form of where a webhook goes."""

import pytest

from shared.webhooks.urls import is_topic, topic_mistake, url_mistake

TOPIC = "arn:aws:sns:eu-west-1:123456789012:told"


@pytest.mark.parametrize(
    ("arn", "allowed", "may"),
    [
        (TOPIC, [TOPIC], True),
        (TOPIC, ["arn:aws:sns:eu-west-1:123456789012:*"], True),
        (f"{TOPIC}.fifo", [f"{TOPIC}*"], True),
        ("arn:aws-cn:sns:cn-north-1:123456789012:told", ["*"], True),
        (TOPIC, [], False),
        (f"{TOPIC}-more", [TOPIC], False),
        ("arn:aws:sqs:eu-west-1:123456789012:told", ["*"], False),
        (f"{TOPIC}:11111111-2222-3333-4444-555555555555", ["*"], False),
        (f"{TOPIC}\n", ["*"], False),
        ("arn:aws:sns:evil.example/:123456789012:told", ["*"], False),
        ("arn:", ["*"], False),
    ],
)
def test_which_topics_may_be_named(arn, allowed, may):
    """Whole ARNs of topics, and only those the operator lets tenants name."""
    assert is_topic(arn)
    assert may == (topic_mistake(arn, allowed) is None)


def test_a_request_s_own_url_is_no_topic():
    assert url_mistake(TOPIC) is not None
