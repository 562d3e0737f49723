"""Work that blocks, in threads of its own.

Those of the event loop look up names, which must not wait behind uploads.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from shared.errors import ObjectsUnavailable

T = TypeVar("T")

PIECE_BYTES = 256 * 1024
"""A step through a thread costs about 50 µs; this much makes that small."""


LONGEST_S = 60.0
"""A disk or a bucket that needs longer for one step is as good as away."""


class Threads:
    """A few threads; none starts before it is needed."""

    def __init__(self, count: int, longest_s: float = LONGEST_S) -> None:
        self._longest_s = longest_s
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="objects")

    async def run(self, work: Callable[[], T]) -> T:
        """Return what the work returns.

        A cancellation waits for it, too: what a thread uses must not be taken from it.

        Raises:
            ObjectsUnavailable: it takes too long, and goes on by itself.
        """
        future = asyncio.wrap_future(self._pool.submit(work))
        try:
            done, _ = await asyncio.wait([future], timeout=self._longest_s)
        except asyncio.CancelledError:
            await asyncio.wait([future], timeout=self._longest_s)
            future.add_done_callback(_look_at)
            raise
        if not done:
            future.add_done_callback(_look_at)
            raise ObjectsUnavailable(f"The object store did not answer in {self._longest_s:g} s.")
        return future.result()

    def close(self) -> None:
        """Take no more work; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _look_at(future: "asyncio.Future[T]") -> None:
    """Take note of a failure that nobody waits for any more."""
    if not future.cancelled():
        future.exception()


async def regrouped(pieces: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """Yield the same bytes in pieces of exactly `size`, the last one of whatever is left."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        if len(waiting) < size:
            continue
        whole = len(waiting) - len(waiting) % size
        with memoryview(waiting) as view:
            for at in range(0, whole, size):
                yield bytes(view[at : at + size])
        del waiting[:whole]
    if waiting:
        yield bytes(waiting)
