"""Alerts into the outbox: to the endpoints of whom they concern, and where the config says.

What the config names is written down by a short address, `alerts:slack`, and found when it is sent:
no secret lies in the database, and what is tried again goes where the config leads by then.
"""

from datetime import datetime

import msgspec

from shared.config.conduct import Alerts
from shared.ids import IdMaker
from shared.store.engine import Tx
from shared.store.records import Alert, AlertKind
from shared.webhooks.emit import emit
from shared.webhooks.event import (
    BUDGET_EXCEEDED,
    BUDGET_RESET,
    OPERATOR,
    SPEND_SPIKE,
    THRESHOLD_REACHED,
    subject_event,
)

WEBHOOK = "alerts:webhook"
SLACK = "alerts:slack"
MAIL = "alerts:mail"
TOPIC = "alerts:sns"

TYPES: dict[AlertKind, str] = {
    "spent": THRESHOLD_REACHED,
    "forecast": THRESHOLD_REACHED,
    "exceeded": BUDGET_EXCEEDED,
    "reset": BUDGET_RESET,
    "spike": SPEND_SPIKE,
}


def is_alerts(url: str) -> bool:
    """Return whether it is the address of something in the config's `alerts`."""
    return url.startswith("alerts:")


def addresses(alerts: Alerts) -> tuple[str, ...]:
    """Return the addresses of all that the config's `alerts` name."""
    named = (
        (WEBHOOK, alerts.webhook),
        (SLACK, alerts.slack_url),
        (MAIL, alerts.smtp),
        (TOPIC, alerts.sns_topic_arn),
    )
    return tuple(address for address, value in named if value is not None)


class Teller(msgspec.Struct, frozen=True, kw_only=True):
    """Tells alerts; `urls` are told of each, beside the endpoints of its tenant."""

    ids: IdMaker
    urls: tuple[str, ...] = ()

    async def __call__(self, tx: Tx, alert: Alert, event_id: str, at: datetime) -> None:
        """Put the alert's event into the outbox, with the transaction."""
        kind = TYPES[alert.key.kind]
        event = subject_event(event_id, kind, alert.key.budget_id, at, alert.facts)
        tenant_id = alert.tenant_id or OPERATOR
        await emit(tx, event, tenant_id=tenant_id, urls=self.urls, ids=self.ids, at=at)
