"""Ties child processes to this one's life: they end with it, also after a kill -9."""

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from shared.lifeline import lifeline

_GUARD = """
while read -r sign pid; do
    case $sign in
        +) pids="$pids $pid" ;;
        -) kept=; for one in $pids; do [ "$one" = "$pid" ] || kept="$kept $one"; done; pids=$kept ;;
    esac
done
[ -z "$pids" ] || kill -9 $pids 2>/dev/null
"""
"""Reads `+ PID` and `- PID`. When its input ends, so has this process: those left are killed."""


class Tie:
    """Kernel-made on Linux; elsewhere a small shell waits for the end of a pipe.

    Children must be started from the thread that lives as long as the process: Linux means the
    death of the starting thread.
    """

    def __init__(self, *, linux: bool = sys.platform == "linux") -> None:
        self._guard: subprocess.Popen[bytes] | None = None
        self.before_exec: Callable[[], None] | None = None
        if linux:
            self.before_exec = lifeline(signal.SIGKILL)
            return
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD], stdin=subprocess.PIPE, process_group=0
        )

    def add(self, pid: int) -> None:
        """Tie a process that has been started with `before_exec`."""
        self._tell(f"+ {pid}\n")

    def remove(self, pid: int) -> None:
        """Forget a process that has ended; its number may soon be another's."""
        self._tell(f"- {pid}\n")

    def close(self) -> None:
        """End; what is still tied is killed."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()

    def _tell(self, line: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            with suppress(OSError):  # the guard was killed: nothing is tied any more
                self._guard.stdin.write(line.encode())
                self._guard.stdin.flush()
