"""`sluiceway ledger`: whether the books agree, and putting a cost right, in the database."""

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

import click

from compose.admin import Span
from compose.console import FAILED, counted, stop
from compose.opened import config_of
from compose.operate import done, print_json

if TYPE_CHECKING:
    from shared.config.model import Config
    from shared.ledger.adjust import Account
    from shared.ledger.verify import Priced, Report
    from shared.settings import Settings
    from shared.store.engine import Store


@click.group()
def ledger() -> None:
    """Prove that the books agree, correct what a call cost."""


@ledger.command()
@click.option("--since", help="7d, 12h, a day, or a moment. Default: all there is.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def verify(since: str | None, *, as_json: bool) -> None:
    """Compare the ledger with jobs, batches, windows, budgets, grants, alerts and prices.

    Prints a line for each fault; exit code 1 when there is one. Nothing is changed, and processes
    may go on meanwhile.
    """

    async def work(store: "Store", settings: "Settings") -> "Report":
        from shared.ledger.verify import verify as verified

        async with store.read() as tx:
            begin = None if since is None else _since(since, await tx.now())
        config = config_of(settings)
        return await verified(
            store,
            config,
            since=begin,
            priced=_prices(config),
            spool_dir=settings.data_dir / "spool",
        )

    report = done(work)
    if as_json:
        print_json({"rows": report.rows, "faults": report.faults})
    for fault in () if as_json else report.faults:
        click.echo(str(fault))
    compared = f"compared {counted(report.rows, 'row')}"
    if report.faults:
        stop((), f"{compared}: {counted(len(report.faults), 'fault')}", code=FAILED)
    click.echo(f"{compared}: the books agree", err=True)


@ledger.command()
@click.argument("attempt_id", metavar="ATTEMPT_ID")
@click.option("--usd", "cost_usd", required=True, help="What to add, such as -0.25.")
@click.option("--reason", required=True, help="Why; it is kept.")
@click.option("--key", help="Whoever asks again with the same key changes nothing.")
def adjust(attempt_id: str, cost_usd: str, reason: str, key: str | None) -> None:
    """Correct what a call cost, by a row of its own."""
    try:
        amount = Decimal(cost_usd)
    except InvalidOperation:
        stop((), "--usd must be an amount such as -0.25", code=FAILED)

    async def work(store: "Store", _settings: "Settings") -> "tuple[Account, str]":
        from shared.ids import new_id
        from shared.ledger.adjust import Adjustment
        from shared.ledger.adjust import adjust as adjusted

        asked = Adjustment(attempt_id=attempt_id, cost_usd=amount, reason=reason)
        account, row = await adjusted(store, new_id, asked, key=key)
        return account, row.attempt_id

    account, own_id = done(work)
    from shared.ledger.cost import usd_text

    click.echo(f"{own_id}: {attempt_id} costs {usd_text(account.net_nanousd)} USD now")


def _since(text: str, now: datetime) -> datetime:
    """Return a length before now, a UTC day's beginning, or a moment."""
    from shared.jobs.terms import moment

    try:
        return now - Span().convert(text, None, None)
    except (click.BadParameter, OverflowError):
        pass
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return moment(text, "since")
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _prices(config: "Config") -> "Priced":
    """Return what finds the config's own prices, by provider and version."""
    from shared.clock import SystemClock
    from shared.gateway.catalog import Catalog
    from shared.ledger.rates import CONFIG

    catalog = Catalog(config, SystemClock().now())
    routes = catalog.routes
    every = [*routes.by_name.values(), *(route for _, route in routes.wildcards)]
    steps = [group[0] for route in every for group in route.choices]
    priced = [(one.target.provider, catalog.price(one.target, one.price)) for one in steps]
    known = {
        (provider, price.version): price
        for provider, price in priced
        if price is not None and price.source == CONFIG
    }
    return lambda provider, _model, version: known.get((provider, version))
