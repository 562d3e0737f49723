"""What each feature adds to a call: gateways that differ by their config only, in turns.

On a machine that has other work the same code is slower by a fifth for seconds at a time, so turns
are short, and the gateways that are compared follow each other: slow times meet all of them. Those
that are not asked do nothing but finish the books of their last calls. They pay for that: what a
gateway has used from its first turn to its rest after the last one counts, less what it costs to
stand idle. Processes of one config differ by a twentieth, by how their memory happens to lie;
several sets of them are measured, one after the other.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.load import load, seeded_requests
from tests.bench.machine import cpu_s
from tests.bench.stack import KEY, gateway
from tests.services import run_redis

SETS = 4
ROUNDS = 6
LENGTH_S = 0.3
REST_S = 2.0
"""By then the books of all calls are written."""
IDLE_S = 4.0
MOST_ADDED = 0.25
"""What limits, breakers, retries and the cache may add together to a call without them."""
MOST_FOR_MONEY = 0.15
"""What the ledger and budgets may add to a call without either."""

LIMITS = "{rpm: 100000000, tpm: 100000000000, rpd: 1000000000, concurrency: 10000}"

BUDGET = '{window: day, limit_usd: "1000000"}'
BUDGET_OF_MONTH = '{window: month, limit_usd: "10000000"}'


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway of the comparison, by what is switched on in it."""

    name: str
    limits: bool = False
    breaker: bool = False
    cache: bool = False
    ledger: bool = True
    budgets: bool = False

    def config(self, upstream_port: int) -> str:
        """Return its config file. Its three targets take turns by weight where it routes."""
        limits = f", limits: {LIMITS}" if self.limits else ""
        targets = "{provider: up, model: bench-1}"
        if self.breaker:
            targets = f"{targets}, {{provider: up, model: bench-2, weight: 2}}"
        strategy = "strategy: weighted" if self.breaker else "strategy: priority"
        attempts = 2 if self.breaker else 1
        budgets = f", budgets: [{BUDGET}, {BUDGET_OF_MONTH}]" if self.budgets else ""
        return f"""
version: 1
providers:
  up: {{kind: openai_compatible, base_url: "http://127.0.0.1:{upstream_port}/v1", api_key: none}}
routes:
  - model: bench
    {strategy}
    targets: [{targets}]
    breaker: {{enabled: {str(self.breaker).lower()}}}
    retry: {{max_attempts: {attempts}}}
    price: {{input_per_mtok: 1, output_per_mtok: 2}}
cache: {{enabled: {str(self.cache).lower()}}}
ledger: {{enabled: {str(self.ledger).lower()}}}
tenants:
  - id: bench
    keys: [{{name: bench, key: {KEY}{limits}{budgets}}}]
    budgets: [{BUDGET if self.budgets else ""}]
    {"limits: " + LIMITS if self.limits else "limits: {}"}
"""


FEATURES = (
    Feature(name="none of them"),
    Feature(name="limits of tenant and key in Redis", limits=True),
    Feature(name="routing by weight, retries, breakers", breaker=True),
    Feature(name="cache lookup, missed and stored", cache=True),
    Feature(name="all of them", limits=True, breaker=True, cache=True),
)
NO_MONEY = Feature(name="without a ledger", ledger=False)
MONEY = Feature(name="with ledger and budgets", budgets=True)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Gateways that are compared with the first of them; the last has all that may add so much."""

    title: str
    features: tuple[Feature, ...]
    most: float


SHARES = (
    Share(title="What features add to a call", features=FEATURES, most=MOST_ADDED),
    Share(title="What money adds to a call", features=(NO_MONEY, MONEY), most=MOST_FOR_MONEY),
)


class _Running:
    """One gateway, and what its calls cost."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid = pid
        self._port = port
        self._calls = 0
        self._asked_s = 0.0
        self._idle_share = 0.0
        self._began_at_s = self._began_s = 0.0
        self.begin()

    def begin(self) -> None:
        """Count from here."""
        self._calls, self._asked_s = 0, 0.0
        self._began_at_s, self._began_s = time.monotonic(), cpu_s(self._pid)

    def learn_idle(self) -> None:
        """Take all that was spent since `begin` for standing idle."""
        spent_s = cpu_s(self._pid) - self._began_s
        self._idle_share = spent_s / (time.monotonic() - self._began_at_s)

    def turn(self, requests: Iterator[bytes]) -> None:
        """Take a turn."""
        began_at_s = time.monotonic()
        figures = asyncio.run(
            load(self._port, requests, connections=64, length_s=LENGTH_S, stream=False)
        )
        if figures.errors:
            raise SystemExit(f"{figures.errors} of {figures.calls} calls failed")
        self._calls += figures.calls
        self._asked_s += time.monotonic() - began_at_s

    def cost_us(self) -> float:
        """Return the CPU of a call in µs, the work that it left to be done later included."""
        idle_s = time.monotonic() - self._began_at_s - self._asked_s
        spent_s = cpu_s(self._pid) - self._began_s - idle_s * self._idle_share
        return spent_s * 1e6 / self._calls


