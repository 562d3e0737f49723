"""The folder where processes that serve together keep their numbers, and who of them has died.

prometheus-client gives each process its own files there. Those of the dead would add up for ever:
what they counted is folded into one file of each kind, what they measured is taken away. Readers
and folders exclude each other by a lock, so that nothing is seen twice or not at all.
"""

import errno
import fcntl
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""By which prometheus-client itself is told to keep its numbers in files.

It is read when that library is first imported, so nothing here imports it at the top.
"""
DEAD = "dead"
"""Stands in the name of a file where others have their process id."""
_LOCK = ".lock"
_OWNER = ".owner"
_PREFIX = "sluiceway-metrics-"
_DRAFT = "sluiceway-making-"


@contextmanager
def shared_folder(
    env: MutableMapping[str, str] = os.environ, *, within: Path | None = None
) -> Iterator[Path]:
    """Name a folder in the environment for the processes to come, cleaned; a new one if none is.

    A new one goes with us; what a killed predecessor left behind goes now. To be called before
    anything imports prometheus-client.
    """
    named = env.get(VARIABLE)
    if named:
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True)
        clean(folder)
        yield folder
        return
    home = Path(tempfile.gettempdir()) if within is None else within
    home.mkdir(parents=True, exist_ok=True)
    _remove_ownerless(home)
    with _owned_folder(home) as made:
        env[VARIABLE] = str(made)
        try:
            yield made
        finally:
            env.pop(VARIABLE, None)


def clean(folder: Path) -> None:
    """Fold what dead processes left; when none is alive, begin at zero.

    A process is known by its number, so all that use one folder must see the same numbers: those
    of one machine, or of one container.
    """
    with locked(folder, fcntl.LOCK_EX):
        pids = {pid for path in _files(folder) if (pid := _pid(path)) is not None}
        alive = {pid for pid in pids if _is_alive(pid)}
        if alive:
            _fold(folder, pids - alive)
        else:
            for path in _files(folder):
                path.unlink(missing_ok=True)


def retire(pid: int | None, folder: Path | None = None) -> None:
    """Take note that a process has ended: its counts stay, its gauges go.

    Does nothing where no folder is shared. Never fails: the dead must be replaced all the same.
    """
    named = folder or os.environ.get(VARIABLE)
    if pid is None or not named:
        return
    with suppress(OSError), locked(Path(named), fcntl.LOCK_EX):
        _fold(Path(named), {pid})


@contextmanager
def locked(folder: Path, how: int) -> Iterator[None]:
    """Hold the folder's lock: `fcntl.LOCK_SH` to read numbers, `LOCK_EX` to fold them."""
    with (folder / _LOCK).open("ab") as file:
        fcntl.flock(file, how)
        yield


def readable(folder: Path) -> list[str]:
    """Return the files to add up; one that was only just created holds nothing yet."""
    return [str(path) for path in _files(folder) if path.stat().st_size > 0]


def _fold(folder: Path, pids: Iterable[int]) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    dead = sorted(pids)
    for pid in dead:
        mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
    for kind in ("counter", "histogram"):
        left = [path for pid in dead if (path := folder / f"{kind}_{pid}.db").exists()]
        if left:
            _add_up(left, folder / f"{kind}_{DEAD}.db")


def _add_up(files: list[Path], into: Path) -> None:
    from prometheus_client.mmap_dict import MmapedDict

    sums: dict[str, float] = {}
    for path in (into, *files):
        # One that is empty or cut was given up by a process that died over it.
        with suppress(FileNotFoundError, struct.error, RuntimeError):
            values = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
            for key, value, _, _ in values:
                sums[key] = sums.get(key, 0.0) + value
    draft = into.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    written = MmapedDict(str(draft))  # type: ignore[no-untyped-call]
    for key, value in sums.items():
        written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    written.close()  # type: ignore[no-untyped-call]
    draft.replace(into)
    for path in files:
        path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.db"))


def _pid(path: Path) -> int | None:
    text = path.stem.rpartition("_")[2]
    return int(text) if text.isdigit() else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH  # somebody else's process may not be signalled
    return True


@contextmanager
def _owned_folder(home: Path) -> Iterator[Path]:
    """Make a folder with a lock that ends with us, and with the forks that share it.

    It gets its name once it is locked, so nobody who looks for ownerless ones finds it before.
    """
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=home))
    with (draft / _OWNER).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        folder = draft.rename(home / draft.name.replace(_DRAFT, _PREFIX, 1))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_ownerless(home: Path) -> None:
    for folder in home.glob(f"{_PREFIX}*"):
        with suppress(OSError), ExitStack() as opened:
            file = opened.enter_context((folder / _OWNER).open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
