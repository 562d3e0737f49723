"""Raising a budget's limit for a while; jobs that wait for its money are tried again."""

from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

import msgspec

from shared.errors import InvalidRequest, NotFound
from shared.ids import IdMaker
from shared.jobs.verdict import BUDGET
from shared.ledger.budgets import BudgetTable
from shared.ledger.cost import NANOUSD_PER_USD
from shared.ledger.rule import BudgetRule
from shared.queue.bell import Bell
from shared.queue.tasks import CLASSES, jobs_topic
from shared.store.engine import Store
from shared.store.oversight import queue_waiting
from shared.store.raises import end_raise, insert_raise, list_raises
from shared.store.records import RaiseRow
from shared.telemetry.log import get_logger

MOST_USD = 1_000_000_000
LONGEST = timedelta(days=366)
LONGEST_REASON = 500
AT_ONCE = 1_000
"""Waiting jobs that one raise wakes; the others wait for their moment."""

log = get_logger("budgets")


class Raise(msgspec.Struct, frozen=True, kw_only=True):
    """By how much, and until when; None: until the budget's window ends."""

    amount_usd: str
    expires_at: datetime | None = None
    reason: str | None = None


async def raise_budget(
    store: Store, bell: Bell, ids: IdMaker, table: BudgetTable, budget_id: str, asked: Raise
) -> RaiseRow:
    """Raise the limit of a budget from now on; running processes hear of it within seconds.

    Raises:
        NotFound: the config has no such budget.
        InvalidRequest: the amount or the moment cannot be.
    """
    rule = rule_named(table, budget_id)
    amount = _nanousd(asked.amount_usd)
    if asked.reason is not None and len(asked.reason) > LONGEST_REASON:
        why = f"reason must have at most {LONGEST_REASON} characters."
        raise InvalidRequest(why, param="reason")
    async with store.write() as tx:
        now = await tx.now()
        row = RaiseRow(
            id=ids("raise"),
            budget_id=rule.budget_id,
            amount_nanousd=amount,
            reason=asked.reason,
            created_at=now,
            expires_at=asked.expires_at or rule.period_at(now).ends_at,
        )
        if not now < row.expires_at <= now + LONGEST:
            why = "expires_at must lie ahead, by a year at most."
            raise InvalidRequest(why, param="expires_at")
        others = sum(one.amount_nanousd for one in await list_raises(tx, [rule.budget_id]))
        if others + amount > MOST_USD * NANOUSD_PER_USD:
            why = f"All raises of a budget together are at most {MOST_USD} USD."
            raise InvalidRequest(why, param="amount_usd")
        await insert_raise(tx, row)
        woken = await queue_waiting(tx, BUDGET, rule.tenant_id, AT_ONCE)
    for priority in CLASSES if woken else ():
        bell.ring(jobs_topic(priority))
    log.info("budget.raised", budget_id=budget_id, amount_usd=asked.amount_usd, jobs_woken=woken)
    return row


async def raises_of(store: Store, table: BudgetTable, budget_id: str) -> list[RaiseRow]:
    """Return the raises of a budget that count now, oldest first.

    Raises:
        NotFound: the config has no such budget.
    """
    rule = rule_named(table, budget_id)
    async with store.read() as tx:
        return await list_raises(tx, [rule.budget_id])


async def unraise_budget(store: Store, budget_id: str, raise_id: str) -> None:
    """End a raise now; what was lent by it already is not taken back.

    Raises:
        NotFound: the budget has no such raise that counts.
    """
    async with store.write() as tx:
        if not await end_raise(tx, budget_id, raise_id):
            raise NotFound(f"The budget '{budget_id}' has no raise '{raise_id}' that counts.")
    log.info("budget.lowered", budget_id=budget_id, raise_id=raise_id)


def rule_named(table: BudgetTable, budget_id: str) -> BudgetRule:
    """Return the budget of that id.

    Raises:
        NotFound: the config has none. A template for users is no budget either.
    """
    rule = table.rule(budget_id)
    if rule is None:
        raise NotFound(f"No budget '{budget_id}'; see GET /admin/budgets.")
    return rule


def _nanousd(text: str) -> int:
    wrong = InvalidRequest(
        f"amount_usd must be an amount such as 2.50, more than 0 and at most {MOST_USD}, with at "
        "most 9 decimal places.",
        param="amount_usd",
    )
    try:
        amount = Decimal(text) * NANOUSD_PER_USD
    except InvalidOperation:
        raise wrong from None
    if not amount.is_finite() or not 0 < amount <= MOST_USD * NANOUSD_PER_USD:
        raise wrong
    if amount != int(amount):
        raise wrong
    return int(amount)
