"""The states of a job and the steps between them. A final state is never left."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

FinalStatus = Literal["succeeded", "failed", "cancelled", "expired"]

WAITING = frozenset({"scheduled", "queued"})
LEASED = frozenset({"running", "cancelling"})
FINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})
OPEN = WAITING | LEASED | {"offloaded"}
STATES = OPEN | FINAL

MOST_RECOVERIES = 3
"""A job whose worker died more often than this is taken to be what kills them."""

STEPS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "scheduled": frozenset({"queued", "running", "cancelled", "expired"}),
        "queued": frozenset({"running", "offloaded", "cancelled", "expired"}),
        # back to `queued`: the worker died or stopped; to `scheduled`: another try later
        "running": frozenset({"queued", "scheduled", "cancelling"}) | FINAL,
        # a call that answered before it saw the cancel has succeeded and is paid for
        "cancelling": FINAL,
        "offloaded": frozenset({"queued"}) | FINAL,
        **{state: frozenset() for state in FINAL},
    }
)
"""Which states may follow which."""


def may_become(before: str, after: str) -> bool:
    """Return whether a job may go from one state to the other.

    Raises:
        KeyError: there is no state `before`.
    """
    return after in STEPS[before]
