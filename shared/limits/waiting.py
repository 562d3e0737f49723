"""Calls on their way to Redis and back."""

import asyncio

import msgspec

from shared.limits.limiter import Scope, Standing, Taken
from shared.limits.owed import Row


class Waiting(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """A call that waits for its verdict."""

    scopes: tuple[Scope, ...]
    tokens: int
    slot: str
    slot_s: float
    asked_s: float
    answer: asyncio.Future[Taken | Exception]


class Unsure:
    """A batch that got no answer: Redis may have carried it out all the same."""

    __slots__ = ("calls", "number", "rows")

    def __init__(self, number: int, rows: list[Row], calls: list[Waiting]) -> None:
        self.number = number
        self.rows = rows
        self.calls = calls


def unlimited(tokens: int, slot: str) -> Taken:
    """Return what a call holds that nothing limits: nothing."""
    return Taken(standing=Standing(), scopes=(), tokens=tokens, slot=slot, until_s=0.0)
