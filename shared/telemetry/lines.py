"""Where log lines leave the process: at once, or by a thread while an event loop runs.

Whoever reads our stderr may stop reading; a write then waits for ever, and an event loop with it.
So while one runs its lines are queued. The thread writes to the file descriptor itself: the lock
of a Python stream would still be held by it when the interpreter ends.
"""

import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import UnsupportedOperation
from typing import NamedTuple, TextIO

import msgspec

MOST_BYTES = 16 * 1024 * 1024
"""Queued while nobody reads; beyond it the oldest lines are dropped, and counted."""
PIECE_BYTES = 4_096
"""PIPE_BUF: a write of at most this stays whole between those of other processes."""
STOP_S = 2.0
"""For the rest to be written at the end."""

Render = Callable[[], bytes]


class _Item(NamedTuple):
    """One or more whole lines, or what makes them; `size_bytes` is what it keeps in memory."""

    lines: int
    size_bytes: int
    text: bytes | Render


class Lines:
    """A stream of lines; `stream` is stderr unless said otherwise."""

    def __init__(self, stream: TextIO | None = None, *, most_bytes: int = MOST_BYTES) -> None:
        self._stream = stream
        self._most_bytes = most_bytes
        self._waiting: deque[_Item] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._users = 0
        self._queues = False
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self.on_drop: Callable[[int], None] = lambda _lines: None
        """Told how many lines were given up."""

    def write(self, text: str) -> None:
        """Write a line with its end, or queue it."""
        self.put(text.encode("utf-8", "replace"), lines=1)

    def flush(self) -> None:
        """Do nothing: nothing is kept back but by the thread."""

    def put(self, text: bytes, *, lines: int) -> None:
        """Write whole lines, or queue them."""
        self._add(_Item(lines, len(text), text))

    def put_later(self, render: Render, *, size_bytes: int) -> None:
        """Write one line that the thread makes; until then it keeps `size_bytes` in memory."""
        self._add(_Item(1, size_bytes, render))

    def start(self) -> None:
        """Queue from now on; as many `stop`s end it."""
        with self._changed:
            self._users += 1
            if not self._queues:
                self._queues = True
                self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Write what is queued and go back to writing at once; waits at most STOP_S.

        When nobody reads, the rest is lost, and lines go on being queued rather than wait.
        """
        with self._changed:
            self._users -= 1
            thread = self._thread
            if self._users or thread is None:
                return
            self._changed.notify()
        thread.join(STOP_S)

    def _add(self, item: _Item) -> None:
        with self._changed:
            if self._queues:
                self._waiting.append(item)
                self._waiting_bytes += item.size_bytes
                self._drop_oldest()
                self._changed.notify()
                return
        self._out(item)

    def _drop_oldest(self) -> None:
        while self._waiting_bytes > self._most_bytes:
            oldest = self._waiting.popleft()
            self._waiting_bytes -= oldest.size_bytes
            self._dropped += oldest.lines
            self.on_drop(oldest.lines)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if not self._users:
                        self._queues = False
                        return
                    self._changed.wait()
                item = self._waiting.popleft()
                self._waiting_bytes -= item.size_bytes
                dropped, self._dropped = self._dropped, 0
            if dropped:
                self._out(_Item(1, 0, _said("log.dropped", lines=dropped)))
            self._out(item)

    def _out(self, item: _Item) -> None:
        text = item.text if isinstance(item.text, bytes) else _made(item.text)
        stream = self._stream or sys.stderr
        number = _descriptor(stream)
        with suppress(OSError, ValueError):  # closed: there is nobody to tell
            if number is None:
                stream.write(text.decode("utf-8", "replace"))
                stream.flush()
            else:
                stream.flush()
                for piece in _pieces(text):
                    _write(number, piece)


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (UnsupportedOperation, AttributeError, ValueError):
        return None


def _pieces(text: bytes) -> Iterator[bytes]:
    """Yield runs of whole lines that stay together in a pipe; a longer line is one run."""
    start, end = 0, len(text)
    while end - start > PIECE_BYTES:
        cut = text.rfind(b"\n", start, start + PIECE_BYTES) + 1 or text.find(b"\n", start) + 1
        yield text[start : cut or end]
        start = cut or end
    if start < end:
        yield text[start:]


def _write(number: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        try:
            left = left[os.write(number, left) :]
        except BlockingIOError:  # somebody has set the terminal or pipe so
            select.select([], [number], [])


def _made(render: Render) -> bytes:
    try:
        return render()
    except Exception as error:  # noqa: BLE001 (the other lines must go on)
        return _said("log.failed", error=type(error).__name__)


def _said(event: str, **facts: object) -> bytes:
    return msgspec.json.encode({"level": "error", "event": event, **facts}) + b"\n"


LINES = Lines()
"""This process's stderr."""