def main(upstream_port: int, core: int) -> int:
    """Measure and print; return 1 when something adds more than it may."""
    requests = seeded_requests("/v1/chat/completions", KEY)
    with run_redis() as redis:
        sets = []
        for number in range(SETS):
            sets.append(_measured(upstream_port, redis.url, core, requests))
            print(f"  features: set {number + 1} of {SETS}", flush=True)
    return max([_report(share, sets) for share in SHARES])


def _measured(
    upstream_port: int, redis_url: str, core: int, requests: Iterator[bytes]
) -> dict[str, float]:
    """Return the CPU of a call in µs in one set of gateways, by the name of what is on."""
    with ExitStack() as stack:
        running = {
            feature.name: _started(stack, feature, upstream_port, redis_url, core)
            for share in SHARES
            for feature in share.features
        }
        turns = [running[name] for share in SHARES for name in _order(share)]
        for one in turns:
            one.turn(requests)  # a warm-up
        time.sleep(REST_S)
        for one in running.values():
            one.begin()
        time.sleep(IDLE_S)
        for one in running.values():
            one.learn_idle()
            one.begin()
        for _ in range(ROUNDS):
            for one in turns:
                one.turn(requests)
        time.sleep(REST_S)
        return {name: one.cost_us() for name, one in running.items()}


def _order(share: Share) -> list[str]:
    """Return who takes a turn after whom: the first and the last most, for they are judged."""
    first, *between, last = [feature.name for feature in share.features]
    return [name for other in between or [""] * 3 for name in (first, other, last) if name]


def _started(
    stack: ExitStack, feature: Feature, upstream_port: int, redis_url: str, core: int
) -> _Running:
    child, port, _ = stack.enter_context(gateway(feature.config(upstream_port), redis_url, core))
    return _Running(child.pid, port)


def _report(share: Share, sets: Sequence[dict[str, float]]) -> int:
    base, *_, whole = [feature.name for feature in share.features]
    table = Table(title=f"{share.title}, 64 at a time")
    for column in ("switched on", "CPU µs a call", "added", "share"):
        table.add_column(column, justify="left" if column == "switched on" else "right")
    for name in (feature.name for feature in share.features):
        cost_us = statistics.mean(costs[name] for costs in sets)
        added_us = statistics.mean(costs[name] - costs[base] for costs in sets)
        added = statistics.mean(costs[name] / costs[base] - 1 for costs in sets)
        table.add_row(name, f"{cost_us:.0f}", f"{added_us:+.0f}", f"{added:+.0%}")
    console = Console(width=100)
    console.print(table)
    found = sorted(costs[whole] / costs[base] - 1 for costs in sets)
    mean = statistics.mean(found)
    console.print(
        f"all of it adds {mean:.0%} ({share.most:.0%} allowed); "
        f"{found[0]:.0%} to {found[-1]:.0%} in {len(sets)} sets of processes"
    )
    return 0 if mean <= share.most else 1
