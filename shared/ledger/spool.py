"""The spool: a process's append-only file of books, locked while its owner lives.

One record a line: `O` and the opening's JSON before a provider is called, `C` and the charge's
after it. A plain write() reaches the page cache, so the record survives kill -9 of the process;
the flusher fsyncs each group before it goes to SQL. A torn last line (power loss) is no record.
What one turn of the event loop has to record shares a write.
"""

import fcntl
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from shared.errors import StoreUnavailable
from shared.ledger.books import Charge, Opening
from shared.ledger.settle import Gathered

ROTATE_BYTES = 8 * 1024 * 1024
"""A drained file above this is replaced by a new one with what is still open."""

GROUP_BYTES = 2 * 1024 * 1024
"""What the flusher reads at a time where it reads: about a thousand records."""
GROUP_CHARGES = 4_096
MOST_RECENT = 8_000
"""Unflushed charges kept in memory when a group begins, half a KB each; beyond them all are read
from the file again."""

_encoder = msgspec.json.Encoder()
_opening = msgspec.json.Decoder(Opening)
_charge = msgspec.json.Decoder(Charge)


class Spool:
    """This process's file. Not for two threads: write and rotate belong to the event loop.

    What is put into `opened` and `ended` is recorded by the next `write`: that calls are about to
    be made, and how attempts have ended.
    """

    def __init__(self, folder: Path, owner: str, rotate_bytes: int = ROTATE_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._owner = owner
        self._rotate_bytes = rotate_bytes
        self._turn = 0
        self._open: dict[str, bytes] = {}
        """What is written of the attempts that run, for their charges and the next file."""
        self.opened: list[Opening] = []
        self.ended: list[Charge] = []
        # The unflushed charges from a place in the file on: so that they need not be read and
        # decoded again, which costs as much as all the rest.
        self._groups: deque[Gathered] = deque()
        self._filling: Gathered | None = None
        self._recent_from = 0
        self._size = 0
        self.flushed_bytes = 0
        self.path, self._file = self._created()

    @property
    def pending_bytes(self) -> int:
        """What has not reached SQL yet."""
        return self._size - self.flushed_bytes

    @property
    def reads_memory(self) -> bool:
        """Whether what is flushed next is still in memory."""
        return self.flushed_bytes >= self._recent_from

    @property
    def has_group(self) -> bool:
        """Whether as much is unflushed and in memory as is flushed at a time."""
        return any(
            group.rows.count >= GROUP_CHARGES and group.end > self.flushed_bytes
            for group in self._groups
        )

    def write(self) -> None:
        """Write what is in `opened` and `ended`, in one piece.

        Raises:
            StoreUnavailable: the disk refused (full, gone); all of it is still there.
        """
        opened, ended = self.opened, self.ended
        if not opened and not ended:
            return
        written = [_encoder.encode(opening) for opening in opened]
        self._append(_lines(written, self._encoded(ended)))
        for opening, line in zip(opened, written, strict=True):
            self._open[opening.attempt_id] = line
        opened.clear()
        if ended:
            charges, ended[:] = [*ended], []
            for charge in charges:
                self._open.pop(charge.opening.attempt_id, None)
            try:
                self._gather(charges)
            except BaseException:
                self._read_from_here()  # a bug: the file has them all the same
                raise

    def _encoded(self, charges: Iterable[Charge]) -> list[bytes]:
        """Return their JSON. The opening, the most of it, is taken as it was written."""
        encoded = []
        for charge in charges:
            opening = self._open.get(charge.opening.attempt_id)
            whole = charge if opening is None else replace(charge, opening=Raw(opening))
            encoded.append(_encoder.encode(whole))
        return encoded

    def _gather(self, charges: Sequence[Charge]) -> None:
        """Keep the charges that have just been written."""
        group = self._filling
        if group is None or group.rows.count >= GROUP_CHARGES:
            if sum(kept.rows.count for kept in self._groups) >= MOST_RECENT:
                self._read_from_here()
                return
            group = self._filling = Gathered()
            self._groups.append(group)
        group.add(charges, self._size)

    def _read_from_here(self) -> None:
        """Forget what is in memory: all that is on file now is read from there."""
        self._groups.clear()
        self._filling, self._recent_from = None, self._size

    def _append(self, lines: bytes) -> None:
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._file, lines[written:] if written else lines)
        except OSError as error:
            if written:  # a full disk takes a part; the next record must not be glued to it
                with suppress(OSError):
                    os.ftruncate(self._file, self._size)
            raise StoreUnavailable(
                f"The spool cannot be written: {self.path.name}, {error.strerror}."
            ) from error
        self._size += len(lines)

    def sync(self) -> None:
        """Flush to the disk; blocks, so call it off the event loop."""
        os.fdatasync(self._file)

    def gathered(self) -> Gathered | None:
        """Return the next unflushed charges; None when they have to be read from the file."""
        groups = self._groups
        if not self.reads_memory:
            return None
        while groups and groups[0].end <= self.flushed_bytes:
            groups.popleft()
        group = groups[0] if groups else Gathered()
        if group is self._filling:
            self._filling = None  # what is on its way must not grow
        if len(groups) <= 1:
            group.end = self._size  # all that follows is open
        return group

    def read(self) -> tuple[list[Charge], int]:
        """Read the next unflushed charges from the file; return them and the position after.

        No more than what is not in memory, or than the group that comes next there.
        """
        until = self._recent_from
        if self.reads_memory:
            until = self._groups[0].end if self._groups else self._size
        length = min(GROUP_BYTES, until - self.flushed_bytes)
        with self.path.open("rb") as file:
            file.seek(self.flushed_bytes)
            data = file.read(length)
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) == GROUP_BYTES:  # one record larger than a group
            with self.path.open("rb") as file:
                file.seek(self.flushed_bytes)
                data = file.readline()
            end = len(data)
        charges = [record for record in records(data[:end]) if isinstance(record, Charge)]
        return charges, self.flushed_bytes + end

    def flushed(self, end: int) -> None:
        """Take note that all before `end` is in SQL."""
        self.flushed_bytes = end

    def rotate_if_drained(self) -> None:
        """Start a new file once all of a large one is in SQL; open attempts move along."""
        if self.pending_bytes or self._size < self._rotate_bytes:
            return
        old_path, old_file = self.path, self._file
        self.path, self._file = self._created()
        self._size = self.flushed_bytes = self._recent_from = 0
        self._groups.clear()
        self._filling = None
        self._append(_lines(self._open.values()))
        self.flushed_bytes = self._size
        old_path.unlink(missing_ok=True)
        os.close(old_file)

    def close(self) -> None:
        """Give the file up: removed when nothing is left in it, else for a caretaker to replay."""
        with suppress(StoreUnavailable):  # the disk is full: such a charge becomes an estimate
            self.write()
        if not self.pending_bytes and not self._open:
            self.path.unlink(missing_ok=True)
        os.close(self._file)

    def _created(self) -> tuple[Path, int]:
        """Make and lock a file.

        Two things make it take the next name: an earlier process of the same owner has left a file
        for a caretaker, or a caretaker took ours for such a one before it was locked.
        """
        while True:
            path = self._folder / f"{self._owner}-{self._turn}.spool"
            self._turn += 1
            try:
                file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY, 0o600)
            except FileExistsError:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file), path.stat()):
                    return path, file
            except (BlockingIOError, FileNotFoundError):
                pass
            os.close(file)


