"""The processes of the embedded stack, one by one: start, look, signal."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from compose.tie import Tie

ROTATE_BYTES = 10_000_000
TAIL_BYTES = 8_192


class Child:
    """A part of the stack and the process that runs it at present.

    Each has a process group of its own in our session, so that a Ctrl-C of the terminal does not
    reach it before we order the stop. Its output goes to `log`.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path, tie: Tie
    ) -> None:
        self.name = name
        self.log = log
        self.owner = ""
        self.started_s = 0.0
        self.deaths = 0
        self._command = list(command)
        self._env = dict(env)
        self._tie = tie
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process that runs, None before the start and after the end."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process under a fresh owner id; call from the main thread (see Tie).

        Raises:
            OSError: the program cannot be run.
        """
        self.owner = f"{self.name}-dev-{os.urandom(6).hex()}"
        self.started_s = time.monotonic()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env={**self._env, "SLUICEWAY_PROCESS_ID": self.owner},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
                preexec_fn=self._tie.before_exec,  # noqa: PLW1509 (it calls the kernel, no more)
            )
        self._tie.add(self._process.pid)

    def ended(self) -> int | None:
        """Return the exit code once the process is gone (below zero: the signal), None before."""
        return None if self._process is None else self._process.poll()

    def forget(self) -> None:
        """Take note that the process has ended."""
        if self._process is not None:
            self._tie.remove(self._process.pid)
            self._process = None

    def tell(self, number: signal.Signals) -> None:
        """Send the process a signal, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def last_words(self, lines: int = 5) -> list[str]:
        """Return the end of its log."""
        try:
            with self.log.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - TAIL_BYTES))
                return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        except OSError:
            return []


def sluiceway_command(*arguments: str) -> list[str]:
    """Return how this installation's `sluiceway` is run, with that name in its command line."""
    script = Path(sys.executable).with_name("sluiceway")
    if script.is_file():
        return [sys.executable, str(script), *arguments]
    # -P: the caller's folder, where another `api/` may lie, stays off the import path.
    return [sys.executable, "-P", "-m", "compose.cli", *arguments]


def fresh_log(folder: Path, name: str) -> Path:
    """Return a process's log file; one that has grown large becomes `NAME.log.1`."""
    path = folder / f"{name}.log"
    if path.exists() and path.stat().st_size > ROTATE_BYTES:
        path.replace(folder / f"{name}.log.1")
    path.touch(mode=0o600)
    return path


def fate(code: int) -> str:
    """Return in words how a process ended."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
