"""A batch for `script.lua` in MessagePack, and the script's reply."""

from collections.abc import Mapping, Sequence

import msgspec

from shared.limits.limiter import Scope
from shared.limits.owed import Row
from shared.limits.rules import Figures, Levels, State, figures_of

PREFIX = "sluiceway:limits"


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
        self._takes: list[tuple[list[int], int, str, float]] = []
        self._beat: tuple[str, float] | int = 0
        self.scopes: list[Scope] = []

    def take(self, scopes: Sequence[Scope], tokens: int, slot: str, lease_s: float) -> list[int]:
        """Ask for one call; return where its scopes stand in the reply, from 1."""
        numbers = [self._numbers.get(scope.name) or self._add(scope) for scope in scopes]
        self._takes.append((numbers, tokens, slot, lease_s))
        return numbers

    def move(self, row: Row) -> None:
        """Send what a scope is owed."""
        number = self._numbers.get(row.scope.name) or self._add(row.scope)
        self._moves.append((number, row.requests, row.tokens, row.slots))

    def hold(self, scope: Scope, slots: list[str], lease_s: float) -> None:
        """Say that these slots go on for another lease."""
        number = self._numbers.get(scope.name) or self._add(scope)
        self._holds.append((number, lease_s, slots))

    def beat(self, life_s: float) -> None:
        """Count this process for `life_s` seconds, or no more when it is 0."""
        self._beat = (self._owner, life_s)

    def keys(self) -> list[str]:
        """Return the keys that the script touches."""
        names = [f"{PREFIX}:processes", last_key(self._owner)]
        for scope in self.scopes:
            names += (f"{PREFIX}:levels:{scope.name}", f"{PREFIX}:slots:{scope.name}")
        return names

    def encode(self, not_after_s: float) -> bytes:
        """Return the script's argument. Later than the given moment it does nothing; 0: never."""
        return msgspec.msgpack.encode(
            (
                *(self.number, not_after_s),
                *(self._rows, self._moves, self._holds, self._takes, self._beat),
            )
        )

    def _add(self, scope: Scope) -> int:
        limits = scope.limits
        seen = self._seen.get(scope.name) or 0
        self._rows.append((figures_of(limits), limits.concurrency or 0, seen))
        self.scopes.append(scope)
        number = self._numbers[scope.name] = len(self.scopes)
        return number


_REPLIES = msgspec.msgpack.Decoder(Reply)
_LASTS = msgspec.msgpack.Decoder(Last)


def last_key(owner: str) -> str:
    """Return where the script remembers the last batch of a process."""
    return f"{PREFIX}:last:{owner}"


def decode(answer: bytes) -> Reply:
    """Return the script's reply."""
    return _REPLIES.decode(answer)


def decode_last(stored: bytes) -> Last:
    """Return what the script remembers."""
    return _LASTS.decode(stored)
