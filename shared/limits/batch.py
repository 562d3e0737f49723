"""A batch for `script.lua` in MessagePack, and the script's reply."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from shared.limits.limiter import Scope
from shared.limits.owed import Row
from shared.limits.redis import packed
from shared.limits.rules import Figures, Levels, State, figures_of
from shared.limits.waiting import Waiting

PREFIX = "sluiceway:limits"

MAX_PACKED = 4_096
"""Scopes whose keys are kept as they are sent."""

Place = tuple[int, ...]
"""Where the scopes of a call stand in a batch and its reply, from 1."""


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """What the script answers: its clock, how many processes, the scopes, the verdicts."""

    now_s: float
    processes: int
    scopes: list[tuple[Levels, int]]
    verdicts: list[int]


class Last(msgspec.Struct, frozen=True, array_like=True):
    """The last batch of a process that Redis carried out."""

    number: int
    verdicts: list[int]


class Batch:
    """Everything one process asks of Redis in one go. `seen` are the states it knows."""

    def __init__(self, owner: str, number: int, seen: Mapping[str, State]) -> None:
        self.number = number
        self._owner = owner
        self._seen = seen
        self._numbers: dict[str, int] = {}
        self._rows: list[tuple[Figures, int, State | int]] = []
        self._moves: list[tuple[int, float, float, list[str]]] = []
        self._holds: list[tuple[int, float, list[str]]] = []
        self.takes: list[tuple[Place, int, str, float]] = []
        """Each with its place among the scopes."""
        self._beat: tuple[str, float] | int = 0
        self.scopes: list[Scope] = []
        self.figures: list[Figures] = []

    def take(self, calls: Sequence[Waiting], lease_s: float) -> None:
        """Ask for these calls, for a slot that lasts so long at most."""
        known: dict[int, Place] = {}  # by the `id` of scopes: most calls share them
        before: tuple[Scope, ...] | None = None
        place: Place = ()
        takes = self.takes
        for taken, slot_s, _, _ in calls:
            scopes = taken.scopes
            if scopes is not before:
                before = scopes
                if id(scopes) not in known:
                    known[id(scopes)] = tuple([self._number(scope) for scope in scopes])
                place = known[id(scopes)]
            seconds = slot_s if slot_s < lease_s else lease_s  # noqa: FURB136 (min costs more)
            takes.append((place, taken.tokens, taken.slot, seconds))

    def move(self, row: Row) -> None:
        """Send what a scope is owed."""
        self._moves.append((self._number(row.scope), row.requests, row.tokens, row.slots))

    def hold(self, scope: Scope, slots: list[str], lease_s: float) -> None:
        """Say that these slots go on for another lease."""
        number = self._number(scope)
        self._holds.append((number, lease_s, slots))

    def beat(self, life_s: float) -> None:
        """Count this process for `life_s` seconds, or no more when it is 0."""
        self._beat = (self._owner, life_s)

    def keys(self) -> tuple[int, bytes]:
        """Return how many keys the script touches, and all of them as they are sent."""
        keys = [_own_keys(self._owner), *[_scope_keys(scope.name) for scope in self.scopes]]
        return 2 * len(keys), b"".join(keys)

    def encode(self, not_after_s: float) -> bytes:
        """Return the script's argument. Later than the given moment it does nothing; 0: never."""
        return msgspec.msgpack.encode(
            (
                *(self.number, not_after_s),
                *(self._rows, self._moves, self._holds, self.takes, self._beat),
            )
        )

    def _number(self, scope: Scope) -> int:
        name = scope.name
        number = self._numbers.get(name)
        if number is None:
            limits = scope.limits
            figures = figures_of(limits)
            self._rows.append((figures, limits.concurrency or 0, self._seen.get(name) or 0))
            self.figures.append(figures)
            self.scopes.append(scope)
            number = self._numbers[name] = len(self.scopes)
        return number


_REPLIES = msgspec.msgpack.Decoder(Reply)
_LASTS = msgspec.msgpack.Decoder(Last)


def last_key(owner: str) -> str:
    """Return where the script remembers the last batch of a process."""
    return f"{PREFIX}:last:{owner}"


@lru_cache(maxsize=4)
def _own_keys(owner: str) -> bytes:
    return packed(f"{PREFIX}:processes") + packed(last_key(owner))


@lru_cache(maxsize=MAX_PACKED)
def _scope_keys(name: str) -> bytes:
    return packed(f"{PREFIX}:levels:{name}") + packed(f"{PREFIX}:slots:{name}")


def decode(answer: bytes) -> Reply:
    """Return the script's reply."""
    return _REPLIES.decode(answer)


def decode_last(stored: bytes) -> Last:
    """Return what the script remembers."""
    return _LASTS.decode(stored)
