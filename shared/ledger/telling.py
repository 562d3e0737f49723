"""Telling: what an alert says, and that each is told once."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime

import msgspec

from shared.ids import IdMaker
from shared.ledger.alerts import Sums, forecast
from shared.ledger.cost import usd_text
from shared.ledger.rule import BudgetRule
from shared.store.alerts import claim_alerts
from shared.store.engine import Tx
from shared.store.records import Alert, AlertKey, BudgetRef, Told
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import ALERTS

log = get_logger("alerts")

Tell = Callable[[Tx, Alert, str, datetime], Awaitable[None]]
"""Puts an alert into the outbox, under an event's id and at a moment, with the transaction."""


async def tell_once(
    tx: Tx, alerts: Mapping[AlertKey, Alert], tell: Tell, ids: IdMaker, now: datetime
) -> int:
    """Tell those that nobody has told; return how many."""
    event_ids = {key: ids("evt") for key in alerts}
    won = await claim_alerts(tx, event_ids, now)
    for key in won:
        await tell(tx, alerts[key], event_ids[key], now)
        ALERTS.labels(key.kind).inc()
        log.info(
            "alerts.told",
            budget_id=key.budget_id,
            kind=key.kind,
            threshold=key.threshold,
            event_id=event_ids[key],
        )
    return len(won)


def alerts_of(
    rule: BudgetRule, ref: BudgetRef, sums: Sums, new: Iterable[Told], now: datetime
) -> Iterator[Alert]:
    """Yield an alert for each of the new things to tell of a window, with how it stands."""
    period = rule.period_at(ref.starts_at)
    expected = forecast(sums.settled_nanousd, period, now)
    facts = {
        "tenant_id": rule.tenant_id,
        "window": rule.window,
        "starts_at": int(period.starts_at.timestamp()),
        "resets_at": int(period.ends_at.timestamp()),
        "action": "reject" if rule.rejects else "warn",
        "limit_usd": dollars(sums.limit_nanousd),
        "spent_usd": dollars(sums.settled_nanousd),
        "held_usd": dollars(sums.held_nanousd),
        "forecast_usd": None if expected is None else dollars(expected),
    }
    spent = "spent" if sums.settled_nanousd >= sums.limit_nanousd else "refused"
    for kind, threshold in new:
        key = AlertKey(
            budget_id=ref.budget_id, starts_at=ref.starts_at, kind=kind, threshold=threshold
        )
        basis = spent if kind == "exceeded" else kind
        more = {"threshold": threshold, "basis": basis}
        yield Alert(key=key, tenant_id=rule.tenant_id, facts={**facts, **more})


def dollars(nanousd: int) -> msgspec.Raw:
    """Return dollars as a JSON number with all of its digits."""
    return msgspec.Raw(usd_text(nanousd).encode())
