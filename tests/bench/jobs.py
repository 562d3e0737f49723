"""Jobs: how many a worker claims, runs and completes a second, and how soon one starts.

Everything is as in production but the provider, which is the mock: the attempt's row before the
call, hold, ledger row, settlement and end, under leases.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from shared.store.engine import open_store
from shared.store.jobs import insert_job
from shared.store.records import NewJob
from shared.store.schema import migrate
from tests.bench.machine import cpu_s, memory_mb
from tests.bench.stack import KEY, free_port, process, wait_ready
from tests.services import run_postgres, run_redis

JOBS = 1_500
AT_ONCE = 1_000
CALL_S = 3.0
LEAST_PER_S = 300.0
SOON_MS = 100.0
LATE_MS = 3_000.0
GIVE_UP_S = 60.0

CONFIG = f"""
version: 1
providers: {{mock: {{kind: mock}}}}
routes:
  - model: bench
    targets: [{{provider: mock, model: bench-1}}]
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
tenants:
  - id: bench
    keys: [{{name: bench, key: {KEY}}}]
    budgets: [{{window: day, limit_usd: 100000}}]
"""

COUNTS = sa.text(
    "SELECT (SELECT count(*) FROM job WHERE status = 'succeeded'),"
    " (SELECT count(*) FROM attempt WHERE outcome IS NULL)"
)
SPAN = sa.text("SELECT count(*), min(started_at), max(finished_at) FROM job")
WAITS = sa.text("SELECT started_at - created_at FROM job")


class Worked(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker did with a full queue. CPU is its own, without the database's."""

    name: str
    per_second: float
    cpu_us: float
    at_once: int
    memory_mb: float


class Bench:
    """A database with a folder beside it, and the processes on it."""

    def __init__(self, folder: str, url: str, core: int, broker_url: str | None = None) -> None:
        config = Path(folder, "sluiceway.yaml")
        config.write_text(CONFIG)
        self.url = url
        self.core = core
        self.env = os.environ | {
            "SLUICEWAY_CONFIG": str(config),
            "SLUICEWAY_DATA_DIR": folder,
            "SLUICEWAY_SECRET_KEY": "bench-secret-key-0123456789",
            "SLUICEWAY_DATABASE_URL": url,
            "SLUICEWAY_LOG_LEVEL": "warning",
        }
        if broker_url is not None:
            self.env["SLUICEWAY_BROKER_URL"] = broker_url

    def command(self, *arguments: str) -> list[str]:
        """Return a command of the product."""
        return [str(Path(sys.executable).parent / "sluiceway"), *arguments]

    async def rows(self, query: sa.TextClause) -> list[tuple[int, ...]]:
        """Return what a query finds."""
        store = await open_store(self.url)
        try:
            async with store.read() as tx:
                return [tuple(row) for row in await tx.connection.execute(query)]
        finally:
            await store.close()

    async def queue(self, count: int, *, delay_ms: int) -> None:
        """Queue so many jobs whose calls take so long."""
        body = {"model": "bench", "max_tokens": 100, "mock": {"delay_ms": delay_ms}}
        body["messages"] = [{"role": "user", "content": "word " * 100}]
        store = await open_store(self.url)
        try:
            async with store.write() as tx:
                now = await tx.now()
                for number in range(count):
                    new = NewJob(
                        id=f"job_{number:06}",
                        tenant_id="bench",
                        key_id="file:bench/bench",
                        request_id=f"req_{number}",
                        endpoint="/v1/chat/completions",
                        body=json.dumps(body).encode(),
                        deadline=now + timedelta(hours=1),
                        model="bench",
                    )
                    await insert_job(tx, new, now)
        finally:
            await store.close()

    def worked(self, name: str, count: int, *, delay_ms: int = 0) -> Worked:
        """Let one worker do so many jobs that wait already."""
        asyncio.run(self.queue(count, delay_ms=delay_ms))
        with process(self.command("worker"), self.core, self.env) as child:
            time.sleep(0.5)  # its start is not counted
            before_s, most = cpu_s(child.pid), 0
            give_up_s = time.monotonic() + GIVE_UP_S
            done = 0
            while done < count:
                [(done, calling)] = asyncio.run(self.rows(COUNTS))
                most = max(most, calling)
                if child.poll() is not None or time.monotonic() > give_up_s:
                    sys.exit(f"{name}: {done} of {count} jobs done")
                time.sleep(0.05)
            spent_s, memory = cpu_s(child.pid) - before_s, memory_mb(child.pid)
        [(_, began_us, ended_us)] = asyncio.run(self.rows(SPAN))
        return Worked(
            name=name,
            per_second=count * 1e6 / (ended_us - began_us),
            cpu_us=spent_s * 1e6 / count,
            at_once=most,
            memory_mb=memory,
        )

    def started_ms(self, count: int, gap_s: float) -> float:
        """Submit jobs one after the other; return how soon the median of them started."""
        port = free_port()
        env = self.env | {"SLUICEWAY_PORT": str(port)}
        with ExitStack() as stack:
            api = stack.enter_context(process(self.command("api"), self.core, env))
            wait_ready(port, api)
            stack.enter_context(process(self.command("worker"), self.core, env))
            _submit(port)  # the worker is ready once this one has started
            while not asyncio.run(self.rows(COUNTS))[0][0]:
                time.sleep(0.05)
            for _ in range(count):
                time.sleep(gap_s)
                _submit(port)
            while asyncio.run(self.rows(COUNTS))[0][0] <= count:
                time.sleep(0.05)
        waits_us = [wait for (wait,) in asyncio.run(self.rows(WAITS))]
        return statistics.median(sorted(waits_us)[:count]) / 1e3


