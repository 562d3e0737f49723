"""Ids: a prefix that says what it names, then 12 hex digits of time and 20 of chance.

Sorting by id sorts by creation to the millisecond; no separator inside, so that an id may stand
in a Standard Webhooks signature (which joins its parts by dots).
"""

import os
from collections.abc import Callable

from shared.clock import wall_ms

IdMaker = Callable[[str], str]
"""`make("job")` returns a new id such as `job_0199...`."""


def id_of(prefix: str, at_ms: int, chance: bytes) -> str:
    """Return the id for that millisecond and those 10 random bytes."""
    return f"{prefix}_{at_ms:012x}{chance.hex()}"


def new_id(prefix: str) -> str:
    """Return a fresh id; the one place that mixes in the clock and the system's randomness."""
    return id_of(prefix, wall_ms(), os.urandom(10))
