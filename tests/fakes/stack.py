"""Sluiceway's own processes, started by their commands and surely stopped."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

import httpx
import sqlalchemy as sa

from shared.store.urls import parse_store_url
from shared.telemetry.folder import VARIABLE
from tests.fakes.forked import Forked

START_S = 45.0
SHOWN = 6000
STOP_S = 20.0
MASTER_KEY = "sk-master-0123456789abcdef"

# Kills what it was told of as soon as its input ends: also when the tests were killed themselves.
GUARD = 'while read -r pid; do [ "$pid" = done ] && exit 0; pids="$pids $pid"; done; kill -9 $pids'

T = TypeVar("T")


def eventually(
    look: Callable[[], T], *, within_s: float = 10.0, every_s: float = 0.02, what: str = ""
) -> T:
    """Return the first true answer of `look`.

    Raises:
        AssertionError: there was none in time; says what the last one was.
    """
    give_up_at = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < give_up_at, f"{what or look} stayed {found!r} for {within_s} s"
        time.sleep(every_s)
    return found


class Child:
    """One process of the stack."""

    def __init__(self, process: "subprocess.Popen[bytes] | Forked", log: Path, owner: str) -> None:
        self.process = process
        self.log = log
        self.owner = owner
        self.port = 0

    @property
    def url(self) -> str:
        """The API's root."""
        return f"http://127.0.0.1:{self.port}"

    def lines(self) -> list[dict[str, object]]:
        """Return what it has logged, parsed; lines that are no JSON become `{"text": …}`."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"text": line})
        return found

    def events(self, name: str) -> list[dict[str, object]]:
        """Return its log lines of that event."""
        return [line for line in self.lines() if line.get("event") == name]

    def wait_for_event(self, name: str) -> dict[str, object]:
        """Return the first log line of that event.

        Raises:
            AssertionError: it did not come, or the process ended first.
        """

        def look() -> dict[str, object] | None:
            found = self.events(name)
            ended = self.process.poll()
            assert found or ended is None, f"exit code {ended}:\n{self.log.read_text()}"
            return found[0] if found else None

        return eventually(look, within_s=START_S, what=f"{name} of {self.owner}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait(STOP_S)

    def stop(self) -> int:
        """Ask it to stop; return its exit code.

        Raises:
            AssertionError: it did not end in time; says where its threads are, and its last words.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(STOP_S)
            said = self.log.read_text(errors="replace")[-SHOWN:]
            raise AssertionError(f"{self.owner} did not end within {STOP_S} s:\n{said}") from error


