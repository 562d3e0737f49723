"""`sluiceway usage`: what was used, from a shell."""

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from rich.console import Console

from compose.cli import main
from compose.usage_table import BAR, Drawing, bar, short, table_of
from shared.ledger.usage_report import Report
from shared.settings import VARIABLES
from shared.store.cache_hits import CacheHits, add_cache_hits
from shared.store.engine import open_store
from shared.store.ledger import insert_ledger
from shared.store.usage import Asked, GroupTotals
from tests.contract.store.makers import make_row

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
SPAN = ("--since", "2026-03-01", "--until", "2026-04-01")
DAY = timedelta(days=1)
DOLLAR = 1_000_000_000
ROWS = (
    make_row("a", ended_at=NOON, cost_nanousd=2 * DOLLAR, user="bob"),
    make_row("b", ended_at=NOON + 3 * DAY, cost_nanousd=DOLLAR, model="x", user="=1"),
    make_row("c", ended_at=NOON + 3 * DAY, cost_nanousd=None, model="x", tenant_id="other"),
)
HITS = CacheHits(
    tenant_id="acme", starts_at=NOON, provider="p", model="pm", hits=1,
    input_tokens=1, output_tokens=1, saved_nanousd=DOLLAR // 2,
)  # fmt: skip


@pytest.fixture
def run(sqlite_url, tmp_path):
    """Run the command on a database with some rows."""

    async def fill():
        store = await open_store(sqlite_url)
        async with store.write() as tx:
            await insert_ledger(tx, ROWS)
            await add_cache_hits(tx, [HITS])
        await store.close()

    asyncio.run(fill())
    ours = dict.fromkeys(VARIABLES, "")
    env = {**ours, "SLUICEWAY_DATABASE_URL": sqlite_url, "SLUICEWAY_DATA_DIR": str(tmp_path)}

    def run(*arguments):
        return CliRunner().invoke(main, ["usage", *SPAN, *arguments], env=env)

    return run


def lines(result):
    assert 0 == result.exit_code, result.output
    return [line.split() for line in result.stdout.splitlines() if line.strip()]


def test_days_are_a_chart(run):
    """Also those on which nothing was used; what has no price is marked."""
    title, heads, _, *days, total, caption = lines(run())

    assert "Used from 2026-03-01 00:00 to 2026-04-01 00:00, UTC" == " ".join(title)
    assert ["Day", "Requests", "Input", "Output", "Cost", "Saved"] == heads
    assert [
        ["2026-03-05", "1", "10", "2", "$2.0000", "$0.5000", "█" * BAR],
        ["2026-03-06", "0", "0", "0", "$0.0000", "$0.0000"],
        ["2026-03-07", "0", "0", "0", "$0.0000", "$0.0000"],
        ["2026-03-08", "2", "20", "4", "?$1.0000", "$0.0000", "█" * (BAR // 2)],
    ] == days
    assert ["Total", "3", "30", "6", "?$3.0000", "$0.5000"] == total
    assert "? without the attempts whose price is unknown" == " ".join(caption)


def test_groups_and_filters(run):
    _, heads, _, *rows, total = lines(run("--group-by", "tenant,user", "--tenant", "acme"))

    assert ["Tenant", "User", "Requests"] == heads[:3]
    assert [["acme", "=1"], ["acme", "bob"]] == [row[:2] for row in rows]
    assert {"-"} == {row[-2] for row in rows}, "not known by user"
    assert ["$3.0000", "$0.5000"] == total[-2:]
    assert "nothing was used" in run("--key", "key_9").stderr


def test_programs_get_the_whole_report(run):
    as_csv = run("--group-by", "user", "--csv")
    as_json = json.loads(run("--group-by", "model", "--json").stdout)

    head, *rows = csv.reader(io.StringIO(as_csv.stdout_bytes.decode(), newline=""))
    assert "user" == head[0]
    assert ["", "'=1", "bob"] == [row[0] for row in rows]
    assert ("3", 3 * DOLLAR, ["pm", "x"]) == (
        as_json["cost_usd"], as_json["cost_nanousd"], [one["model"] for one in as_json["data"]],
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("--group-by", "colour"), ("--since", "yesterday"), ("--timezone", "Mars/Base"),
        ("--tag", "team"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_said(run, arguments):
    refused = run(*arguments)

    assert 1 == refused.exit_code
    assert "sluiceway: " in refused.stderr


@pytest.mark.parametrize("since", ["90000w", "1d", "0001-01-01", "2026-03-01T00:00:00Z"])
def test_spans(run, since):
    assert 0 == run("--since", since).exit_code


@pytest.mark.parametrize(
    ("length", "fine", "plain"),
    [(0, "", ""), (100, "█" * 24, "#" * 24), (50, "█" * 12, "#" * 12), (1, "▏", "#"),
     (51, "█" * 12 + "▏", "#" * 12)],
)  # fmt: skip
def test_bars(length, fine, plain):
    """Something is never nothing."""
    assert [fine, plain] == [bar(length, 100, BAR, fine=how) for how in (True, False)]


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (9_999, "9,999"), (10_000, "10.0k"), (999_999, "999k"), (1_234_567, "1.23M"),
     (20_345_678, "20.3M"), (5_000_000_000_000, "5000G")],
)  # fmt: skip
def test_counts_are_short(count, shown):
    assert shown == short(count)


@pytest.mark.parametrize("width", [80, 120])
def test_every_figure_is_legible_on_a_terminal(width):
    """Names fold and bars go before a figure is cut."""
    groups = [
        GroupTotals(
            key=("claude-sonnet-4-5-20250929", user), requests=12_345, attempts=1,
            input_tokens=123_456_789, output_tokens=9_999, cache_read_tokens=0,
            reasoning_tokens=0, cost_nanousd=123 * DOLLAR, unpriced_attempts=1,
            estimated_attempts=0, cache_hits=None, saved_nanousd=None,
        )
        for user in ("a very long name of some user", "")
    ]  # fmt: skip
    report = Report(asked=Asked(since=NOON, until=NOON + DAY), groups=("model", "user"))
    drawing = Drawing(report=report, rows=groups, totals=groups[0])
    out = io.StringIO()

    Console(file=out, width=width).print(table_of(drawing, width=width, fine=True))

    assert 3 == out.getvalue().count("12,345   123M   9,999  ?$123.00")
    assert "…" not in out.getvalue()
    assert ("█" in out.getvalue()) == (width >= 120)
