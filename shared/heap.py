"""Where a process's memory comes from."""

import ctypes
import os
from contextlib import suppress

_M_ARENA_MAX = -8  # malloc.h of glibc; mallopt(3)


def share_one_heap() -> None:
    """Have all threads allocate from one heap; to be called before there are any.

    glibc gives each thread its own, and what SQLite's driver and the pool's threads have freed in
    theirs is of no use to the event loop: of some 20 MB that a busy process gains they are 8. They
    seldom wait for each other, for Python runs one at a time. Set MALLOC_ARENA_MAX to have it
    otherwise; other libcs have nothing to set.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
