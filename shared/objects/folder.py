"""Objects as files of a folder. Every process must see the same folder."""

import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from shared.errors import ObjectsUnavailable
from shared.objects.keys import checked
from shared.objects.port import ObjectMissing
from shared.objects.threads import PIECE_BYTES, Threads, regrouped

T = TypeVar("T")

THREADS = 8
DRAFTS = ".drafts"
"""Where objects grow; no key begins with a dot."""
ABANDONED_S = 86_400.0
"""A draft that nobody has written to for so long was left by a process that died."""


class FolderObjects:
    """Objects below `root`, which is made when it is needed.

    An object is written beside its place, flushed to the disk and then renamed, so that a power cut
    leaves the old one, the new one or none.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = Threads(THREADS)
        self._swept = False

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """Store what the iterator yields; return its size in bytes."""
        place = self._place(key)
        draft = await self._do(self._new_draft)
        size = 0
        try:
            async with aclosing(regrouped(pieces, PIECE_BYTES)) as whole:
                async for piece in whole:
                    size += await self._do(partial(draft.write, piece))
            await self._do(partial(_publish, draft, place, self._root))
        except BaseException:
            with suppress(ObjectsUnavailable):
                await self._do(partial(_discard, draft))
            raise
        return size

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to, without, `end`.

        Raises:
            ObjectMissing: there is no such object.
        """
        opened = await self._do(partial(_open, self._place(key), key, start))
        left = None if end is None else max(0, end - start)
        try:
            while left is None or left > 0:
                size = PIECE_BYTES if left is None else min(PIECE_BYTES, left)
                piece = await self._do(partial(opened.read, size))
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece
        finally:
            opened.close()

    async def delete(self, key: str) -> None:
        """Delete the object; nothing happens when there is none."""
        await self._do(partial(self._place(key).unlink, missing_ok=True))

    async def aclose(self) -> None:
        """Let go of the threads."""
        self._threads.close()

    def _place(self, key: str) -> Path:
        return self._root / checked(key)

    def _new_draft(self) -> BinaryIO:
        drafts = self._root / DRAFTS
        drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, path = tempfile.mkstemp(dir=drafts)
        if not self._swept:
            self._swept = True
            _sweep(drafts, before_s=os.fstat(number).st_mtime - ABANDONED_S)
        os.close(number)
        return Path(path).open("r+b")

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await self._threads.run(work)
        except OSError as error:
            why = error.strerror or str(error)
            raise ObjectsUnavailable(f"The folder of objects cannot be used: {why}.") from error


def _publish(draft: BinaryIO, place: Path, root: Path) -> None:
    draft.flush()
    os.fsync(draft.fileno())
    draft.close()
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    Path(draft.name).replace(place)
    for folder in place.relative_to(root).parents:  # names are kept apart from what they name
        number = os.open(root / folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _sweep(drafts: Path, *, before_s: float) -> None:
    for draft in drafts.iterdir():
        with suppress(FileNotFoundError):  # another process sweeps, too
            if draft.stat().st_mtime < before_s:
                draft.unlink()


def _discard(draft: BinaryIO) -> None:
    draft.close()
    with suppress(OSError):
        Path(draft.name).unlink()


def _open(place: Path, key: str, start: int) -> BinaryIO:
    try:
        opened = place.open("rb")
    except FileNotFoundError as error:
        raise ObjectMissing(key) from error
    opened.seek(start)
    return opened
