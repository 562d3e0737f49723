"""What every call observes: noted on the hot path, counted in groups.

A counter of the library costs 1 µs, twice that where processes share a folder, and a call touches
ten. Here a call only appends numbers to lists by their labels; `count_waiting` adds them up and
touches each series once. It runs four times a second (`reporting`) and before each exposition.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count as steps
from itertools import repeat, starmap
from operator import attrgetter
from threading import Lock
from typing import Protocol, TypeVar

from shared.chat.usage import Usage
from shared.errors import all_codes
from shared.telemetry.adding import count, observe_all
from shared.telemetry.metrics import (
    ATTEMPT_SECONDS,
    ATTEMPTS,
    BUDGET_REFUSED,
    CACHE_EVICTIONS,
    CACHE_REQUESTS,
    CACHE_SAVED,
    COST,
    COST_DOUBTS,
    FIRST_TOKEN_SECONDS,
    FULL_TARGETS,
    HEDGES,
    LIMITS_REFUSED,
    OVERHEAD_SECONDS,
    REQUEST_SECONDS,
    REQUESTS,
    STREAMS_RECOVERED,
    TOKENS,
    UNPRICED_ATTEMPTS,
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
        "/v1/moderations",
        "/v1/images/generations",
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/rerank",
        "/v1/models",
        "/v1/jobs",
        "/v1/usage",
    }
)
SCOPE_KINDS = frozenset({"tenant", "key", "user", "route"})
DIMENSIONS = frozenset({"rpm", "tpm", "rpd", "tpd", "concurrency"})
ACTIONS = frozenset({"reject", "warn"})
DOUBTS = frozenset({"usage", "price", "reported"})
WINNERS = frozenset({"first", "second"})
RECOVERIES = frozenset({"recovered", "failed"})
_HUNDREDS = frozenset(range(100, 600))
_KINDS = {
    kind: attrgetter(f"{kind}_tokens")
    for kind in ("input", "output", "cache_read", "cache_write", "reasoning")
}


class _Gauge(Protocol):
    def set(self, value: float) -> None: ...


_Amount = TypeVar("_Amount")
_Labels = TypeVar("_Labels", bound=Hashable)
_Request = tuple[str, int, str | None]
"""Endpoint, status, code."""
_Attempt = tuple[str, str, str | None]
"""Provider, outcome, code."""
_Ended = tuple[float, Usage | None, int | None]
"""Seconds, tokens, cost."""


class Steps:
    """Counts what needs no amount: `note` is one step in C, safe between threads."""

    def __init__(self) -> None:
        self.note = steps().__next__
        self._counted = 0
        self._lock = Lock()

    def taken(self) -> int:
        """Return how often it was noted since this was asked last."""
        with self._lock:
            noted = self.note()
            new, self._counted = noted - self._counted, noted + 1
        return new


CACHE_LOOKS = {result: Steps() for result in ("hit", "miss", "bypass")}
"""Calls that the cache was in the way of."""
CACHE_EVICTED = Steps()
"""Answers that had to make room for others."""

# By labels, for they are few: appending and taking from the left are safe between threads.
_requests: dict[_Request, deque[float]] = {}
_overheads: deque[float] = deque()
_attempts: dict[_Attempt, deque[_Ended]] = {}
_first_tokens: dict[str, deque[float]] = {}
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
    if overhead_s is not None:
        _overheads.append(overhead_s)
    _note(_requests, (endpoint, status, code), elapsed_s)


def observe_attempt(
    provider: str,
    outcome: str,
    code: str | None,
    elapsed_s: float,
    usage: Usage | None,
    cost_nanousd: int | None,
) -> None:
    """Note a call to a configured provider that has ended, with the tokens it used and their cost.

    A cost of None is an unknown price, which is counted as such.
    """
    _note(_attempts, (provider, outcome, code), (elapsed_s, usage, cost_nanousd))


def observe_doubt(provider: str, why: str) -> None:
    """Count a cost that is not sure: "usage" or "price" made up, or not that "reported"."""
    count(COST_DOUBTS, (provider, _known(why, DOUBTS)), 1)


def observe_first_token(provider: str, elapsed_s: float) -> None:
    """Note how long the first content of a stream took."""
    _note(_first_tokens, provider, elapsed_s)


def _note(waiting: dict[_Labels, deque[_Amount]], labels: _Labels, amount: _Amount) -> None:
    amounts = waiting.get(labels)
    if amounts is None:
        amounts = waiting.setdefault(labels, deque())
    amounts.append(amount)
    if len(amounts) > MOST_WAITING:
        count_waiting()


def observe_limit_refusal(limit_source: str) -> None:
    """Count a call refused by a limit, such as `tenant:acme/rpm`."""
    kind = limit_source.partition(":")[0]
    dimension = limit_source.rpartition("/")[2]
    labels = (_known(kind, SCOPE_KINDS), _known(dimension, DIMENSIONS))
    count(LIMITS_REFUSED, labels, 1)


def observe_hedge(winner: str) -> None:
    """Count a race of two targets by who answered: the "first" or the "second"."""
    count(HEDGES, (_known(winner, WINNERS),), 1)


def observe_recovery(outcome: str) -> None:
    """Count a broken stream: "recovered" by another target, or "failed"."""
    count(STREAMS_RECOVERED, (_known(outcome, RECOVERIES),), 1)


def observe_full_target(provider: str) -> None:
    """Count a target that was passed over, for a limit of its own is reached."""
    count(FULL_TARGETS, (provider,), 1)


def observe_budget_refusal(action: str) -> None:
    """Count a call that a budget had no room for: "reject", or "warn" where it ran all the same."""
    count(BUDGET_REFUSED, (_known(action, ACTIONS),), 1)


def observe_hit(provider: str, saved_nanousd: int | None) -> None:
    """Count a call that the cache has answered, and what that saved."""
    CACHE_LOOKS["hit"].note()
    if saved_nanousd:
        count(CACHE_SAVED, (provider,), saved_nanousd)


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
    if overheads := _drained(_overheads):
        observe_all(OVERHEAD_SECONDS, (), overheads)
    for provider, amounts in _taken(_first_tokens):
        observe_all(FIRST_TOKEN_SECONDS, (provider,), amounts)
    for result, looks in CACHE_LOOKS.items():
        if number := looks.taken():
            count(CACHE_REQUESTS, (result,), number)
    if number := CACHE_EVICTED.taken():
        count(CACHE_EVICTIONS, (), number)
    for look in tuple(_levels):
        look()


def code_label(code: str | None) -> str:
    """Return an error code as a label: `ok` for none, `other` for one that is not ours."""
    return OK if code is None else _known(code, _codes())


def _count_requests() -> None:
    for (endpoint, status, code), times in _taken(_requests):
        shown = str(status) if status in _HUNDREDS else OTHER
        known = _known(endpoint, ENDPOINTS)
        count(REQUESTS, (known, shown, code_label(code)), len(times))
        observe_all(REQUEST_SECONDS, (known,), times)


def _count_attempts() -> None:
    for (provider, outcome, code), ended in _taken(_attempts):
        times = [elapsed_s for elapsed_s, _, _ in ended]
        count(ATTEMPTS, (provider, outcome, code_label(code)), len(times))
        observe_all(ATTEMPT_SECONDS, (provider,), times)
        usages = [usage for _, usage, _ in ended if usage is not None]
        for kind, tokens_of in _KINDS.items():
            if number := sum(map(tokens_of, usages)):
                count(TOKENS, (provider, kind), number)
        costs = [cost_nanousd for _, _, cost_nanousd in ended if cost_nanousd is not None]
        if unpriced := len(ended) - len(costs):
            count(UNPRICED_ATTEMPTS, (provider,), unpriced)
        if total := sum(costs):
            count(COST, (provider,), total)


def _taken(waiting: dict[_Labels, deque[_Amount]]) -> Iterator[tuple[_Labels, list[_Amount]]]:
    for labels, amounts in tuple(waiting.items()):
        if taken := _drained(amounts):
            yield labels, taken


def _drained(waiting: deque[_Amount]) -> list[_Amount]:
    """Take what waits now."""
    taken: list[_Amount] = []
    with suppress(IndexError):  # another thread was faster
        taken.extend(starmap(waiting.popleft, repeat((), len(waiting))))
    return taken


def _known(label: str, closed: frozenset[str]) -> str:
    return label if label in closed else OTHER


@cache
def _codes() -> frozenset[str]:
    return all_codes()
