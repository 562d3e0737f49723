"""One attempt to tell a receiver: a signed POST, a message to an SNS topic, or an alert.

How it went is a value, never an exception.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from shared.clock import Clock
from shared.config.conduct import Alerts
from shared.config.mail import mail_server
from shared.store.records import DeliveryRow
from shared.webhooks.alerting import MAIL, SLACK, TOPIC, WEBHOOK, is_alerts
from shared.webhooks.egress import Network, networks
from shared.webhooks.email import Mailer
from shared.webhooks.schedule import MOST_SAID, Outcome
from shared.webhooks.signature import InvalidSecret, signed_headers
from shared.webhooks.slack import slack_message
from shared.webhooks.sns import Topics
from shared.webhooks.urls import is_topic

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

TIMEOUT_S = 15.0
"""For the whole attempt, connecting included; Standard Webhooks says 15 to 30."""

EVERYWHERE = networks(["0.0.0.0/0", "::/0"])


class AlertRooms(msgspec.Struct, frozen=True, kw_only=True):
    """Where the config wants alerts told; the guard is for callers' URLs, not for these."""

    webhook: str | None = None
    slack_url: str | None = None
    mailer: Mailer | None = None
    topic: str | None = None
    topics: Topics | None = None


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """How attempts are made: where they may go and how long they may take.

    Without `topics` none is published to, and without `alerts` none is sent where the config says.
    `names` replaces the system's resolver in tests.
    """

    allowed: tuple[Network, ...] = ()
    timeout_s: float = TIMEOUT_S
    names: "AbstractResolver | None" = None
    topics: Topics | None = None
    alerts: AlertRooms | None = None


def rooms_of(alerts: Alerts) -> AlertRooms:
    """Return where the config wants alerts told."""
    topic = alerts.sns_topic_arn
    return AlertRooms(
        webhook=alerts.webhook,
        slack_url=alerts.slack_url,
        mailer=None if alerts.smtp is None else Mailer(mail_server(alerts.smtp)),
        topic=topic,
        topics=None if topic is None else Topics([topic]),
    )


async def deliver(
    delivery: DeliveryRow, post: Post, *, secrets: Sequence[str], clock: Clock
) -> Outcome:
    """Send the event's bytes, signed with every secret, and return what came of it.

    Only 2xx is success. Redirects are not followed, proxies of the environment not used, at most
    64 KiB of the answer are read.
    """
    began_s = clock.monotonic()
    try:
        headers = signed_headers(
            secrets, event_id=delivery.event_id, at=clock.now(), body=delivery.body
        )
    except (InvalidSecret, ValueError) as error:
        return Outcome(error=f"not signed: {error}")
    try:
        async with clock.timeout(post.timeout_s):
            outcome = await _sent(delivery, post, headers, clock.now())
    except TimeoutError:
        outcome = Outcome(error=f"no answer within {post.timeout_s:g} s")
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        outcome = Outcome(error=f"{type(error).__name__}: {error}"[:MOST_SAID])
    elapsed_ms = round((clock.monotonic() - began_s) * 1000)
    return msgspec.structs.replace(outcome, duration_ms=elapsed_ms)


async def _sent(
    delivery: DeliveryRow, post: Post, headers: dict[str, str], now: datetime
) -> Outcome:
    if is_alerts(delivery.url):
        return await _alert(delivery, post, headers, now)
    if is_topic(delivery.url):
        return await _publish(delivery.url, delivery, post.topics, headers)
    return await _post(delivery.url, delivery.body, post, headers, now)


async def _alert(
    delivery: DeliveryRow, post: Post, headers: dict[str, str], now: datetime
) -> Outcome:
    """Send it where the config leads now, which may be nowhere any more."""
    rooms = post.alerts or AlertRooms()
    anywhere = msgspec.structs.replace(post, allowed=EVERYWHERE)
    if delivery.url == WEBHOOK and rooms.webhook is not None:
        return await _post(rooms.webhook, delivery.body, anywhere, headers, now)
    if delivery.url == SLACK and rooms.slack_url is not None:
        return await _post(rooms.slack_url, slack_message(delivery.body), anywhere, {}, now)
    if delivery.url == MAIL and rooms.mailer is not None:
        return await rooms.mailer.send(delivery.event_id, delivery.body, now)
    if delivery.url == TOPIC and rooms.topic is not None:
        return await _publish(rooms.topic, delivery, rooms.topics, headers)
    return Outcome(error="refused: the config's alerts do not name it any more")


async def _publish(
    arn: str, delivery: DeliveryRow, topics: Topics | None, headers: dict[str, str]
) -> Outcome:
    if topics is None:
        return Outcome(error="refused: nothing is published to SNS here")
    attributes = {**headers, "event-type": delivery.event_type}
    return await topics.publish(
        arn, delivery.body, attributes, group=delivery.tenant_id, once=delivery.event_id
    )


async def _post(
    url: str, body: bytes, post: Post, headers: dict[str, str], now: datetime
) -> Outcome:
    # A process that delivers nothing does without the HTTP client: a tenth of its start.
    from shared.webhooks.posting import send

    return await send(url, body, headers, now, allowed=post.allowed, names=post.names)
