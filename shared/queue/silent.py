"""No broker: workers find everything by looking, within `queue.poll_s`."""


class SilentBell:
    """A bell without a clapper."""

    def ring(self, topic: str) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""
