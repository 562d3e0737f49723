"""Callers for tests of limits."""

import asyncio
import itertools
import time

from shared.config.model import Limits
from shared.errors import RateLimitExceeded
from shared.limits.limiter import Limiter, Scope, Taken

SLOTS = (f"call-{number}" for number in itertools.count())


def scope(name="tenant:acme", **limits):
    return Scope(name=name, limits=Limits(**limits))


async def take(limiter: Limiter, *scopes: Scope, tokens: int = 1, slot_s: float = 60) -> Taken:
    return await limiter.take(scopes, tokens=tokens, slot=next(SLOTS), slot_s=slot_s)


async def admitted(limiter: Limiter, *scopes: Scope, calls: int, tokens: int = 1) -> list[Taken]:
    """Make the calls at once and return those that were admitted."""
    answers = await asyncio.gather(
        *(take(limiter, *scopes, tokens=tokens) for _ in range(calls)), return_exceptions=True
    )
    for answer in answers:
        if not isinstance(answer, Taken | RateLimitExceeded):
            raise answer
    return [answer for answer in answers if isinstance(answer, Taken)]


async def eventually(condition, within_s: float = 5.0) -> float:
    """Return the seconds until the condition holds; fail when it does not in time."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() < began_s + within_s, "not in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - began_s
