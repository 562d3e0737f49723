"""What each feature adds to a call: gateways that differ by their config only, in turns.

All of them stand side by side on one core, and those that are not asked do nothing there but
finish the books of their last calls, which they have to pay for: a turn of one lasts until its
next begins, less what it costs to stand idle for so long. Single figures differ by a fifth from
second to second on a machine that has other work, which only ever adds; so each round asks all of
them, and of many short rounds the lower quartile counts. Processes of one config differ by a
twentieth, by how their memory happens to lie: there are several of each.
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

COPIES = 3
ROUNDS = 16
LENGTH_S = 0.5
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
    """One gateway, with the cost of each of its turns in µs of CPU a call."""

    def __init__(self, name: str, pid: int, port: int) -> None:
        self.name = name
        self.costs_us: list[float] = []
        self._pid = pid
        self._port = port
        self._idle_share = 0.0
        self._began_s = cpu_s(pid)
        self._ended_at_s = time.monotonic()
        self._calls = 0

    def turn(self, requests: Iterator[bytes]) -> None:
        """Take a turn, which ends the one before."""
        self.end()
        figures = asyncio.run(
            load(self._port, requests, connections=64, length_s=LENGTH_S, stream=False)
        )
        if figures.errors:
            raise SystemExit(f"{figures.errors} of {figures.calls} calls failed")
        self._calls, self._ended_at_s = figures.calls, time.monotonic()

    def end(self) -> None:
        """Count what the last turn has cost until now."""
        now_s = cpu_s(self._pid)
        if self._calls:
            idle_s = (time.monotonic() - self._ended_at_s) * self._idle_share
            self.costs_us.append((now_s - self._began_s - idle_s) * 1e6 / self._calls)
        self._began_s, self._calls = now_s, 0

    def learn_idle(self, length_s: float) -> None:
        """Take all that was spent since the last turn was counted for idling."""
        self._idle_share = (cpu_s(self._pid) - self._began_s) / length_s


def main(upstream_port: int, core: int) -> int:
    """Measure and print; return 1 when something adds more than it may."""
    features = [feature for share in SHARES for feature in share.features]
    with ExitStack() as stack:
        redis = stack.enter_context(run_redis())
        running = [
            _started(stack, feature, upstream_port, redis.url, core)
            for _ in range(COPIES)
            for feature in features
        ]
        requests = seeded_requests("/v1/chat/completions", KEY)
        for one in running:
            one.turn(requests)  # a warm-up
        _learn_idle(running)
        for turn in range(ROUNDS):
            start = turn % len(running)
            for one in running[start:] + running[:start]:
                one.turn(requests)
            print(f"  features: round {turn + 1} of {ROUNDS}", flush=True)
        time.sleep(REST_S)
        for one in running:
            one.end()
    low = {
        feature.name: statistics.quantiles(
            [cost_us for one in running if one.name == feature.name for cost_us in one.costs_us],
            n=4,
        )[0]
        for feature in features
    }
    return max([_report(share, low) for share in SHARES])


def _started(
    stack: ExitStack, feature: Feature, upstream_port: int, redis_url: str, core: int
) -> _Running:
    child, port, _ = stack.enter_context(gateway(feature.config(upstream_port), redis_url, core))
    return _Running(feature.name, child.pid, port)


def _learn_idle(running: Sequence[_Running]) -> None:
    """Have each learn what it costs to stand idle."""
    time.sleep(REST_S)
    for one in running:
        one.end()
        one.costs_us.clear()
    time.sleep(IDLE_S)
    for one in running:
        one.learn_idle(IDLE_S)


def _report(share: Share, costs: dict[str, float]) -> int:
    base = costs[share.features[0].name]
    table = Table(title=f"{share.title}, 64 at a time")
    for column in ("switched on", "CPU µs a call", "added", "share"):
        table.add_column(column, justify="left" if column == "switched on" else "right")
    for name in (feature.name for feature in share.features):
        added = costs[name] - base
        table.add_row(name, f"{costs[name]:.0f}", f"{added:+.0f}", f"{added / base:+.0%}")
    console = Console(width=100)
    console.print(table)
    found = costs[share.features[-1].name] / base - 1
    console.print(f"all of it adds {found:.0%} ({share.most:.0%} allowed)")
    return 0 if found <= share.most else 1
