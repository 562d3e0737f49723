"""Processes of the product forked from one that has imported it: a start in a fifth of the time.

From there on they are like any other: their own id, command, environment, output and signals.
"""

import faulthandler
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing import connection, get_context
from pathlib import Path
from threading import Lock

from coverage import Coverage

_LOCK = Lock()
"""multiprocessing looks after its processes whenever it starts one, and would race with us."""
_SERVER = get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.fakes.preloaded"])


class Forked:
    """Has the part of `subprocess.Popen` that tests use."""

    def __init__(self, arguments: tuple[str, ...], env: Mapping[str, str], log: Path) -> None:
        self._arguments = arguments
        self._process = _SERVER.Process(target=_run, args=(arguments, dict(env), str(log)))
        with _LOCK:
            self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, minus the signal's number for a killed one, None while it runs."""
        with _LOCK:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended.

        Raises:
            subprocess.TimeoutExpired: it did not in time.
        """
        give_up_at = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            left_s = None if give_up_at is None else give_up_at - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise subprocess.TimeoutExpired(self._arguments, timeout or 0)
            connection.wait([self._process.sentinel], left_s)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _run(arguments: tuple[str, ...], env: Mapping[str, str], log: str) -> None:
    """Be `sluiceway ARGUMENTS`, as if just started."""
    os.setsid()
    output = os.open(log, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    os.environ.clear()
    os.environ.update(env)
    faulthandler.enable()
    sys.argv = ["sluiceway", *arguments]

    from compose.cli import main

    measured = Coverage.current()  # since the server's imports
    if measured is not None and not any(name.startswith("COVERAGE") for name in env):
        measured.stop()
        measured = None
    try:
        main(arguments, prog_name="sluiceway")
    finally:
        if measured is not None:
            measured.save()
