"""What was used, drawn: a table whose bars compare the groups."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from compose.console import say
from compose.terminal import open_terminal
from shared.ledger.usage_report import PAGE, Report, words_of
from shared.store.usage import GroupTotals

BAR = 24
"""Characters of the longest bar."""
SHORTEST_BAR = 6
NARROW = 12
"""Characters that a group's name keeps when there is no room."""
WIDE = 160
"""Characters of a line that goes to no terminal."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_NANOUSD = Decimal(10) ** 9
_PLAIN = 10_000
_DAY_US = timedelta(days=1) // timedelta(microseconds=1)
_NOTHING = "-"


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """What a table shows: groups, and the totals of all of them."""

    report: Report
    rows: list[GroupTotals]
    totals: GroupTotals


def draw(drawing: Drawing) -> None:
    """Print the table; days on which nothing was used are shown as such."""
    if not drawing.rows:
        say("note", ["nothing was used"])
        return
    terminal = open_terminal()
    if not terminal.is_terminal:
        terminal.width = WIDE
    fine = (terminal.encoding or "").lower().startswith("utf")
    terminal.print(table_of(drawing, width=terminal.width, fine=fine))
    if len(drawing.rows) == PAGE:
        say("note", [f"only the first {PAGE} groups; --csv and --json have all"])


def table_of(drawing: Drawing, *, width: int, fine: bool) -> Table:
    """Return the table for so many characters a line.

    Its bars compare costs, or tokens where nothing has a cost. Without `fine` they are ASCII.
    """
    report, rows = drawing.report, list(_gapless(drawing.report, drawing.rows))
    cells = [_cells(report, row, drawing.totals) for row in rows]
    names = ("Total", *("" for _ in report.groups[1:])) if report.groups else ()
    totals = [*names, *_counts(drawing.totals, drawing.totals)]
    heads = [*(group.capitalize() for group in report.groups), *_heads(drawing.totals)]
    widths = [max(map(len, column)) for column in zip(heads, *cells, totals, strict=True)]
    room = min(BAR, width - sum(widths) - 2 * len(widths) - 3)
    table = _empty_table(drawing)
    for place, (head, wide) in enumerate(zip(heads, widths, strict=True)):
        if place < len(report.groups):
            table.add_column(head, overflow="fold", min_width=min(wide, NARROW))
        else:
            table.add_column(head, justify="right", no_wrap=True, min_width=wide)
    if has_bars := room >= SHORTEST_BAR:
        table.add_column("", width=room, no_wrap=True)
    by_cost = any(row.cost_nanousd > 0 for row in rows)
    lengths = [
        row.cost_nanousd if by_cost else row.input_tokens + row.output_tokens for row in rows
    ]
    for line, length in zip(cells, lengths, strict=True):
        drawn = [Text(bar(length, max(lengths), room, fine=fine), "cyan")] if has_bars else []
        table.add_row(*map(Text, line), *drawn)
    if report.groups:
        table.add_section()
        table.add_row(*map(Text, totals), style="bold")
    return table


def _empty_table(drawing: Drawing) -> Table:
    asked, zone = drawing.report.asked, drawing.report.timezone
    since, until = (
        f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}"
        for moment in (asked.since, asked.until)
    )
    marks = []
    if drawing.totals.unpriced_attempts:
        marks.append("? without the attempts whose price is unknown")
    if drawing.totals.estimated_attempts:
        marks.append("~ partly estimated")
    table = Table(box=box.SIMPLE_HEAD, title=f"Used from {since} to {until}, {zone}")
    table.padding = (0, 1, 0, 0)
    table.title_style, table.title_justify = "bold", "left"
    table.caption, table.caption_justify = "\n".join(marks) or None, "left"
    return table


def bar(length: int, longest: int, width: int, *, fine: bool) -> str:
    """Return a bar of up to `width` characters, in eighths of one where the terminal can."""
    if length <= 0 or longest <= 0:
        return ""
    eighths = max(1, length * width * 8 // longest)
    if not fine:
        return "#" * max(1, eighths // 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _heads(totals: GroupTotals) -> list[str]:
    return ["Requests", "Input", "Output", "Cost", *(["Saved"] if totals.saved_nanousd else [])]


def _cells(report: Report, row: GroupTotals, totals: GroupTotals) -> list[str]:
    return [*(word or _NOTHING for word in words_of(report, row).values()), *_counts(row, totals)]


def _counts(row: GroupTotals, totals: GroupTotals) -> list[str]:
    """Return the figures; money to as many places as the totals call for."""
    places = _places(max(totals.cost_nanousd, totals.saved_nanousd or 0))
    unsure = "?" if row.unpriced_attempts else "~" if row.estimated_attempts else ""
    cost = f"{unsure}{_dollars(row.cost_nanousd, places)}"
    cells = [f"{row.requests:,}", short(row.input_tokens), short(row.output_tokens), cost]
    if totals.saved_nanousd:
        saved = row.saved_nanousd
        cells.append(_NOTHING if saved is None else _dollars(saved, places))
    return cells


def _places(nanousd: int) -> int:
    return 2 if nanousd >= 100 * _NANOUSD else 4 if nanousd >= _NANOUSD else 6


def _dollars(nanousd: int, places: int) -> str:
    return f"${nanousd / _NANOUSD:,.{places}f}"


def short(count: int) -> str:
    """Return a count in few characters: 9,999, 12.3k, 4.56M."""
    if count < _PLAIN:
        return f"{count:,}"
    unit = min(3, (len(str(count)) - 1) // 3)
    hundredths = count * 100 // 1000**unit  # rounded down: 999k never looks like 1000k
    return f"{hundredths / 100:.2f}"[:4].rstrip(".") + " kMG"[unit]


def _gapless(report: Report, rows: Sequence[GroupTotals]) -> Iterator[GroupTotals]:
    """Yield the groups, of days by themselves also those between on which nothing was used."""
    before: int | None = None
    for row in rows:
        if report.groups == ("day",):
            day = int(row.key[0])
            while before is not None and before + _DAY_US < day:
                before += _DAY_US
                yield _empty(row, before)
            before = day
        yield row


def _empty(like: GroupTotals, day: int) -> GroupTotals:
    zeros = {
        name: 0
        for name in like.__struct_fields__
        if name != "key" and getattr(like, name) is not None
    }
    return msgspec.structs.replace(like, key=(day,), **zeros)
