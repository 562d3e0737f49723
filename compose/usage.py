"""`sluiceway usage`: what was used, as a table with bars, JSON or CSV, from the database."""

import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, BinaryIO
from zoneinfo import ZoneInfo

import click

from compose.admin import Span
from compose.opened import config_of
from compose.operate import done

if TYPE_CHECKING:
    from compose.usage_table import Drawing
    from shared.ledger.usage_report import Report
    from shared.settings import Settings
    from shared.store.engine import Store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@click.command()
@click.option("--since", default="30d", show_default=True, help="7d, 12h, a day, or a moment.")
@click.option("--until", help="A day or a moment. Default: now.")
@click.option(
    "--group-by",
    default="day",
    show_default=True,
    help="Such as day,model: of day, hour, tenant, key, user, route, provider, model, tag, "
    "tag:NAME and batch up to four.",
)
@click.option("--timezone", help="Whose days. Default: the tenant's or billing's.")
@click.option("--tenant", help="Only of this tenant.")
@click.option("--key", help="Only of the key with this id.")
@click.option("--user", help="Only of this user.")
@click.option("--route", help="Only of this route.")
@click.option("--provider", help="Only of this provider.")
@click.option("--model", help="Only of this upstream model.")
@click.option("--batch", help="Only of this batch.")
@click.option("--tag", help="Only with this tag: name=value.")
@click.option("--csv", "form", flag_value="csv", help="For spreadsheets.")
@click.option("--json", "form", flag_value="json", help="For programs.")
def usage(
    since: str,
    until: str | None,
    group_by: str,
    timezone: str | None,
    form: str | None,
    **only: str | None,
) -> None:
    """Show what was used and what it cost, in groups, with a bar for each."""
    out = sys.stdout.buffer

    async def work(store: "Store", settings: "Settings") -> "Drawing | None":
        report = await _report(store, settings, (since, until), group_by, timezone, only)
        if form is None:
            return await _drawing(store, report)
        await _write(store, report, form, out)
        return None

    drawing = done(work)
    if drawing is not None:
        from compose.usage_table import draw

        draw(drawing)


async def _drawing(store: "Store", report: "Report") -> "Drawing":
    from compose.usage_table import Drawing
    from shared.ledger.usage_report import page_of, totals_of

    async with store.read() as tx:
        totals = await totals_of(tx, report.asked)
    return Drawing(report=report, rows=await page_of(store, report, None), totals=totals)


async def _report(
    store: "Store",
    settings: "Settings",
    span: tuple[str, str | None],
    group_by: str,
    timezone: str | None,
    only: Mapping[str, str | None],
) -> "Report":
    from shared.ledger.usage_report import Report, checked_groups, checked_only, checked_timezone
    from shared.store.usage import Asked

    wanted = checked_only(only)
    zone = checked_timezone(timezone, config_of(settings), wanted.get("tenant"))
    async with store.read() as tx:
        now = await tx.now()
    since, until = span
    end = now if until is None else _moment(until, zone, "until")
    asked = Asked(since=_since(since, zone, end), until=end, only=wanted)
    return Report(asked=asked, groups=checked_groups(group_by), timezone=zone)


def _since(text: str, zone: str, end: datetime) -> datetime:
    """Return the moment, or that of a length before the end."""
    try:
        return max(end - Span().convert(text, None, None), _EPOCH)
    except click.BadParameter:
        return _moment(text, zone, "since")
    except OverflowError:
        return _EPOCH


def _moment(text: str, zone: str, param: str) -> datetime:
    """Return a moment, or the midnight of the zone at which a day begins."""
    from shared.jobs.terms import moment

    try:
        day = date.fromisoformat(text)
    except ValueError:
        return max(moment(text, param), _EPOCH)
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return max(midnight, _EPOCH).astimezone(UTC)


async def _write(store: "Store", report: "Report", form: str, out: BinaryIO) -> None:
    """Write the whole report, page by page."""
    from shared.ledger.usage_report import as_csv, as_json, head_of, pages_of

    if form == "csv":
        pieces = as_csv(report, pages_of(store, report))
    else:
        async with store.read() as tx:
            head = await head_of(tx, report)
        pieces = as_json(head, report, pages_of(store, report))
    async for piece in pieces:
        out.write(piece)
    out.write(b"\n" if form == "json" else b"")
    out.flush()
