"""When a delivery is tried again, and when it is given up."""

from datetime import timedelta
from typing import Literal

import msgspec

STEPS_S = (0, 5, 5 * 60, 30 * 60, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24)))
"""The wait before each attempt: the example schedule of Standard Webhooks, 75 hours in all."""

LONGEST_HINT_S = 24 * 3600.0
"""A receiver's Retry-After is obeyed up to a day."""

GONE = 410

PATIENCE = timedelta(days=5)
"""An endpoint that has taken nothing for so long is disabled (Svix has the same)."""
LEAST_EVENTS = 10
"""Fewer say nothing: a receiver may have been down for the few there were."""


MOST_SAID = 500
"""Characters of an error that are told."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt went. Exactly one of `status_code` and `error` is set.

    `answer_head` is the first KiB of the receiver's answer, for the delivery log.
    """

    status_code: int | None = None
    error: str | None = None
    duration_ms: int = 0
    retry_after_s: float | None = None
    answer_head: bytes = b""

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it: 2xx and nothing else, redirects neither."""
        return self.status_code is not None and self.status_code // 100 == 2  # noqa: PLR2004


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the delivery. `wait_s` is set exactly when it stays pending."""

    status: Literal["succeeded", "failed", "pending"]
    wait_s: float | None = None


def next_wait_s(made: int, draw: float, hint_s: float | None = None) -> float | None:
    """Return the seconds until the next attempt after `made` of them, None when that was the last.

    `draw` from 0 to 1 spreads the wait by 10 % to both sides; `hint_s` is the receiver's
    Retry-After, which can only make it longer.
    """
    if made >= len(STEPS_S):
        return None
    wait_s = STEPS_S[made] * (0.9 + 0.2 * draw)
    if hint_s is None:
        return wait_s
    return max(wait_s, min(hint_s, LONGEST_HINT_S))


def judge(outcome: Outcome, *, made: int, draw: float) -> Verdict:
    """Decide after the attempt number `made` (the first is 1)."""
    if outcome.delivered:
        return Verdict(status="succeeded")
    if outcome.status_code == GONE:  # the receiver says it will never want this again
        return Verdict(status="failed")
    wait_s = next_wait_s(made, draw, outcome.retry_after_s)
    if wait_s is None:
        return Verdict(status="failed")
    return Verdict(status="pending", wait_s=wait_s)


def disabled_for(outcome: Outcome, failing: timedelta, events: int) -> str | None:
    """Say why its endpoint is to be disabled after a failed attempt; None when it is not.

    It has been failing for that long, for that many events.
    """
    if outcome.status_code == GONE:
        return "it answered 410"
    if failing >= PATIENCE and events >= LEAST_EVENTS:
        return f"it has taken nothing for {failing.days} days"
    return None
