"""Run the benchmark and print a table; exits 1 when the upstream is too slow to judge by."""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench import chunks
from tests.bench.load import Figures, load, request_bytes
from tests.bench.machine import cpu_s, memory_mb, pin
from tests.services import run_redis

REPEATS = 3
LENGTH_S = 3.0
LEAST_RATIO = 5.0
"""How much faster the bare upstream must be, so that the figures are the gateway's own."""

KEY = "sk-bench-0123456789abcdef"
CONFIG = """
version: 1
providers:
  up: {{kind: openai_compatible, base_url: "http://127.0.0.1:{port}/v1", api_key: none}}
routes:
  - model: bench
    targets: [{{provider: up, model: bench-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
tenants:
  - id: bench
    keys: [{{name: bench, key: {key}, limits: {{rpm: 100000000}}}}]
    limits: {{rpm: 100000000, tpm: 100000000000, concurrency: 10000}}
    budgets: [{{window: day, limit_usd: 100000}}]
"""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of one case. CPU is of the process tree that serves it."""

    name: str
    per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


@contextmanager
def process(
    command: list[str], core: int, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start a process on one core and end it with the block."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=env,
            preexec_fn=lambda: pin(core),  # noqa: PLW1509 (no threads here yet)
        )
        try:
            yield child
        finally:
            child.terminate()
            child.wait(40)
            assert child.stdout is not None
            child.stdout.close()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def gateway(
    upstream_port: int, redis_url: str, core: int
) -> Iterator[tuple[subprocess.Popen[str], int, float]]:
    """Start `sluiceway api` on SQLite and Redis, with limits and a budget on every call.

    Yields the process, its port and its start time.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "sluiceway.yaml")
        config.write_text(CONFIG.format(port=upstream_port, key=KEY))
        env = os.environ | {
            "SLUICEWAY_CONFIG": str(config),
            "SLUICEWAY_DATA_DIR": folder,
            "SLUICEWAY_SECRET_KEY": "bench-secret-key-0123456789",
            "SLUICEWAY_PORT": str(port),
            "SLUICEWAY_REDIS_URL": redis_url,
        }
        command = str(Path(sys.executable).parent / "sluiceway")
        subprocess.run([command, "migrate"], env=env, check=True, capture_output=True)
        started_s = time.perf_counter()
        with process([command, "api"], core, env) as child:
            wait_ready(port, child)
            yield child, port, time.perf_counter() - started_s


def wait_ready(port: int, child: subprocess.Popen[str]) -> None:
    """Return once `/readyz` answers 200."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except OSError:
            if child.poll() is not None:
                sys.exit("the gateway did not start")
            time.sleep(0.05)
    sys.exit("the gateway did not become ready in 10 s")


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
    )


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
            gateway(direct_port, redis.url, cores[0]) as (child, port, start_s),
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
    console.print(f"per stream event at 16 connections: {rows[5].cpu_us:.1f} µs CPU")
    console.print("with limits in Redis, a budget, books, metrics and access lines on")
    return 0 if ratio >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
