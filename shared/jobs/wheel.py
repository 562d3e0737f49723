"""Which class of jobs is next: shares by weight, and no class starves. Pure."""

from collections.abc import Mapping


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
        self._weights = dict(weights)
        self._credit = dict.fromkeys(weights, 0)

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
