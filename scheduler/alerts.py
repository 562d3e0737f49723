"""The ticks that tell of money; they need the config, so they are made with it.

They are the safety net: what books on their way into SQL should tell, and did not. Any of them may
run twice, at once, in two processes: unique rows decide who tells.
"""

from collections.abc import Awaitable, Callable

from shared.clock import SystemClock
from shared.config.model import Config
from shared.ids import IdMaker
from shared.ledger.budgets import BudgetTable
from shared.ledger.spikes import spike_rule
from shared.ledger.spikes import tell_spikes as tell_spikes_in
from shared.ledger.watch import BudgetWatch
from shared.queue.bell import Bell
from shared.queue.tasks import DELIVERIES
from shared.store.engine import Store
from shared.webhooks.alerting import Teller, addresses

Task = Callable[[Store, Bell, IdMaker], Awaitable[int]]


def budgets_teller(config: Config) -> Task:
    """Return the tick that sweeps the budgets' open windows."""
    table, urls = BudgetTable(config), addresses(config.alerts)

    async def tell_budgets(store: Store, bell: Bell, ids: IdMaker) -> int:
        """Tell every threshold that was reached and not told; return how many."""
        if not table:
            return 0
        watch = BudgetWatch(table.rule, Teller(ids=ids, urls=urls), SystemClock(), ids)
        told = await watch.sweep(store, config)
        if told:
            bell.ring(DELIVERIES)
        return told

    return tell_budgets


def spikes_teller(config: Config) -> Task:
    """Return the tick that looks for tenants that spend far more than usual."""
    rule, urls = spike_rule(config), addresses(config.alerts)

    async def tell_spikes(store: Store, bell: Bell, ids: IdMaker) -> int:
        """Tell the spikes that were not told; return how many."""
        if rule is None:
            return 0
        told = await tell_spikes_in(store, rule, Teller(ids=ids, urls=urls), ids)
        if told:
            bell.ring(DELIVERIES)
        return told

    return tell_spikes
