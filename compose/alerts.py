"""`sluiceway alerts`: what was told about money, and whether it would arrive."""

import asyncio
import os
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import click
import msgspec

from compose.console import FAILED, stop, table
from compose.opened import Opened, config_of
from shared.config.model import Config
from shared.settings import Settings, load_settings

if TYPE_CHECKING:
    from shared.store.told import ToldAlert
    from shared.webhooks.schedule import Outcome

_SAMPLE = {
    "tenant_id": None,
    "window": "month",
    "basis": "spent",
    "threshold": 80,
    "limit_usd": 50,
    "spent_usd": 40,
    "held_usd": 0,
    "test": True,
}


@click.group()
def alerts() -> None:
    """See what was told about money, and try out where it goes."""


@alerts.command("list")
@click.option("--budget", help="Only of this budget, such as tenant:acme/day.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_alerts(budget: str | None, limit: int, *, as_json: bool) -> None:
    """List what was told, newest first, and how its deliveries went."""
    with redirect_stdout(sys.stderr):
        settings = load_settings(os.environ)
        found = asyncio.run(_listed(settings, budget, limit))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    elif not found:
        click.echo("nothing was told", err=True)
    else:
        table([("TOLD AT", "OF", "KIND", "PERCENT", "DELIVERIES"), *map(_cells, found)])


@alerts.command()
def test() -> None:
    """Send a sample to each place that the config's `alerts` name; exit code 1: one failed."""
    with redirect_stdout(sys.stderr):
        settings = load_settings(os.environ)
        outcomes = asyncio.run(_tried(settings, config_of(settings)))
    if not outcomes:
        stop((), "the config's alerts name no place")
    table([("PLACE", "ANSWER"), *((place, _answer(one)) for place, one in outcomes)])
    if not all(one.delivered for _, one in outcomes):
        raise click.exceptions.Exit(FAILED)


async def _listed(settings: Settings, budget: str | None, limit: int) -> "list[ToldAlert]":
    from shared.store.told import told_alerts

    async with Opened(settings) as store, store.read() as tx:
        return await told_alerts(tx, budget_id=budget, limit=limit)


async def _tried(settings: Settings, config: Config) -> "list[tuple[str, Outcome]]":
    from shared.clock import SystemClock
    from shared.ids import new_id
    from shared.store.records import DeliveryRow
    from shared.webhooks.alerting import addresses
    from shared.webhooks.delivery import Post, deliver, rooms_of
    from shared.webhooks.event import OPERATOR, THRESHOLD_REACHED, subject_event
    from shared.webhooks.signature import secret_for

    clock = SystemClock()
    event = subject_event(new_id("evt"), THRESHOLD_REACHED, "test/month", clock.now(), _SAMPLE)
    own = secret_for("alerts", settings.secret_key.reveal())
    secret = config.alerts.webhook_secret or own
    post = Post(alerts=rooms_of(config.alerts))
    outcomes = []
    for address in addresses(config.alerts):
        delivery = DeliveryRow(
            id=new_id("dlv"),
            event_id=event.id,
            tenant_id=OPERATOR,
            url=address,
            status="delivering",
            event_type=event.type,
            body=event.body,
        )
        outcome = await deliver(delivery, post, secrets=[secret], clock=clock)
        outcomes.append((address.removeprefix("alerts:"), outcome))
    return outcomes


def _cells(told: "ToldAlert") -> tuple[str, ...]:
    deliveries = (
        f"{one.place} {one.status}" + (f" ({one.attempts} tries)" if one.attempts > 1 else "")
        for one in told.deliveries
    )
    return (
        f"{told.created_at:%Y-%m-%d %H:%M}",
        told.budget_id,
        told.kind,
        str(told.threshold or ""),
        ", ".join(deliveries) or "nobody asked for it",
    )


def _answer(outcome: "Outcome") -> str:
    if outcome.error is not None:
        return outcome.error
    head = outcome.answer_head.decode(errors="replace").split("\n")[0][:72]
    return f"{outcome.status_code} {head}".rstrip()
