"""Run the benchmark and print a table; exits 1 when the upstream is too slow to judge by."""

import asyncio
import os
import statistics
import sys

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench import chunks, features, jobs
from tests.bench.load import Figures, load, percentile_ms, request_bytes
from tests.bench.machine import cpu_s, memory_mb, pin
from tests.bench.stack import CONFIG, KEY, gateway, process
from tests.services import run_redis

REPEATS = 3
LENGTH_S = 3.0
LEAST_RATIO = 5.0
"""How much faster the bare upstream must be, so that the figures are the gateway's own."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of one case. CPU is of the process tree that serves it.

    `gap_ms`: between two reads of a stream, at the median and the 99th percentile.
    """

    name: str
    per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    gap_ms: tuple[float, float] | None


def measured(name: str, pid: int, port: int, *, connections: int, stream: bool) -> Row:
    """Return the medians of a case; prints each repeat as it ends."""
    request = request_bytes("/v1/chat/completions", KEY, stream=stream)
    runs: list[tuple[Figures, float]] = []
    for _ in range(REPEATS):
        before_s = cpu_s(pid)
        figures = asyncio.run(
            load(port, request, connections=connections, length_s=LENGTH_S, stream=stream)
        )
        spent_us = (cpu_s(pid) - before_s) * 1e6
        if figures.errors:
            sys.exit(f"{name}: {figures.errors} of {figures.calls} calls failed")
        units = figures.events if stream else figures.calls
        runs.append((figures, spent_us / units))
        print(f"  {name}: {figures.per_second:,.0f} calls/s, {spent_us / units:.1f} µs", flush=True)
    return Row(
        name=name,
        per_second=statistics.median(figures.per_second for figures, _ in runs),
        cpu_us=statistics.median(cost for _, cost in runs),
        p50_ms=statistics.median(figures.percentile_ms(0.5) for figures, _ in runs),
        p99_ms=statistics.median(figures.percentile_ms(0.99) for figures, _ in runs),
        gap_ms=(_gap_ms(runs, 0.5), _gap_ms(runs, 0.99)) if stream else None,
    )


def _gap_ms(runs: list[tuple[Figures, float]], share: float) -> float:
    return statistics.median(percentile_ms(figures.gaps_s, share) for figures, _ in runs)


def main() -> int:
    """Measure whole answers and streams, direct and through the gateway."""
    uvloop.install()
    cores = sorted(os.sched_getaffinity(0))
    pin(cores[-1])
    with process([sys.executable, "-m", "tests.bench.upstream"], cores[-1]) as upstream:
        assert upstream.stdout is not None
        direct_port = int(upstream.stdout.readline())
        with (
            run_redis() as redis,
            gateway(CONFIG.format(port=direct_port, key=KEY), redis.url, cores[0]) as (
                child,
                port,
                start_s,
            ),
        ):
            idle_mb = memory_mb(child.pid)
            measured("warm-up", child.pid, port, connections=16, stream=False)
            rows = []
            for stream, connections in ((False, 1), (False, 64), (True, 16)):
                kind = "stream event" if stream else "call"
                for name, pid, at in (
                    ("upstream", upstream.pid, direct_port),
                    ("gateway", child.pid, port),
                ):
                    label = f"{name}, {kind}, c={connections}"
                    rows.append(measured(label, pid, at, connections=connections, stream=stream))
            busy_mb = memory_mb(child.pid)
            judged = report(rows, start_s, idle_mb, busy_mb)
        judged = features.main(direct_port, cores[0]) or judged
    judged = jobs.main(cores[0]) or judged
    return chunks.main() or judged


def report(rows: list[Row], start_s: float, idle_mb: float, busy_mb: float) -> int:
    """Print the table; return 1 when the upstream was not fast enough."""
    table = Table(title="Sluiceway against its bare upstream, one core each")
    for column in ("case", "calls/s", "CPU µs each", "p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.per_second:,.0f}",
            f"{row.cpu_us:.1f}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
        )
    direct, through = rows[2], rows[3]
    ratio = direct.per_second / through.per_second
    console = Console(width=100)
    console.print(table)
    console.print(
        f"start to ready: {start_s:.2f} s; memory: {idle_mb:.0f} MB, {busy_mb:.0f} MB after"
    )
    console.print(
        f"per call at 64 connections: {through.cpu_us:.0f} µs CPU; the bare upstream is "
        f"{ratio:.1f} x faster ({LEAST_RATIO:.0f} x needed) at {direct.cpu_us:.1f} µs"
    )
    console.print(
        f"per stream event at 16 connections: {rows[5].cpu_us:.1f} µs CPU; a caller reads every "
        f"{_span(rows[5])} ms, straight from the upstream every {_span(rows[4])}"
    )
    console.print("with limits in Redis, a budget, books, metrics and access lines on")
    return 0 if ratio >= LEAST_RATIO else 1


def _span(row: Row) -> str:
    assert row.gap_ms is not None
    return f"{row.gap_ms[0]:.1f} (p99 {row.gap_ms[1]:.1f})"


if __name__ == "__main__":
    sys.exit(main())
