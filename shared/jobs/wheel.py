"""Which class of jobs is next: shares by weight, and no class starves. Pure."""

from collections.abc import Mapping

AGE_S = 60.0
"""Waiting so long adds one to a class's weight."""


class ClassWheel:
    """Smooth weighted round robin over the classes.

    With weights 8, 3 and 1, of twelve turns eight begin with the first class, three with the
    second, one with the third; the turns of a class are spread evenly.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        """Classes of weight 0 come last in every turn.

        Raises:
            ValueError: a weight is negative, or there is no class.
        """
        if not weights or min(weights.values()) < 0:
            raise ValueError("a wheel needs classes with weights of 0 or more")
        self._shares = dict(weights)
        self._weights = dict(weights)
        self._credit = dict.fromkeys(weights, 0)

    def age(self, waits_s: Mapping[str, float]) -> None:
        """Take note of how long the oldest job of each class has waited, in seconds.

        Every minute of it is worth as much as one more of weight, up to the heaviest class's own.
        """
        most = max(self._shares.values())
        for name, share in self._shares.items():
            minutes = int(waits_s.get(name, 0.0) / AGE_S)
            self._weights[name] = max(share, min(most, share + minutes))

    def turns(self, count: int) -> dict[str, int]:
        """Return how many of so many turns each class has, in the first one's order."""
        order = self.turn()
        turns = dict.fromkeys(order, 0)
        turns[order[0]] += 1
        for _ in range(count - 1):
            turns[self.turn()[0]] += 1
        return turns

    def turn(self) -> tuple[str, ...]:
        """Return the classes in this turn's order of preference.

        The first one has the turn; the others follow by weight, for when it has no work.
        """
        for name, weight in self._weights.items():
            self._credit[name] += weight
        first = max(self._weights, key=lambda name: (self._credit[name], self._weights[name]))
        self._credit[first] -= sum(self._weights.values())
        rest = sorted(
            (name for name in self._weights if name != first),
            key=lambda name: -self._weights[name],
        )
        return (first, *rest)
