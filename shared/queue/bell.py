"""The port everything rings that has just committed work."""

from typing import Protocol

RING_GAP_S = 0.02
"""At least this long between two messages of one topic; what rings in between becomes one."""


class Bell(Protocol):
    """Wakes workers soon. Never the only way: they also look by themselves."""

    def ring(self, topic: str) -> None:
        """Ask workers to look for `topic`; never waits and never fails.

        Rings of one topic within 20 ms are one. The last of them is never swallowed: a message
        leaves after it, so what was committed before `ring` is seen.
        """

    async def aclose(self) -> None:
        """Send what is pending, within a second, and stop."""