class Stack:
    """A database, maybe a broker, one config, one data folder, and the processes on them."""

    def __init__(
        self,
        home: Path,
        config: str,
        *,
        database_url: str,
        redis_url: str | None,
        covered: bool = False,
        forked: bool = True,
    ) -> None:
        self.home = home
        self.data_dir = home / "data"
        self.database_url = database_url
        self.redis_url = redis_url
        self.children: list[Child] = []
        self._forked = forked
        self._numbers = count(1)
        home.mkdir(parents=True, exist_ok=True)
        config_path = home / "sluiceway.yaml"
        config_path.write_text(config)
        left = ("SLUICEWAY",) if covered else ("SLUICEWAY", "COVERAGE")
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(left)},
            "SLUICEWAY_CONFIG": str(config_path),
            "SLUICEWAY_DATA_DIR": str(self.data_dir),
            "SLUICEWAY_DATABASE_URL": database_url,
            "SLUICEWAY_SECRET_KEY": "the-tests-own-secret-key-0123456789",
            "SLUICEWAY_MASTER_KEY": MASTER_KEY,
            "SLUICEWAY_PORT": "0",
            "PYTHONFAULTHANDLER": "1",  # SIGABRT shows where the threads are
        }
        if redis_url is not None:
            self.env["SLUICEWAY_REDIS_URL"] = redis_url
        self._engine = sa.create_engine(
            parse_store_url(database_url).for_blocking(), poolclass=sa.NullPool
        )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD], stdin=subprocess.PIPE, start_new_session=True
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            _command(*arguments),
            env=self.env,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Child:
        """Start `sluiceway ARGUMENTS`; the first one names the process."""
        owner = f"{arguments[0]}-{next(self._numbers)}"
        log = self.home / f"{owner}.log"
        log.touch()
        whole_env = {**self.env, "SLUICEWAY_PROCESS_ID": owner, **(env or {})}
        # Numbers that several processes share must be set up before the first import.
        several = any(argument.startswith("--processes") for argument in arguments)
        shared = several or VARIABLE in whole_env
        how = Forked if self._forked and not shared else _fresh
        process = how(arguments, whole_env, log)
        child = Child(process, log, owner)
        self.children.append(child)
        assert self._guard.stdin is not None
        self._guard.stdin.write(b"%d\n" % process.pid)
        self._guard.stdin.flush()
        return child

    def api(self, *arguments: str) -> Child:
        """Start an API; it serves when this returns. Unless asked it stops without a delay."""
        child = self.start("api", "--stop-delay=0", *arguments)
        self.wait_for_api(child)
        return child

    def wait_for_api(self, child: Child) -> None:
        """Return when it serves and its port is known."""
        self.wait_for_port(child)
        eventually(lambda: _ready(child), within_s=START_S, what=f"{child.url}/readyz")

    def wait_for_port(self, child: Child) -> None:
        """Return when it listens and its port is known; it may not be ready."""
        address = str(child.wait_for_event("api.serving")["address"])
        found = re.search(r":(\d+)$", address)
        assert found is not None
        child.port = int(found.group(1))

    def worker(self, *arguments: str) -> Child:
        """Start a worker; `worker.started` in its log says that it looks for jobs."""
        return self.start("worker", *arguments)

    def rows(self, statement: str, **values: object) -> list[dict[str, object]]:
        """Return what a query finds, as the database has it."""
        with self._engine.connect() as connection:
            found = connection.execute(sa.text(statement), values)
            return [dict(row) for row in found.mappings()]

    def ledger(self, request_id: str) -> list[dict[str, object]]:
        """Return the ledger rows of a caller's request id, oldest first."""
        return self.rows(
            "SELECT * FROM ledger WHERE request_id LIKE :ids ORDER BY started_at, attempt_id",
            ids=f"{request_id}/%",
        )

    def wait_for_ledger(self, request_id: str, count: int = 1) -> list[dict[str, object]]:
        """Return the ledger rows of a request once there are so many."""
        eventually(lambda: len(self.ledger(request_id)) >= count, what=f"ledger of {request_id}")
        return self.ledger(request_id)

    def close(self) -> None:
        """Stop what still runs: asked first, then killed."""
        for child in self.children:
            if child.process.poll() is None:
                child.process.terminate()
        for child in self.children:
            try:
                child.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
        assert self._guard.stdin is not None
        self._guard.stdin.write(b"done\n")
        self._guard.stdin.close()
        self._guard.wait()
        self._engine.dispose()


@contextmanager
def running_stack(
    home: Path,
    config: str,
    *,
    database_url: str,
    redis_url: str | None = None,
    covered: bool = False,
    forked: bool = True,
) -> Iterator[Stack]:
    """Yield a stack without processes; all that are started in the block end with it.

    Only the processes of a `covered` one count for the coverage: it makes them half as fast.
    Those of a `forked` one know the product from the beginning; the others are started as by hand.
    """
    stack = Stack(
        home,
        config,
        database_url=database_url,
        redis_url=redis_url,
        covered=covered,
        forked=forked,
    )
    try:
        yield stack
    finally:
        stack.close()


def _fresh(
    arguments: tuple[str, ...], env: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(
            _command(*arguments),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "compose.cli", *arguments]


def _ready(child: Child) -> bool:
    assert child.process.poll() is None, child.log.read_text()
    try:
        return httpx.get(f"{child.url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
