"""Numbers of several processes: all counted once, the dead's too, and the files stay few.

Each process here is a real one, for the library reads the variable when it is first imported.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.telemetry.folder import VARIABLE, clean, retire, shared_folder
from tests.fakes.stack import eventually

COUNTER = """
import sys
from shared.chat.usage import Usage
from shared.telemetry.exposition import exposed
from shared.telemetry.metrics import JOBS_RUNNING, BUILD_INFO
from shared.telemetry.tally import count_waiting, observe_attempt, observe_request
for line in sys.stdin:
    if line == "show\\n":
        text = exposed()[0].decode()
        print(text.count("\\n"), text, sep="\\n", end="", flush=True)
        continue
    for _ in range(int(line)):
        observe_request("/v1/models", 200, None, 0.3)
        observe_attempt("mock", "succeeded", None, 0.2, Usage(input_tokens=2), 0)
    JOBS_RUNNING.inc()
    BUILD_INFO.labels("1").set(1)
    count_waiting()
    print("done", flush=True)
"""


class Counting:
    """A process that counts as told."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", COUNTER],
            env={**os.environ, VARIABLE: str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def count(self, number: int) -> None:
        self._say(f"{number}\n")
        assert "done\n" == self.process.stdout.readline()

    def shown(self) -> dict[str, float]:
        """Return the series without their comments."""
        self._say("show\n")
        number = int(self.process.stdout.readline())
        lines = [self.process.stdout.readline() for _ in range(number)]
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def kill(self) -> int:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        return self.process.pid

    def _say(self, line: str) -> None:
        self.process.stdin.write(line)
        self.process.stdin.flush()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Counting]]:
    started: list[Counting] = []

    def one() -> Counting:
        started.append(Counting(tmp_path))
        return started[-1]

    yield one
    for counting in started:
        counting.kill()


def requests(shown: dict[str, float]) -> tuple[float, ...]:
    """Return requests, their seconds, and the tokens."""
    return (
        shown['sluiceway_requests_total{code="ok",endpoint="/v1/models",status="200"}'],
        round(shown['sluiceway_request_seconds_sum{endpoint="/v1/models"}'], 6),
        shown['sluiceway_request_seconds_bucket{endpoint="/v1/models",le="0.5"}'],
        shown['sluiceway_tokens_total{kind="input",provider="mock"}'],
    )


def test_the_sum_survives_deaths_and_the_files_do_not(start, tmp_path):
    """Ten processes die; what they counted stays, what they measured goes, one file a kind is left.

    Retiring a process twice, or one that never was, changes nothing.
    """
    watcher = start()
    watcher.count(1)
    total = 1
    for number in range(10):
        dying = start()
        dying.count(number)
        total += number
        before = watcher.shown()
        pid = dying.kill()
        retire(pid, tmp_path)
        retire(pid, tmp_path)
        assert requests(before) == requests(watcher.shown())
        assert 2.0 == before["sluiceway_jobs_running"]
        assert 1.0 == watcher.shown()["sluiceway_jobs_running"]
    retire(None, tmp_path)
    retire(999_999_999, tmp_path)

    assert (float(total), round(total * 0.3, 6), float(total), 2.0 * total) == requests(
        watcher.shown()
    )
    names = {path.name.replace(str(watcher.process.pid), "N") for path in tmp_path.glob("*.db")}
    assert {"counter_dead.db", "histogram_dead.db", "counter_N.db", "histogram_N.db"} == {
        name for name in names if not name.startswith("gauge")
    }
    assert all("dead" not in name for name in names if name.startswith("gauge"))


def test_a_start_folds_the_dead_of_a_folder_in_use(start, tmp_path):
    watcher, dead = start(), start()
    watcher.count(1)
    dead.count(2)
    dead.kill()

    clean(tmp_path)

    assert 3.0 == requests(watcher.shown())[0]
    assert 1.0 == watcher.shown()["sluiceway_jobs_running"]


def test_a_start_begins_at_zero_when_nobody_lives(start, tmp_path):
    dead = start()
    dead.count(2)
    dead.kill()
    (tmp_path / "counter_dead.db").write_bytes(b"of an older version")

    clean(tmp_path)

    assert [] == list(tmp_path.glob("*.db"))


def test_files_that_died_half_made_are_no_trouble(start, tmp_path):
    """A process can be killed between creating its file and writing to it."""
    watcher = start()
    watcher.count(1)
    (tmp_path / "counter_999999998.db").write_bytes(b"")
    (tmp_path / "histogram_999999998.db").write_bytes(b"\0" * 65536)

    assert 1.0 == requests(watcher.shown())[0]
    clean(tmp_path)
    assert 1.0 == requests(watcher.shown())[0]
    assert [] == list(tmp_path.glob("*_999999998.db"))


def test_readers_never_see_a_count_twice_or_not_at_all(start, tmp_path):
    """A total that falls back looks to Prometheus like a restart, and adds a false jump."""
    watcher = start()
    watcher.count(1)
    for _ in range(5):
        dying = start()
        dying.count(1)
        pid = dying.kill()
        before = requests(watcher.shown())[0]
        retiring = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"from shared.telemetry.folder import retire; retire({pid})",
            ],
            env={**os.environ, VARIABLE: str(tmp_path)},
        )
        seen = set()
        while retiring.poll() is None:
            seen.add(requests(watcher.shown())[0])
        assert {before} == seen | {requests(watcher.shown())[0]}


def test_a_folder_of_our_own_goes_with_us(tmp_path):
    env: dict[str, str] = {}

    with shared_folder(env, within=tmp_path) as folder:
        assert str(folder) == env[VARIABLE]
        assert folder.is_dir()
    assert {} == env
    assert [] == list(tmp_path.iterdir())


def test_what_a_killed_supervisor_left_is_removed_and_what_is_in_use_is_not(tmp_path):
    script = (
        "import sys, pathlib\nfrom shared.telemetry.folder import shared_folder\n"
        "with shared_folder({}, within=pathlib.Path(sys.argv[1])) as folder:\n"
        "    print(folder, flush=True)\n    sys.stdin.read()\n"
    )
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    killed, in_use = (Path(one.stdout.readline().strip()) for one in (first, second))
    first.kill()
    first.communicate()

    with shared_folder({}, within=tmp_path):
        eventually(lambda: not killed.exists())
        assert in_use.exists()
    second.communicate()


def test_a_named_folder_is_made_cleaned_and_kept(tmp_path):
    folder = tmp_path / "metrics"
    env = {VARIABLE: str(folder)}

    with shared_folder(env):
        assert folder.is_dir()
    assert folder.is_dir()
    assert {VARIABLE: str(folder)} == env
