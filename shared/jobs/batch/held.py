"""Working on a batch: what it takes, and the lease under which everything is written."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec

from shared.clock import Clock
from shared.ids import IdMaker
from shared.jobs.batch.check import Asked
from shared.jobs.batch.lines import RawLine, read_lines
from shared.objects.port import ObjectMissing, Objects
from shared.queue.bell import Bell
from shared.store.batches import BatchRow, change_batch, renew_batch
from shared.store.engine import Store, Tx
from shared.store.files import get_file

AT_ONCE = 500
"""Lines per transaction."""
AHEAD = 4_000
"""Lines of one batch that are open jobs at a time: enough for several workers, few to cancel."""


class BatchLost(Exception):
    """Somebody else works on the batch, or its cancel was asked for: nothing was written."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"{batch_id} is no longer ours, or not in the state it was")
        self.batch_id = batch_id


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """What the key of a batch may ask. Both return the call of a line's body.

    `check` raises CallerError when it can be none, `read` only when it is malformed.
    """

    check: Callable[[bytes], Asked]
    read: Callable[[bytes], Asked]


class BatchDesk(msgspec.Struct, frozen=True, kw_only=True):
    """What working on batches needs.

    `caller` finds out what the key of a batch may ask today; `most_line_bytes` bounds a line as it
    does a request.
    """

    store: Store
    objects: Objects
    bell: Bell
    ids: IdMaker
    clock: Clock
    caller: Callable[[BatchRow], Awaitable[Caller]]
    lease_s: float
    most_line_bytes: int
    at_once: int = AT_ONCE
    ahead: int = AHEAD


class Held:
    """A batch under our lease, which every change renews or proves."""

    def __init__(self, desk: BatchDesk, row: BatchRow) -> None:
        self.desk = desk
        self.row = row
        self._renew_at_s = desk.clock.monotonic() + desk.lease_s / 3

    async def keep(self) -> None:
        """Renew the lease when a third of it is over; for work of any length, now and then.

        Raises:
            BatchLost: it is somebody else's.
            StoreUnavailable: it could not be renewed.
        """
        desk = self.desk
        await desk.clock.sleep(0)  # others have work on this loop, too
        if desk.clock.monotonic() < self._renew_at_s:
            return
        async with desk.store.write() as tx:
            if not await renew_batch(tx, self.row, desk.lease_s):
                raise BatchLost(self.row.id)
        self._renew_at_s = desk.clock.monotonic() + desk.lease_s / 3

    @asynccontextmanager
    async def changing(self, changes: Mapping[str, object]) -> AsyncIterator[Tx]:
        """Write the columns, and what the block writes, in one transaction.

        Raises:
            BatchLost: it is not ours any more, or its status is another. Nothing was written.
            StoreUnavailable: likewise, as far as anybody can see.
        """
        async with self.desk.store.write() as tx:
            if not await change_batch(tx, self.row, changes):
                raise BatchLost(self.row.id)
            yield tx
        self.row = msgspec.structs.replace(self.row, **changes)

    async def lines(self, *, most_bytes: int) -> AsyncGenerator[RawLine, None]:
        """Yield the lines of the input that are not jobs yet, renewing the lease on the way.

        A line of more than `most_bytes` has no content.

        Raises:
            ObjectMissing: the input is gone, or has expired.
        """
        row, desk = self.row, self.desk
        async with desk.store.read() as tx:
            file = await get_file(tx, row.tenant_id, row.input_file_id)
        if file is None:
            raise ObjectMissing(row.input_file_id)
        pieces = desk.objects.get(file.object_key, start=row.input_offset)
        async for line in read_lines(
            self._kept(pieces), start=row.input_offset, most_bytes=most_bytes
        ):
            yield line

    async def _kept(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            await self.keep()
            yield piece
