"""The ticks of spend windows and budgets' windows; they need the config, so they are made with it.

Any of them may run twice, at once, in two processes: unique rows decide.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from shared.config.model import Config
from shared.ids import IdMaker
from shared.ledger.budgets import BudgetTable
from shared.ledger.closings import closing_facts, closing_id
from shared.ledger.drift import Difference, grant_differences, window_differences
from shared.ledger.resets import ResetTellers
from shared.ledger.resets import tell_resets as tell_resets_in
from shared.ledger.verify import budget_differences
from shared.ledger.windows import calendar_of, hour_of
from shared.ledger.windows import close_windows as close_windows_in
from shared.queue.bell import Bell
from shared.queue.tasks import DELIVERIES
from shared.store.endpoints import subscribed_tenants
from shared.store.engine import Store, Tx
from shared.store.records import WindowRow
from shared.store.retention import AT_ONCE, prune
from shared.store.windows import HOUR, TENANT, Mark, mark_of, set_mark
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import LEDGER_DIFFERENCES, LEDGER_DRIFT, WINDOWS_CLOSED
from shared.webhooks.alerting import Teller, addresses
from shared.webhooks.emit import emit
from shared.webhooks.event import OPERATOR, WINDOW_CLOSED, subject_event

Task = Callable[[Store, Bell, IdMaker], Awaitable[int]]

COMPARED = "compared"
"""The mark of when books were compared."""

COMPARED_H = 25
"""How far back they are: an hour is looked at again for a day, for what comes in late."""

SLICE_H = 5
"""Hours compared in one transaction: none may be long."""

TOLD_AT_MOST = 20
"""Differences of one comparison that are logged."""

log = get_logger("ledger")


def windows_closer(config: Config) -> Task:
    """Return the tick that closes spend windows."""
    calendar, told = calendar_of(config), frozenset[str](config.billing.tell)

    async def close_windows(store: Store, bell: Bell, ids: IdMaker) -> int:
        """Close the hours, days, weeks and months that have ended; return how many rows it took."""

        async def tell(tx: Tx, rows: Sequence[WindowRow]) -> None:
            for row in rows:
                WINDOWS_CLOSED.labels(row.window, "late" if row.sequence else "closed").inc()
            await _tell_closed(tx, [row for row in rows if row.window in told], ids)

        count = await close_windows_in(store, calendar, tell)
        if count:
            bell.ring(DELIVERIES)
        return count

    return close_windows


async def _tell_closed(tx: Tx, rows: Sequence[WindowRow], ids: IdMaker) -> None:
    """Tell each tenant of its own rows, and the operator of all."""
    if not rows:
        return
    listening = await subscribed_tenants(tx, WINDOW_CLOSED)
    now = await tx.now()
    for row in rows:
        for tenant_id in sorted(listening & {row.scope.removeprefix(TENANT), OPERATOR}):
            event = subject_event(
                ids("evt"), WINDOW_CLOSED, closing_id(row), now, closing_facts(row)
            )
            await emit(tx, event, tenant_id=tenant_id, ids=ids, at=now)


def resets_teller(config: Config) -> Task:
    """Return the tick that tells when budgets begin anew."""
    table, urls = BudgetTable(config), addresses(config.alerts)

    async def tell_resets(store: Store, bell: Bell, ids: IdMaker) -> int:
        """Tell of the budgets' windows that have begun since the last time; return how many."""
        if not table:
            return 0
        tellers = ResetTellers(loud=Teller(ids=ids, urls=urls), quiet=Teller(ids=ids))
        told = await tell_resets_in(store, table, tellers, ids)
        if told:
            bell.ring(DELIVERIES)
        return told

    return tell_resets


def windows_pruner(config: Config) -> Task:
    """Return the tick that forgets old windows."""
    keep = timedelta(days=config.billing.keep_days)

    async def prune_windows(store: Store, _bell: Bell, _ids: IdMaker) -> int:
        """Forget hours, budgets' windows, alerts and raises of long ago; return how many."""
        count = 0
        while True:
            async with store.write() as tx:
                pruned = await prune(tx, await tx.now(), keep)
            count += pruned
            if pruned < AT_ONCE:
                return count

    return prune_windows


async def compare_books(store: Store, _bell: Bell, _ids: IdMaker) -> int:
    """Compare windows and budgets with what they are made of, once an hour; return the faults.

    That is what lies in the last day; `sluiceway ledger verify` goes further back.
    """
    async with store.read() as tx:
        now = await tx.now()
        mark = await mark_of(tx, COMPARED)
        closed = await mark_of(tx, "hour")
    if mark is not None and hour_of(now) <= mark.closed_until:
        return 0
    async with store.write() as tx:  # first: what is too slow must not be tried every minute
        await set_mark(tx, COMPARED, Mark(closed_until=hour_of(now), checked_at=now))
    found: list[Difference] = []
    for back in range(COMPARED_H if closed is not None else 0, 0, -SLICE_H):
        since = hour_of(now) - back * HOUR
        async with store.read() as tx:
            found += await window_differences(tx, since, since + SLICE_H * HOUR)
    async with store.read() as tx:
        found += await grant_differences(tx)
    async with store.read() as tx:
        found += await budget_differences(tx, now - COMPARED_H * HOUR)
    _publish(found)
    return len(found)


def _publish(found: Sequence[Difference]) -> None:
    for what in ("hour", "day", "week", "month", "granted", "settled"):
        mine = [one for one in found if one.what == what]
        LEDGER_DRIFT.labels(what).set(sum(one.nanousd for one in mine))
        LEDGER_DIFFERENCES.labels(what).set(len(mine))
    for one in found[:TOLD_AT_MOST]:
        log.error(
            "ledger.drift",
            what=one.what,
            subject=one.subject,
            starts_at=one.starts_at.isoformat(),
            name=one.name,
            expected=one.expected,
            found=one.found,
        )
