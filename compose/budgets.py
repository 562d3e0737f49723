"""`sluiceway budgets`: how budgets stand, and raises of their limits, straight in the database."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from compose.admin import Span
from compose.console import table
from compose.opened import config_of
from compose.operate import done, print_json
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.ledger.report import ShownBudget
    from shared.store.engine import Store
    from shared.store.records import RaiseRow


@click.group()
def budgets() -> None:
    """Look at budgets, raise their limits for a while."""


@budgets.command("list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_budgets(tenant: str | None, *, as_json: bool) -> None:
    """List every budget of the config in its window of the moment; amounts are USD."""
    found = [one for one in done(_report) if tenant in {None, one.tenant}]
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no budgets in the config file", err=True)
    else:
        heads = ("ID", "SPENT", "HELD", "LEFT", "LIMIT", "RAISED", "RESETS", "AT LIMIT")
        table([heads, *(_cells(one) for one in found)])


@budgets.command("raise")
@click.argument("budget_id", metavar="ID")
@click.argument("amount_usd", metavar="USD")
@click.option("--for", "length", type=Span(), help="Such as 2h or 7d. Default: the window's end.")
@click.option("--reason", help="For whoever wonders.")
def raise_limit(
    budget_id: str, amount_usd: str, length: timedelta | None, reason: str | None
) -> None:
    """Raise a limit by so many USD; running processes hear of it within seconds."""

    async def work(store: "Store", settings: Settings) -> "RaiseRow":
        return await _raised(store, settings, budget_id, amount_usd, length, reason)

    row = done(work)
    click.echo(f"{row.id}: {budget_id} is higher until {row.expires_at:%Y-%m-%d %H:%M}Z")


@budgets.command("end")
@click.argument("budget_id", metavar="ID")
@click.argument("raise_id", metavar="RAISE_ID")
def end(budget_id: str, raise_id: str) -> None:
    """End a raise before its time."""

    async def work(store: "Store", _settings: Settings) -> None:
        from shared.jobs.raising import unraise_budget

        await unraise_budget(store, budget_id, raise_id)

    done(work)
    click.echo(f"ended {raise_id}")


async def _report(store: "Store", settings: Settings) -> "list[ShownBudget]":
    from shared.ledger.budgets import BudgetTable
    from shared.ledger.report import budgets_report

    return await budgets_report(store, BudgetTable(config_of(settings)))


async def _raised(
    store: "Store",
    settings: Settings,
    budget_id: str,
    amount_usd: str,
    length: timedelta | None,
    reason: str | None,
) -> "RaiseRow":
    from shared.ids import new_id
    from shared.jobs.raising import Raise, raise_budget
    from shared.ledger.budgets import BudgetTable
    from shared.queue.silent import SilentBell

    async with store.read() as tx:
        now = await tx.now()
    asked = Raise(
        amount_usd=amount_usd,
        expires_at=None if length is None else now + length,
        reason=reason,
    )
    found = BudgetTable(config_of(settings))
    return await raise_budget(store, SilentBell(), new_id, found, budget_id, asked)


def _cells(one: "ShownBudget") -> tuple[str, ...]:
    if one.each_user:
        return (one.id, "-", "-", "-", one.limit_usd, "-", "-", one.action)
    resets = f"{datetime.fromtimestamp(one.resets_at, UTC):%Y-%m-%d %H:%M}Z"
    raised = "-" if one.raised_usd == "0" else one.raised_usd
    return (
        one.id,
        one.spent_usd,
        one.held_usd,
        one.remaining_usd,
        one.limit_usd,
        raised,
        resets,
        one.action,
    )
