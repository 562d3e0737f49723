"""Has told when an hour of a tenant costs far more than the hours of its last week."""

from datetime import timedelta
from decimal import Decimal

import msgspec

from shared.config.model import Config
from shared.ids import IdMaker
from shared.ledger.alerts import spiked, usual_hour
from shared.ledger.cost import NANOUSD_PER_USD
from shared.ledger.telling import Tell, dollars, tell_once
from shared.store.alerts import closed_hours, spent_by_hour
from shared.store.engine import Store
from shared.store.records import Alert, AlertKey

HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)


class SpikeRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a spike is: an hour of more than `factor` usual ones, and of more than the floor."""

    factor: float
    floor_nanousd: int


def spike_rule(config: Config) -> SpikeRule | None:
    """Return the config's rule; None where it wants to hear of none."""
    alerts = config.alerts
    if alerts.spike_factor is None:
        return None
    floor_nanousd = int(Decimal(alerts.spike_floor_usd) * NANOUSD_PER_USD)
    return SpikeRule(factor=alerts.spike_factor, floor_nanousd=floor_nanousd)


async def tell_spikes(store: Store, rule: SpikeRule, tell: Tell, ids: IdMaker) -> int:
    """Look at this hour, as far as it has come, and the one before; return how much was told.

    Each tenant's first one of a day (UTC) is told, and no other.

    Raises:
        StoreUnavailable: the next look finds it.
    """
    found: dict[AlertKey, Alert] = {}
    async with store.read() as tx:
        now = await tx.now()
        hour = now.replace(minute=0, second=0, microsecond=0)
        for (tenant_id, at), spent in sorted((await spent_by_hour(tx, hour - HOUR)).items()):
            if spent <= rule.floor_nanousd:
                continue
            scope = f"tenant:{tenant_id}"
            usual = usual_hour(await closed_hours(tx, scope, at - WEEK, at))
            if usual is None or not spiked(
                spent, usual, factor=rule.factor, floor_nanousd=rule.floor_nanousd
            ):
                continue
            key = AlertKey(budget_id=scope, starts_at=at.replace(hour=0), kind="spike")
            facts = {
                "tenant_id": tenant_id,
                "starts_at": int(at.timestamp()),
                "spent_usd": dollars(spent),
                "usual_usd": dollars(usual),
                "factor": rule.factor,
            }
            found.setdefault(key, Alert(key=key, tenant_id=tenant_id, facts=facts))
    if not found:
        return 0
    async with store.write() as tx:
        return await tell_once(tx, found, tell, ids, await tx.now())
