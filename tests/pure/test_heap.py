"""Threads allocate from the one heap of their process."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
if sys.argv[1] == "one":
    from shared.heap import share_one_heap
    share_one_heap()
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
together = threading.Barrier(4)
def allocate():
    malloc(10_000)
    together.wait(10)
threads = [threading.Thread(target=allocate) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sizes = []
for line in open("/proc/self/maps"):
    start, end = line.split()[0].split("-")
    if line.split()[1] == "---p":
        sizes.append((int(end, 16) - int(start, 16)) >> 20)
print(sum(48 <= size < 64 for size in sizes))
"""
"""Prints how many heaps of threads there are: glibc reserves 64 MB for each."""


def heaps(how: str, **env: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        env={k: v for k, v in os.environ.items() if k != "MALLOC_ARENA_MAX"} | env,
        check=True,
        capture_output=True,
        timeout=30,
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heaps")
def test_threads_have_no_heaps_of_their_own():
    assert heaps("each") > 0
    assert 0 == heaps("one")
    assert heaps("one", MALLOC_ARENA_MAX="4") > 0
