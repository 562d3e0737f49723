"""What providers have said of themselves that ends by itself: do not ask me until then. Pure.

A target is limited until a time that it named; a credential is parked when it was refused, or its
money is spent. Such targets go last. Breakers are each process's own, facts can be shared.
"""

import enum
import math
from collections.abc import Callable, Iterator, Mapping

import msgspec

from shared.config.model import Breaker
from shared.errors import FailureKind, UpstreamError

UNAUTHORIZED = 401
UNNAMED = "default"
"""The credential of a provider that has one only."""

MOST = 1_000
"""Facts kept; callers may invent models under a wildcard. Those that end first go first."""


class FactKind(enum.Enum):
    """What was learnt."""

    LIMITED = "limited"
    PARKED = "parked"


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """It holds until `until_s`, a monotonic moment."""

    kind: FactKind
    until_s: float


FactKey = tuple[str, str, str]
"""Provider, model, credential. Without a model it is the credential with all its models."""

Learned = Callable[[FactKey, Fact, float], None]
"""Told once of each fact, with how many seconds it holds."""


def learned_from(error: UpstreamError, breaker: Breaker, now_s: float) -> Fact | None:
    """Return what a failure says of the time to come; None when it says nothing.

    However long the provider asks for, it is `limited_s` at most: some name days.
    """
    match error.kind:
        case FailureKind.CREDENTIAL:
            kind, length_s = FactKind.PARKED, breaker.parked_s
        case FailureKind.RATE_LIMITED | FailureKind.OVERLOADED:
            kind, length_s = FactKind.LIMITED, min(error.retry_after_s or 0.0, breaker.limited_s)
        case _:
            return None
    return Fact(kind=kind, until_s=now_s + length_s) if length_s > 0 else None


def about(key: FactKey, error: UpstreamError) -> FactKey:
    """Return whom a failure of this target is about.

    A key that was not accepted is of no use to any model. One of several keys has a name; where
    there is but one, each target finds out for itself, for nothing could take its place. A 403 may
    be about the model alone.
    """
    refused = error.kind is FailureKind.CREDENTIAL and error.status == UNAUTHORIZED
    return whole_credential(key) if refused and key[2] != UNNAMED else key


def whole_credential(key: FactKey) -> FactKey:
    """Return the key of a target's credential with all its models."""
    return (key[0], "", key[2])


class FactBook:
    """The facts of one process: its own, and those that others told it. Moments are given to it."""

    def __init__(self, learned: Learned = lambda _key, _fact, _length_s: None) -> None:
        self._learned = learned
        self._own: dict[FactKey, Fact] = {}
        self._told: Mapping[FactKey, Fact] = {}
        self._changes: dict[FactKey, Fact | None] = {}
        self._next_s = math.inf
        self.shared = False
        """Whether somebody takes the changes; else none are kept."""
        self.known = False
        """Whether there may be a fact at all. None is the normal case, and every call asks."""

    def holds_any(self, now_s: float) -> bool:
        """Return whether there is a fact at all."""
        if not self.known:
            return False
        if now_s >= self._next_s:
            self._expire(now_s)
        return bool(self._own or self._told)

    def of(self, key: FactKey, now_s: float) -> Fact | None:
        """Return what holds for a target now, of several the one that ends last."""
        if not self.known:
            return None
        found: Fact | None = None
        for facts in (self._own, self._told):
            for name in (key, whole_credential(key)):
                fact = facts.get(name)
                if fact is not None and fact.until_s > now_s:
                    found = fact if found is None or fact.until_s > found.until_s else found
        return found

    def learn(self, key: FactKey, fact: Fact, now_s: float) -> None:
        """Take in what a provider said to this process."""
        before = self.of(key, now_s)
        if before is not None and before.until_s >= fact.until_s:
            return
        self._own[key] = fact
        self.known = True
        self._change(key, fact)
        if len(self._own) > MOST:
            del self._own[min(self._own, key=lambda one: self._own[one].until_s)]
        self._next_s = min(self._next_s, fact.until_s)
        if before is None or before.kind is not fact.kind:
            self._learned(key, fact, fact.until_s - now_s)

    def cleared(self, key: FactKey, now_s: float) -> None:
        """Take note that a call went well: its credential is in use again.

        That a target is limited stays true: the call may have begun before.
        """
        if not self.known:
            return
        for name in (key, whole_credential(key)):
            for facts in (self._own, self._told):
                fact = facts.get(name)
                if fact is not None and fact.kind is FactKind.PARKED and fact.until_s > now_s:
                    self._change(name, None)
                    self._own.pop(name, None)
                    self._told = {one: told for one, told in self._told.items() if one != name}
        self.known = bool(self._own or self._told)

    def now_told(self, told: Mapping[FactKey, Fact]) -> None:
        """Take in what all processes have said to each other, in place of what they said before."""
        self._told = told
        self.known = bool(self._own or told)
        self._next_s = min(
            (fact.until_s for facts in (self._own, told) for fact in facts.values()),
            default=math.inf,
        )

    def take_changes(self) -> dict[FactKey, Fact | None]:
        """Return what others have not been told yet; None is a fact that holds no more."""
        changes, self._changes = self._changes, {}
        return changes

    def put_back(self, changes: Mapping[FactKey, Fact | None]) -> None:
        """Take back changes that could not be told; what has been learnt since goes before."""
        self._changes = {**changes, **self._changes}

    def __iter__(self) -> Iterator[tuple[FactKey, Fact]]:
        return iter({**self._told, **self._own}.items())

    def _change(self, key: FactKey, fact: Fact | None) -> None:
        if self.shared:
            self._changes[key] = fact

    def _expire(self, now_s: float) -> None:
        self._own = {key: fact for key, fact in self._own.items() if fact.until_s > now_s}
        self.now_told({key: fact for key, fact in self._told.items() if fact.until_s > now_s})
