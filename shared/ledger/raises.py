"""Raises of limits, as running processes hear of them: by a look now and then."""

from shared.clock import Clock
from shared.errors import StoreUnavailable
from shared.ledger.trader import Trader
from shared.store.engine import Store
from shared.store.raises import raised
from shared.telemetry.log import get_logger

log = get_logger("budgets")

LOOK_S = 1.0
"""How often a process looks; a trade with SQL sees them as they are in that moment."""


async def follow_raises(store: Store, clock: Clock, trader: Trader) -> None:
    """Tell the trader for ever by how much limits are higher; the last word stands in an outage."""
    failing = False
    while True:
        try:
            async with clock.timeout(LOOK_S), store.read() as tx:
                found = await raised(tx)
            trader.raise_limits(found)
            failing = False
        except (StoreUnavailable, TimeoutError) as error:
            if not failing:
                log.warning("budgets.raises_stale", why=str(error))
            failing = True
        except Exception:
            log.exception("budgets.failed")
        await clock.sleep(LOOK_S)
