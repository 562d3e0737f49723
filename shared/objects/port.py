"""What an object store does, whichever it is."""

from collections.abc import AsyncIterator
from typing import Protocol


class ObjectMissing(Exception):
    """There is no object of that key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no object {key!r}")
        self.key = key


class Objects(Protocol):
    """Objects by key. Keys are ours: letters, digits, `_`, `-`, `.` and `/` between segments.

    Every method may raise `ObjectsUnavailable` (from `shared.errors`) when the store cannot be
    asked; nothing was changed then, as far as anybody can see.
    """

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """Store what the iterator yields, in constant memory; return its size in bytes.

        Whole or not at all: nobody sees a part, and an iterator that raises leaves nothing.
        An object of that key is replaced.
        """

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to, without, `end`, in pieces of at most 256 KiB.

        Raises:
            ObjectMissing: there is no such object.
        """

    async def delete(self, key: str) -> None:
        """Delete the object; nothing happens when there is none."""

    async def aclose(self) -> None:
        """Let go of connections."""
