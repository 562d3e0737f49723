"""What this process has seen of its targets: their breakers, their times, their calls under way."""

from collections.abc import Callable, Iterator
from math import exp
from typing import Protocol

import msgspec

from shared.clock import Clock
from shared.config.model import Breaker
from shared.errors import UpstreamError
from shared.health.breaker import (
    FRESH,
    GOOD,
    SILENT,
    SLICES,
    BreakerState,
    Phase,
    Verdict,
    admits,
    begun,
    counted,
    ended,
    slice_of,
)
from shared.health.facts import Fact, FactBook, FactKind, about, learned_from

DECAY_S = 10.0
"""A slow call is forgotten by two thirds in this time (Finagle's peak EWMA has the same)."""


ROUNDING_S = 1e-6
"""What a moment may be off by, made from a slice's number; so near its end it is asked anew."""


class Target(Protocol):
    """What names a target; see `shared.providers.target`."""

    @property
    def provider(self) -> str:
        """A configured provider."""

    @property
    def model(self) -> str:
        """Its model."""

    @property
    def credential(self) -> str:
        """The name of its credential."""


MOST_TARGETS = 10_000

TargetKey = tuple[str, str, str]
"""Provider, model, credential."""

Changed = Callable[[TargetKey, BreakerState, BreakerState], None]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One target as it is shown to people.

    `latency_s` leans to the slowest of late. `fact` is why it goes last though its breaker may be
    closed.
    """

    provider: str
    model: str
    credential: str
    phase: Phase
    since_s: float
    reason: str | None
    latency_s: float
    busy: int
    calls: int
    fact: Fact | None = None


class Watched:
    """What is kept of one target; changed by the book alone."""

    __slots__ = (
        *("at_s", "breaker", "busy", "calls", "closed", "goods"),
        *("key", "latency_s", "slice", "slice_ends_s", "state"),
    )

    def __init__(self, key: TargetKey, breaker: Breaker) -> None:
        self.key = key
        self.breaker = breaker
        self.state = FRESH
        self.closed = True  # as the state's phase says
        self.latency_s = 0.0
        self.at_s = 0.0
        self.busy = 0
        self.calls = 0
        self.slice = 0
        self.slice_ends_s = 0.0  # or a moment before; good calls until then change no more
        self.goods = 0  # good calls of this slice that the state has not been told of


class HealthBook:
    """One per process; its methods belong to the event loop. An Outlook for plans."""

    def __init__(
        self,
        clock: Clock,
        changed: Changed = lambda _key, _before, _after: None,
        facts: FactBook | None = None,
    ) -> None:
        self.facts = facts or FactBook()
        self._clock = clock
        self._changed = changed
        self._entries: dict[TargetKey, Watched] = {}
        self._not_closed = 0

    @property
    def all_closed(self) -> bool:
        """Whether nothing stands in the way of any target: no breaker, no fact."""
        if self._not_closed:
            return False
        return not self.facts.known or not self.facts.holds_any(self._clock.monotonic())

    def begin(self, target: Target, breaker: Breaker) -> Watched:
        """Take note that a call goes out; `end`, or `ended` with what this returns, must follow."""
        key = (target.provider, target.model, target.credential)
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= MOST_TARGETS:
                self._forget()
            entry = self._entries[key] = Watched(key, breaker)
        entry.busy += 1
        if not entry.closed:
            self._become(entry, begun(entry.state, breaker, self._clock.monotonic()))
        return entry

    def end(
        self, target: Target, verdict: Verdict, elapsed_s: float, reason: str | None = None
    ) -> None:
        """Take note of how it went. `reason` is the kind of a failure."""
        self.ended(self._entries[_key(target)], verdict, elapsed_s, reason)

    def ended(
        self, entry: Watched, verdict: Verdict, elapsed_s: float, reason: str | None = None
    ) -> None:
        """Do the same without looking the target up once more."""
        entry.busy -= 1
        now_s = self._clock.monotonic()
        if verdict is not SILENT:
            entry.calls += 1
            # Peak EWMA: what is slower counts at once, what is faster only with time.
            faster_s = entry.latency_s - elapsed_s
            if faster_s > 0.0:
                elapsed_s += faster_s * exp((entry.at_s - now_s) / DECAY_S)
            entry.latency_s = elapsed_s
            entry.at_s = now_s
        elif entry.closed:
            return
        if verdict is GOOD:
            if self.facts.known:
                self.facts.cleared(entry.key, now_s)
            if entry.closed:
                if now_s >= entry.slice_ends_s:
                    _tidy(entry, now_s)
                entry.goods += 1  # the state is told once per slice, for a new one costs 2 µs
                return
        state = _told(entry)
        self._become(entry, ended(state, entry.breaker, verdict, now_s, reason))

    def learn(self, target: Target, error: UpstreamError) -> None:
        """Take note of what a failure says of the time to come; between `begin` and `end`."""
        key, now_s = _key(target), self._clock.monotonic()
        fact = learned_from(error, self._entries[key].breaker, now_s)
        if fact is not None:
            self.facts.learn(about(key, error), fact, now_s)

    def is_fit(self, target: Target) -> bool:
        """Return whether its breaker lets a call through, and no fact puts it last."""
        key = _key(target)
        if self.facts.of(key, self._clock.monotonic()) is not None:
            return False
        entry = self._entries.get(key)
        if entry is None or entry.state.phase is Phase.CLOSED:
            return True
        return admits(entry.state, entry.breaker, self._clock.monotonic())

    def may_probe(self, target: Target, idle_s: float) -> bool:
        """Return whether nobody has asked it for so many seconds, and nothing forbids to.

        A breaker may, until it is time to look again, or a limit; a refused credential does not.
        """
        key, now_s = _key(target), self._clock.monotonic()
        fact = self.facts.of(key, now_s)
        if fact is not None and fact.kind is FactKind.LIMITED:
            return False
        entry = self._entries.get(key)
        if entry is None:
            return True
        idle = not entry.busy and now_s - entry.at_s >= idle_s
        return idle and admits(entry.state, entry.breaker, now_s)

    def latency_s(self, target: Target) -> float:
        """Return how long its calls take, leaning to the slow ones; 0 when it was never asked."""
        entry = self._entries.get(_key(target))
        return 0.0 if entry is None else entry.latency_s

    def busy(self, target: Target) -> int:
        """Return how many calls are under way."""
        entry = self._entries.get(_key(target))
        return 0 if entry is None else entry.busy

    def seen(self) -> Iterator[Seen]:
        """Yield every target that was ever asked."""
        now_s = self._clock.monotonic()
        for (provider, model, credential), entry in self._entries.items():
            yield Seen(
                provider=provider,
                model=model,
                credential=credential,
                phase=entry.state.phase,
                since_s=entry.state.since_s,
                reason=entry.state.reason,
                latency_s=entry.latency_s,
                busy=entry.busy,
                calls=entry.calls,
                fact=self.facts.of((provider, model, credential), now_s),
            )

    def _forget(self) -> None:
        """Drop what is idle and well: callers invent models under a wildcard without number."""
        self._entries = {
            key: entry
            for key, entry in self._entries.items()
            if entry.busy or entry.state.phase is not Phase.CLOSED
        }

    def _become(self, entry: Watched, state: BreakerState) -> None:
        before, entry.state = entry.state, state
        entry.slice_ends_s = 0.0  # the next good call says that failures are not in a row
        entry.closed = state.phase is Phase.CLOSED
        if before.phase is not state.phase:
            self._not_closed += (state.phase is not Phase.CLOSED) - (
                before.phase is not Phase.CLOSED
            )
            self._changed(entry.key, before, state)


def _key(target: Target) -> TargetKey:
    return (target.provider, target.model, target.credential)


def _told(entry: Watched) -> BreakerState:
    """Return the state with the good calls that it does not know of."""
    goods, entry.goods = entry.goods, 0
    return counted(entry.state, entry.slice, calls=goods) if goods else entry.state


def _tidy(entry: Watched, now_s: float) -> None:
    """Begin a good call's slice, if it is another one; what failed before it is not in a row."""
    if entry.state.consecutive:
        entry.state = msgspec.structs.replace(entry.state, consecutive=0)
    number = slice_of(now_s, entry.breaker)
    if number != entry.slice:
        entry.state = _told(entry)
        entry.slice = number
    entry.slice_ends_s = (number + 1) * entry.breaker.window_s / SLICES - ROUNDING_S
