"""What Redis has last said of scopes."""

from collections.abc import Iterable

from shared.limits.limiter import Scope
from shared.limits.rules import Levels, State, is_roomy

MAX_SEEN = 20_000
"""States of scopes to carry on from; the longest unused go first."""


class Seen:
    """The states of scopes, and which of them had plenty left."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self._roomy: set[str] = set()

    def learn(self, now_s: float, rows: Iterable[tuple[Scope, tuple[Levels, int]]]) -> None:
        """Take in the levels and the slots in use, as they were at `now_s` by Redis' clock."""
        states, roomy = self.states, self._roomy
        for scope, (levels, used) in rows:
            states.pop(scope.name, None)  # to the end of the line
            states[scope.name] = State(now_s, levels)
            if is_roomy(levels, used, scope.limits):
                roomy.add(scope.name)
            else:
                roomy.discard(scope.name)
        while len(states) > MAX_SEEN:
            oldest = next(iter(states))
            del states[oldest]
            roomy.discard(oldest)

    def are_roomy(self, scopes: Iterable[Scope]) -> bool:
        """Return whether each had plenty left; see `is_roomy`."""
        for scope in scopes:  # noqa: SIM110 (a generator costs each call more)
            if scope.name not in self._roomy:
                return False
        return True
