"""How many more calls than requests a route may make, so that an outage is not multiplied. Pure.

Finagle's retry budgets and gRPC's retry throttling do the same: without one, every layer that
tries again multiplies the load on what is down already.
"""

from typing import Protocol

from shared.routing.plan import Step

WINDOW_S = 10
"""Requests and calls are counted in this many parts of a second each; a part leaves as a whole."""

FLOOR_PER_S = 3
"""Further calls that are allowed whatever the share: a route with few requests may try again."""


class Allowance(Protocol):
    """What a chain asks before each call but its first."""

    def again(self, step: Step) -> bool:
        """Return whether the same target may be asked once more, or another beside it (a hedge)."""

    def onward(self, step: Step) -> bool:
        """Return whether the chain may go on to this target after another one has failed."""


class Unbounded:
    """An allowance for whoever needs none."""

    def again(self, _step: Step) -> bool:
        """Return True."""
        return True

    def onward(self, _step: Step) -> bool:
        """Return True."""
        return True


UNBOUNDED = Unbounded()


class RetryBudget:
    """The last ten seconds of a route. `share` is that of its requests which may be tried again.

    Moments are monotonic seconds and never go back.
    """

    __slots__ = ("_asked", "_more", "_part", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self._part = 0
        self._asked = [0] * WINDOW_S
        self._more = [0] * WINDOW_S

    def asked(self, now_s: float) -> None:
        """Count a request."""
        part = int(now_s)
        if part != self._part:
            self._move(part)
        self._asked[part % WINDOW_S] += 1

    def allows(self, now_s: float) -> bool:
        """Return whether a further call fits in."""
        self._move(int(now_s))
        return sum(self._more) < self.share * sum(self._asked) + FLOOR_PER_S * WINDOW_S

    def spend(self, now_s: float) -> None:
        """Count a further call, whether or not it fits in."""
        self._move(int(now_s))
        self._more[self._part % WINDOW_S] += 1

    def _move(self, part: int) -> None:
        """Forget what is older than the window."""
        for passed in range(self._part + 1, min(part, self._part + WINDOW_S) + 1):
            self._asked[passed % WINDOW_S] = self._more[passed % WINDOW_S] = 0
        self._part = part
