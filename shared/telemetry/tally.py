"""What every call observes: noted on the hot path, counted in groups.

A counter of the library costs 1 µs, twice that where processes share a folder, and a call touches
ten. Here a call only appends records; `count_waiting` adds them up and touches each series once.
It runs four times a second (`reporting`) and before each exposition.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Protocol, TypeVar

from shared.chat.usage import Usage
from shared.errors import all_codes
from shared.telemetry.metrics import (
    ATTEMPT_SECONDS,
    ATTEMPTS,
    BUDGET_REFUSED,
    COST,
    FIRST_TOKEN_SECONDS,
    LIMITS_REFUSED,
    OVERHEAD_SECONDS,
    REQUEST_SECONDS,
    REQUESTS,
    TOKENS,
    UNPRICED_ATTEMPTS,
    count,
    observe_all,
)

OK = "ok"
"""The `code` of what did not fail."""
OTHER = "other"
MOST_WAITING = 2_048
"""Records of one kind that wait; the one beyond counts them all, should nobody else do it."""

ENDPOINTS = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/jobs",
        "/v1/usage",
    }
)
SCOPE_KINDS = frozenset({"tenant", "key", "user", "route"})
DIMENSIONS = frozenset({"rpm", "tpm", "rpd", "tpd", "concurrency"})
ACTIONS = frozenset({"reject", "warn"})
_HUNDREDS = frozenset(range(100, 600))
_KINDS = ("input", "output", "cache_read", "cache_write", "reasoning")


class _Gauge(Protocol):
    def set(self, value: float) -> None: ...


_Series = tuple[str, ...]
_Record = TypeVar("_Record")

# Appending and taking from the left are safe between threads; a list that is swapped is not.
_requests: deque[tuple[str, int, str | None, float]] = deque()
_overheads: deque[float] = deque()
_attempts: deque[tuple[str, str, str | None, float, Usage | None]] = deque()
_costs: deque[tuple[str, int | None]] = deque()
_first_tokens: deque[tuple[str, float]] = deque()
_levels: list[Callable[[], None]] = []


def observe_request(
    endpoint: str,
    status: int,
    code: str | None,
    elapsed_s: float,
    overhead_s: float | None = None,
) -> None:
    """Note an answered request; `code` is None when it went well.

    `overhead_s` is the part of the time that was ours, where that is known.
    """
    _requests.append((endpoint, status, code, elapsed_s))
    if overhead_s is not None:
        _overheads.append(overhead_s)
    if len(_requests) > MOST_WAITING:
        count_waiting()


def observe_attempt(
    provider: str, outcome: str, code: str | None, elapsed_s: float, usage: Usage | None
) -> None:
    """Note a call to a configured provider that has ended, with the tokens it used."""
    _attempts.append((provider, outcome, code, elapsed_s, usage))
    if len(_attempts) > MOST_WAITING:
        count_waiting()


def observe_cost(provider: str, cost_nanousd: int | None) -> None:
    """Note what an attempt cost; None is an unknown price, which is counted as such."""
    _costs.append((provider, cost_nanousd))


def observe_first_token(provider: str, elapsed_s: float) -> None:
    """Note how long the first content of a stream took."""
    _first_tokens.append((provider, elapsed_s))


def observe_limit_refusal(limit_source: str) -> None:
    """Count a call refused by a limit, such as `tenant:acme/rpm`."""
    kind = limit_source.partition(":")[0]
    dimension = limit_source.rpartition("/")[2]
    labels = (_known(kind, SCOPE_KINDS), _known(dimension, DIMENSIONS))
    count(LIMITS_REFUSED, labels, 1)


def observe_budget_refusal(action: str) -> None:
    """Count a call that a budget had no room for: "reject", or "warn" where it ran all the same."""
    count(BUDGET_REFUSED, (_known(action, ACTIONS),), 1)


@contextmanager
def watched(gauge: _Gauge, read: Callable[[], float]) -> Iterator[None]:
    """Have a gauge follow a number while inside; 0 after.

    The number is read with each count instead of at each of its changes.
    """

    def look() -> None:
        gauge.set(read())

    _levels.append(look)
    try:
        yield
    finally:
        _levels.remove(look)
        gauge.set(0)


def count_waiting() -> None:
    """Move what was noted into the metrics; safe from any thread."""
    _count_requests()
    _count_attempts()
    _count_costs()
    if _overheads:
        observe_all(OVERHEAD_SECONDS, (), list(_drained(_overheads)))
    times: dict[_Series, list[float]] = {}
    for provider, elapsed_s in _drained(_first_tokens):
        times.setdefault((provider,), []).append(elapsed_s)
    for labels, amounts in times.items():
        observe_all(FIRST_TOKEN_SECONDS, labels, amounts)
    for look in tuple(_levels):
        look()


def code_label(code: str | None) -> str:
    """Return an error code as a label: `ok` for none, `other` for one that is not ours."""
    return OK if code is None else _known(code, _codes())


def _count_requests() -> None:
    counts: dict[tuple[str, int, str | None], int] = {}
    times: dict[_Series, list[float]] = {}
    for endpoint, status, code, elapsed_s in _drained(_requests):
        key = (endpoint, status, code)
        counts[key] = counts.get(key, 0) + 1
        times.setdefault((_known(endpoint, ENDPOINTS),), []).append(elapsed_s)
    for (endpoint, status, code), number in counts.items():
        shown = str(status) if status in _HUNDREDS else OTHER
        count(REQUESTS, (_known(endpoint, ENDPOINTS), shown, code_label(code)), number)
    for labels, amounts in times.items():
        observe_all(REQUEST_SECONDS, labels, amounts)


def _count_attempts() -> None:
    counts: dict[tuple[str, str, str | None], int] = {}
    times: dict[_Series, list[float]] = {}
    tokens: dict[str, list[int]] = {}
    for provider, outcome, code, elapsed_s, usage in _drained(_attempts):
        key = (provider, outcome, code)
        counts[key] = counts.get(key, 0) + 1
        times.setdefault((provider,), []).append(elapsed_s)
        if usage is not None:
            sums = tokens.setdefault(provider, [0] * len(_KINDS))
            sums[0] += usage.input_tokens
            sums[1] += usage.output_tokens
            sums[2] += usage.cache_read_tokens
            sums[3] += usage.cache_write_tokens
            sums[4] += usage.reasoning_tokens
    for (provider, outcome, code), number in counts.items():
        count(ATTEMPTS, (provider, outcome, code_label(code)), number)
    for labels, amounts in times.items():
        observe_all(ATTEMPT_SECONDS, labels, amounts)
    for provider, sums in tokens.items():
        for kind, number in zip(_KINDS, sums, strict=True):
            if number > 0:
                count(TOKENS, (provider, kind), number)


def _count_costs() -> None:
    sums: dict[str, int] = {}
    unpriced: dict[str, int] = {}
    for provider, cost_nanousd in _drained(_costs):
        if cost_nanousd is None:
            unpriced[provider] = unpriced.get(provider, 0) + 1
        else:
            sums[provider] = sums.get(provider, 0) + cost_nanousd
    for provider, number in unpriced.items():
        count(UNPRICED_ATTEMPTS, (provider,), number)
    for provider, number in sums.items():
        if number:
            count(COST, (provider,), number)


def _drained(waiting: "deque[_Record]") -> Iterator[_Record]:
    """Take what waits; what comes meanwhile, from this or another thread, is taken too."""
    while waiting:
        try:
            yield waiting.popleft()
        except IndexError:  # another thread was faster
            return


def _known(label: str, closed: frozenset[str]) -> str:
    return label if label in closed else OTHER


@cache
def _codes() -> frozenset[str]:
    return all_codes()
