"""The end of an API process: calls that outlast the grace are told so, never just cut."""

from collections.abc import Callable


class Closing:
    """Comes once, shortly before what is still open would be cut. `over`: it has come."""

    def __init__(self) -> None:
        self.over = False
        self._ends: set[Callable[[], None]] = set()

    def come(self) -> None:
        """Tell everything that is open to end; again does nothing."""
        if self.over:
            return
        self.over = True
        for end in tuple(self._ends):
            end()

    def add(self, end: Callable[[], None]) -> None:
        """Have `end` called when the end comes, at once if it has come; `discard` takes it back."""
        if self.over:
            end()
        self._ends.add(end)

    def discard(self, end: Callable[[], None]) -> None:
        """Forget what was added."""
        self._ends.discard(end)
