"""Calls on their way to Redis and back."""

import asyncio

from shared.limits.limiter import Standing, Taken
from shared.limits.owed import Row

Waiting = tuple[Taken, float, float, asyncio.Future[Taken | Exception]]
"""A call that waits: what it asks for, the seconds its slot may last, since when, its verdict."""

NOT_KNOWN = Standing()


class Unsure:
    """A batch that got no answer: Redis may have carried it out all the same."""

    __slots__ = ("calls", "number", "rows")

    def __init__(self, number: int, rows: list[Row], calls: list[Waiting]) -> None:
        self.number = number
        self.rows = rows
        self.calls = calls


def unlimited(tokens: int, slot: str) -> Taken:
    """Return what a call holds that nothing limits: nothing."""
    return Taken(standing=NOT_KNOWN, scopes=(), tokens=tokens, slot=slot, until_s=0.0)
