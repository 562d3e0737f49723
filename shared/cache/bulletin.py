"""How the processes of one machine tell each other to forget: a few bytes that all of them map."""

import mmap
import os
from pathlib import Path

SIZE = 16
"""Bytes; each post writes others."""


class Bulletin:
    """Says whether another process has posted since the last look, which is on every call.

    It has where `shown` is not what was `seen`, which is compared in place.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            OSError: the disk refuses it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(file).st_size < SIZE:
                os.ftruncate(file, SIZE)
            self._shared = mmap.mmap(file, SIZE)
        finally:
            os.close(file)
        self.shown = memoryview(self._shared)
        self.seen = bytes(self.shown)

    def see(self) -> None:
        """Take what is shown for seen."""
        self.seen = bytes(self.shown)

    def post(self) -> None:
        """Tell the others."""
        self.seen = self._shared[:SIZE] = os.urandom(SIZE)

    def close(self) -> None:
        """Let go of the file, which stays."""
        self.shown.release()
        self._shared.close()
