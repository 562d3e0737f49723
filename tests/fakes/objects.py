"""An object store in memory that can be away."""

import asyncio
from collections.abc import AsyncIterator

from shared.errors import ObjectsUnavailable
from shared.objects.port import ObjectMissing


class MemoryObjects:
    """Keeps objects by key; while `away` it answers nobody."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.away = False
        self.refused = asyncio.Event()

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        self._check()
        content = b"".join([piece async for piece in pieces])
        self.kept[key] = content
        return len(content)

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        self._check()
        if key not in self.kept:
            raise ObjectMissing(key)
        yield self.kept[key][start:end]

    async def delete(self, key: str) -> None:
        self._check()
        self.kept.pop(key, None)

    async def aclose(self) -> None:
        pass

    def _check(self) -> None:
        if self.away:
            self.refused.set()
            raise ObjectsUnavailable("The object store is away.")