def _lines(opened: Iterable[bytes], ended: Iterable[bytes] = ()) -> bytes:
    """Return openings and charges as lines of the file, each copied once."""
    pieces: list[bytes] = []
    for line in opened:
        pieces += (b"O", line, b"\n")
    for line in ended:
        pieces += (b"C", line, b"\n")
    return b"".join(pieces)


def records(data: bytes) -> Iterator[Opening | Charge]:
    """Yield the records in order; lines that are torn or unreadable are passed over."""
    for line in data.split(b"\n"):
        try:
            if line[:1] == b"O":
                yield _opening.decode(line[1:])
            elif line[:1] == b"C":
                yield _charge.decode(line[1:])
        except msgspec.DecodeError:
            continue


class Orphan:
    """A spool whose owner is gone, locked by us."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file

    def contents(self) -> tuple[list[Charge], list[Opening]]:
        """Return its charges, and the openings that were never closed."""
        charges: list[Charge] = []
        left_open: dict[str, Opening] = {}
        for record in records(self.path.read_bytes()):
            if isinstance(record, Charge):
                charges.append(record)
                left_open.pop(record.opening.attempt_id, None)
            else:
                left_open[record.attempt_id] = record
        return charges, list(left_open.values())

    def remove(self) -> None:
        """Delete the file: all of it is in SQL."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._file)


def orphans(folder: Path, *, but: Sequence[Path] = ()) -> Iterator[Orphan]:
    """Yield the spools nobody holds. The lock tells: it dies with its owner's process."""
    if not folder.is_dir():
        return
    for path in sorted(folder.glob("*.spool")):
        if path in but:
            continue
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            continue
        orphan = Orphan(path, file)
        try:
            if path.exists():
                yield orphan
        finally:
            orphan.close()
