"""Events in words: a line for people, safe in chat and in mail."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from shared.config.mail import mail_server
from shared.webhooks.email import mail
from shared.webhooks.event import subject_event
from shared.webhooks.slack import slack_message
from shared.webhooks.wording import wording

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
FACTS = {
    "tenant_id": "acme",
    "resets_at": 1772755200,
    "threshold": 80,
    "basis": "spent",
    "limit_usd": msgspec.Raw(b"50"),
    "spent_usd": msgspec.Raw(b"40.0000375"),
    "held_usd": msgspec.Raw(b"0"),
    "forecast_usd": None,
}


def body(kind="budget.threshold_reached", subject="tenant:acme/day", **facts):
    return subject_event("evt_1", kind, subject, NOON, {**FACTS, **facts}).body


@pytest.mark.parametrize(
    ("kind", "facts", "expected"),
    [
        (
            "budget.threshold_reached",
            {},
            "Budget tenant:acme/day has reached 80 % of $50: $40.0000375 spent",
        ),
        (
            "budget.threshold_reached",
            {"held_usd": 0.25},
            (
                "Budget tenant:acme/day has reached 80 % of $50: "
                "$40.0000375 spent, $0.25 held by running calls"
            ),
        ),
        (
            "budget.threshold_reached",
            {"basis": "forecast", "forecast_usd": 44},
            "Budget tenant:acme/day is on the way to 80 % of $50: $44 by its end",
        ),
        (
            "budget.exceeded",
            {"spent_usd": 51},
            "Budget tenant:acme/day is spent: $51 of $50 spent",
        ),
        (
            "budget.exceeded",
            {"basis": "refused"},
            "Budget tenant:acme/day refuses calls: $40.0000375 of $50 spent",
        ),
        (
            "budget.spend_spike",
            {"starts_at": 1772712000, "usual_usd": 2},
            "tenant:acme/day spent $40.0000375 in the hour from 2026-03-05 12:00 UTC; $2 is usual",
        ),
        (
            "budget.reset",
            {"last_spent_usd": 51},
            (
                "Budget tenant:acme/day has begun anew: $50 until 2026-03-06 00:00 UTC; "
                "$51 spent before"
            ),
        ),
        ("usage.window_closed", {}, "usage.window_closed: tenant:acme/day"),
    ],
)
def test_a_headline_says_it_all(kind, facts, expected):
    assert expected == wording(body(kind, **facts)).headline


def test_the_facts_stand_beneath():
    facts = dict(wording(body()).facts)

    assert "2026-03-06 00:00 UTC" == facts["resets_at"]
    assert "40.0000375" == facts["spent_usd"]
    assert "evt_1" == facts["event"]
    assert "forecast_usd" not in facts


def test_nobody_s_name_mentions_a_channel():
    """`<!channel>` in a user's name would wake everybody."""
    message = json.loads(slack_message(body(subject="user:acme/<!channel>&\n*x*/day")))

    assert "<" not in json.dumps(message)
    assert "&lt;!channel&gt;&amp; *x*" in message["text"]
    assert {"text", "blocks"} == set(message)


def test_a_mail_tells_the_same_and_has_the_event_with_it():
    """A line break in a name makes no header of its own."""
    server = mail_server("smtp://h?from=Gateway%20<gw@example.com>&to=a@b.c,d+x@e.f")
    event = body(subject="user:acme/x\r\nBcc: evil@example.com/day")

    message = mail(server, "evt_1", event, NOON)

    assert ["a@b.c, d+x@e.f"] == message.get_all("To")
    assert "Gateway <gw@example.com>" == message["From"]
    assert message["Bcc"] is None
    assert "<evt_1@example.com>" == message["Message-ID"]
    [words, attached] = message.iter_parts()
    assert words.get_content().startswith("Budget user:acme/x  Bcc: evil@example.com/day has")
    assert event == attached.get_content()
