"""`sluiceway dev` as somebody at a terminal has it: started, read, interrupted, surely gone."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.fakes.stack import eventually

START_S = 40.0
STOP_S = 20.0
SLUICEWAY = str(Path(sys.executable).with_name("sluiceway"))


class Dev:
    """A running `sluiceway dev`; it leads a session of its own, as below a terminal."""

    def __init__(self, process: "subprocess.Popen[bytes]", home: Path, output: Path) -> None:
        self.process = process
        self.home = home
        self.output = output

    @property
    def shown(self) -> str:
        """What it has printed."""
        return self.output.read_text()

    @property
    def url(self) -> str:
        """Where it serves."""
        return eventually(lambda: re.findall(r"URL +(http://\S+)/v1", self.shown))[0]

    @property
    def key(self) -> str:
        """The dev key."""
        return (self.home / ".sluiceway" / "dev.key").read_text().strip()

    def wait_for(self, text: str, within_s: float = START_S) -> None:
        """Return once it has printed the text; fail with what it printed instead."""
        give_up_at = time.monotonic() + within_s
        while text not in self.shown:
            assert self.process.poll() is None, f"it ended:\n{self.shown}"
            assert time.monotonic() < give_up_at, f"no {text!r} in:\n{self.shown}"
            time.sleep(0.02)

    def serving(self) -> "Dev":
        """Return once it says that it serves."""
        self.wait_for("Serving http://")
        return self

    def client(self) -> httpx.Client:
        """Call it with the dev key."""
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def pids(self, name: str = "") -> list[int]:
        """Return the processes of its session, or those with a word in their command line."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ProcessLookupError):
                stat = (folder / "stat").read_text().rpartition(") ")[2].split()
                # Redis writes its title over its arguments, with spaces.
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").split()
                alive = stat[0] != "Z"
                if alive and int(stat[3]) == self.process.pid and (not name or _named(words, name)):
                    found.append(int(folder.name))
        return found

    def interrupt(self) -> None:
        """Do what Ctrl-C does: SIGINT to the foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def stop(self) -> int:
        """Interrupt it and return its exit code."""
        self.interrupt()
        return self.process.wait(STOP_S)


def _named(words: list[bytes], name: str) -> bool:
    return any(word.rpartition(b"/")[2].startswith(name.encode()) for word in words)


@contextmanager
def running_dev(
    home: Path, *arguments: str, env: Mapping[str, str] | None = None, covered: bool = False
) -> Iterator[Dev]:
    """Run it in a folder with next to no environment; nothing of it is left after the block.

    Its processes count for the coverage when it is `covered`, and take twice as long to start.
    """
    output = home / "output.txt"
    with output.open("wb") as shown:
        process = subprocess.Popen(
            [SLUICEWAY, "dev", "--port", "0", *arguments],
            cwd=home,
            env=environment(env or {}, covered=covered),
            stdin=subprocess.DEVNULL,
            stdout=shown,
            stderr=shown,
            start_new_session=True,
        )
    dev = Dev(process, home, output)
    try:
        yield dev
    finally:
        for pid in dev.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def refused(home: Path, *arguments: str) -> tuple[int, str]:
    """Run a `sluiceway dev` that cannot start; return its exit code and what it said."""
    done = subprocess.run(
        [SLUICEWAY, "dev", *arguments],
        cwd=home,
        env=environment({}, covered=True),
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    return done.returncode, done.stderr


def environment(more: Mapping[str, str], *, covered: bool = False) -> dict[str, str]:
    """Return a path, and what the coverage figures of child processes need."""
    figures = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
    return {"PATH": "/usr/bin:/bin", **(figures if covered else {}), **more}


def usage_of(dev: Dev) -> dict[str, object]:
    """Return what the dev key has used."""
    with dev.client() as client:
        return json.loads(client.get("/v1/usage").raise_for_status().text)
