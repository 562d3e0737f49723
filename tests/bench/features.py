"""What each feature adds to a call: gateways that differ by their config only, in turns.

All of them stand side by side on one core, and those that are not asked do nothing there. Single
figures differ by a tenth from minute to minute, so each round asks all of them.
"""

import asyncio
import statistics
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.load import load, seeded_requests
from tests.bench.machine import cpu_s
from tests.bench.stack import KEY, gateway
from tests.services import run_redis

ROUNDS = 5
LENGTH_S = 1.2
MOST_ADDED = 0.25
"""What limits, breakers, retries and the cache may add together to a call without them."""

LIMITS = "{rpm: 100000000, tpm: 100000000000, rpd: 1000000000, concurrency: 10000}"


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway of the comparison, by what is switched on in it."""

    name: str
    limits: bool = False
    breaker: bool = False
    cache: bool = False

    def config(self, upstream_port: int) -> str:
        """Return its config file. Its three targets take turns by weight where it routes."""
        limits = f", limits: {LIMITS}" if self.limits else ""
        targets = "{provider: up, model: bench-1}"
        if self.breaker:
            targets = f"{targets}, {{provider: up, model: bench-2, weight: 2}}"
        strategy = "strategy: weighted" if self.breaker else "strategy: priority"
        attempts = 2 if self.breaker else 1
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
tenants:
  - id: bench
    keys: [{{name: bench, key: {KEY}{limits}}}]
    {"limits: " + LIMITS if self.limits else "limits: {}"}
"""


FEATURES = (
    Feature(name="none of them"),
    Feature(name="limits of tenant and key in Redis", limits=True),
    Feature(name="routing by weight, retries, breakers", breaker=True),
    Feature(name="cache lookup, missed and stored", cache=True),
    Feature(name="all of them", limits=True, breaker=True, cache=True),
)


def main(upstream_port: int, core: int) -> int:
    """Measure and print; return 1 when all of them together add more than a quarter."""
    costs: dict[str, list[float]] = {feature.name: [] for feature in FEATURES}
    with ExitStack() as stack:
        redis = stack.enter_context(run_redis())
        running = [
            (feature.name, *_started(stack, feature.config(upstream_port), redis.url, core))
            for feature in FEATURES
        ]
        requests = seeded_requests("/v1/chat/completions", KEY)
        for _, pid, port in running:
            _cost_us(pid, port, requests)  # a warm-up
        for turn in range(ROUNDS):
            for name, pid, port in running[turn:] + running[:turn]:
                costs[name].append(_cost_us(pid, port, requests))
            print(f"  features: round {turn + 1} of {ROUNDS}", flush=True)
    return _report({name: statistics.median(several) for name, several in costs.items()})


def _started(stack: ExitStack, config: str, redis_url: str, core: int) -> tuple[int, int]:
    child, port, _ = stack.enter_context(gateway(config, redis_url, core))
    return child.pid, port


def _cost_us(pid: int, port: int, requests: Iterator[bytes]) -> float:
    before_s = cpu_s(pid)
    figures = asyncio.run(load(port, requests, connections=64, length_s=LENGTH_S, stream=False))
    if figures.errors:
        raise SystemExit(f"{figures.errors} of {figures.calls} calls failed")
    return (cpu_s(pid) - before_s) * 1e6 / figures.calls


def _report(costs: dict[str, float]) -> int:
    first, *_, last = FEATURES
    base = costs[first.name]
    table = Table(title="What features add to a call, 64 at a time")
    for column in ("switched on", "CPU µs a call", "added", "share"):
        table.add_column(column, justify="left" if column == "switched on" else "right")
    for name, cost in costs.items():
        added = cost - base
        table.add_row(name, f"{cost:.0f}", f"{added:+.0f}", f"{added / base:+.0%}")
    console = Console(width=100)
    console.print(table)
    share = costs[last.name] / base - 1
    console.print(f"all of them add {share:.0%} ({MOST_ADDED:.0%} allowed)")
    return 0 if share <= MOST_ADDED else 1
