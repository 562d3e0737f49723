"""Has told that windows of budgets have begun anew, where the one before was used."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from shared.ids import IdMaker
from shared.ledger.alerts import FULL
from shared.ledger.budgets import BudgetTable
from shared.ledger.cost import usd_text
from shared.ledger.rule import BudgetRule
from shared.ledger.telling import Tell
from shared.store.alerts import WindowSums, claim_alerts, told_of, used_windows
from shared.store.engine import Store
from shared.store.records import Alert, AlertKey, BudgetRef
from shared.store.windows import Mark, mark_of, set_mark

LOOK_BACK = timedelta(days=7)
"""After a longer stop, what began anew before is news to nobody."""

RESETS = "resets"
"""The mark of how far has been told."""


class ResetTellers(msgspec.Struct, frozen=True, kw_only=True):
    """`loud` tells of budgets that were exceeded, so that calls go again; `quiet` of the others."""

    loud: Tell
    quiet: Tell


async def tell_resets(store: Store, table: BudgetTable, tellers: ResetTellers, ids: IdMaker) -> int:
    """Tell of every window that has ended since the last time; return how many.

    The first time ever nothing has. Unique rows decide between two that do it at once.

    Raises:
        StoreUnavailable: what is left is told by the next.
    """
    async with store.read() as tx:
        now = await tx.now()
        mark = await mark_of(tx, RESETS)
    since = now if mark is None else max(mark.closed_until, now - LOOK_BACK)
    starts = _ended_starts(table, since, now)
    count, after = 0, None
    while starts:
        async with store.read() as tx:
            page = await used_windows(tx, starts, after)
        if not page:
            break
        after = page[-1][0]
        ended = {
            (ref, rule): sums
            for ref, sums in page
            if (rule := table.rule(ref.budget_id)) is not None
            and since < rule.period_at(ref.starts_at).ends_at <= now
        }
        count += await _tell(store, ended.items(), tellers, ids)
    async with store.write() as tx:
        await set_mark(tx, RESETS, Mark(closed_until=now, checked_at=now))
    return count


def _ended_starts(table: BudgetTable, since: datetime, now: datetime) -> frozenset[datetime]:
    """Return when the windows began that ended after `since` and by now."""
    rules = {
        (one.rule.window, one.rule.timezone, one.rule.starts_on): one.rule for one in table.bindings
    }
    starts: set[datetime] = set()
    for rule in rules.values():
        period = rule.period_at(since)
        while period.ends_at <= now:
            starts.add(period.starts_at)
            period = rule.period_at(period.ends_at)
    return frozenset(starts)


async def _tell(
    store: Store,
    ended: Iterable[tuple[tuple[BudgetRef, BudgetRule], WindowSums]],
    tellers: ResetTellers,
    ids: IdMaker,
) -> int:
    alerts = {(alert := _alert(ref, rule, sums)).key: (ref, alert) for (ref, rule), sums in ended}
    if not alerts:
        return 0
    async with store.write() as tx:
        now = await tx.now()
        told = await told_of(tx, [ref for ref, _ in alerts.values()])
        event_ids = {key: ids("evt") for key in alerts}
        won = await claim_alerts(tx, event_ids, now)
        for key in won:
            ref, alert = alerts[key]
            exceeded = ("exceeded", FULL) in told[ref]
            tell = tellers.loud if exceeded else tellers.quiet
            await tell(tx, alert, event_ids[key], now)
    return len(won)


def _alert(ref: BudgetRef, rule: BudgetRule, sums: WindowSums) -> Alert:
    period = rule.period_at(rule.period_at(ref.starts_at).ends_at)
    return Alert(
        key=AlertKey(budget_id=ref.budget_id, starts_at=period.starts_at, kind="reset"),
        tenant_id=rule.tenant_id,
        facts={
            "tenant_id": rule.tenant_id,
            "window": rule.window,
            "starts_at": int(period.starts_at.timestamp()),
            "resets_at": int(period.ends_at.timestamp()),
            "action": "reject" if rule.rejects else "warn",
            "limit_usd": _usd(rule.limit_nanousd),
            "last_spent_usd": _usd(sums.settled_nanousd),
        },
    )


def _usd(nanousd: int) -> msgspec.Raw:
    return msgspec.Raw(usd_text(nanousd).encode())