def _submit(port: int) -> None:
    body = {"model": "bench", "messages": [{"role": "user", "content": "hello"}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={
            "authorization": f"Bearer {KEY}",
            "content-type": "application/json",
            "prefer": "respond-async",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


@contextmanager
def on_sqlite(core: int, broker_url: str | None = None) -> Iterator[Bench]:
    """Make a fresh SQLite file."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/sluiceway.db"
        migrate(url)
        yield Bench(folder, url, core, broker_url)


@contextmanager
def on_postgresql(core: int) -> Iterator[Bench]:
    """Make a fresh PostgreSQL, which waits for the disk as in production."""
    with tempfile.TemporaryDirectory() as folder, run_postgres(durable=True) as server:
        yield Bench(folder, server.url(server.take_migrated()), core)


def main(core: int) -> int:
    """Measure and print; return 1 when a figure is not what is promised."""
    with on_sqlite(core) as bench:
        rows = [bench.worked("SQLite", JOBS)]
    with on_postgresql(core) as bench:
        rows.append(bench.worked("PostgreSQL", JOBS))
    with on_sqlite(core) as bench:
        name = f"SQLite, calls of {CALL_S:.0f} s"
        rows.append(bench.worked(name, AT_ONCE, delay_ms=int(CALL_S * 1000)))
    with run_redis() as redis, on_sqlite(core, redis.url) as bench:
        rung_ms = bench.started_ms(20, 0.1)
    with on_sqlite(core) as bench:
        looked_ms = bench.started_ms(8, 0.4)
    return _report(rows, rung_ms, looked_ms)


def _report(rows: list[Worked], rung_ms: float, looked_ms: float) -> int:
    table = Table(title="One worker: jobs claimed, run and completed, with a budget")
    for column in ("database", "jobs/s", "CPU µs each", "calls at once", "MB"):
        table.add_column(column, justify="left" if column == "database" else "right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.per_second:,.0f}",
            f"{row.cpu_us:,.0f}",
            f"{row.at_once:,}",
            f"{row.memory_mb:.0f}",
        )
    console = Console(width=100)
    console.print(table)
    console.print(
        f"{LEAST_PER_S:.0f} jobs/s needed on each database, {AT_ONCE:,} calls at once in one "
        "worker; PostgreSQL waits for its disk"
    )
    console.print(
        f"from submission to start: {rung_ms:.0f} ms at the median with Redis ({SOON_MS:.0f} "
        f"allowed), {looked_ms:.0f} ms without a broker ({LATE_MS:.0f} allowed)"
    )
    fast = all(row.per_second >= LEAST_PER_S for row in rows[:2])
    wide = rows[2].at_once >= AT_ONCE
    return 0 if fast and wide and rung_ms < SOON_MS and looked_ms < LATE_MS else 1
