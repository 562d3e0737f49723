"""Nobody waits for who reads the log, and nothing is lost while somebody does."""

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from shared.telemetry.lines import PIECE_BYTES, Lines
from tests.fakes.stack import eventually

LINE = b'{"event":"x"}\n'


@contextmanager
def running(lines: Lines) -> Iterator[Lines]:
    lines.start()
    try:
        yield lines
    finally:
        lines.stop()


@pytest.fixture
def pipe() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """A pipe: the number of the end to read, and the end to write as a stream."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


def drained(reading: int) -> Callable[[], bytes]:
    """Read in a thread until the other end is closed; the answer waits for that."""
    found: list[bytes] = []

    def read() -> None:
        while piece := os.read(reading, 65536):
            found.append(piece)

    thread = threading.Thread(target=read)
    thread.start()

    def whole() -> bytes:
        thread.join(10)
        return b"".join(found)

    return whole


def test_without_a_loop_lines_are_written_at_once():
    stream = io.StringIO()
    lines = Lines(stream)

    lines.write("one\n")
    lines.put(b"two\n", lines=1)
    lines.put_later(lambda: b"three\n", size_bytes=1)

    assert "one\ntwo\nthree\n" == stream.getvalue()


def test_nothing_is_lost_at_the_end(pipe):
    """More than a pipe holds, in order, every line whole."""
    reading, stream = pipe
    whole = drained(reading)
    sent = [b"%06d%s\n" % (number, b"x" * (number % 50)) for number in range(20_000)]

    with running(Lines(stream)) as lines:
        for start in range(0, len(sent), 100):
            lines.put(b"".join(sent[start : start + 100]), lines=100)
    stream.close()

    assert b"".join(sent) == whole()


def test_who_writes_never_waits_for_a_reader_that_stopped(pipe):
    """What is too much is dropped, oldest first, counted, and told once somebody reads again."""
    reading, stream = pipe
    dropped: list[int] = []
    with running(Lines(stream, most_bytes=100_000)) as lines:
        lines.on_drop = dropped.append
        for _ in range(500):
            lines.put(LINE * 100, lines=100)
        assert dropped
        whole = drained(reading)
    stream.close()

    found = whole().splitlines(keepends=True)
    told = [msgspec.json.decode(line)["lines"] for line in found if b"log.dropped" in line]
    assert sum(dropped) == sum(told)
    assert 50_000 == sum(dropped) + found.count(LINE)


def test_an_end_with_nobody_reading_is_an_end(pipe):
    """After it lines are still not waited for."""
    reading, stream = pipe
    lines = Lines(stream, most_bytes=200_000)
    with running(lines):
        for _ in range(20):
            lines.put(LINE * 1_000, lines=1_000)
    for _ in range(20):
        lines.put(LINE * 1_000, lines=1_000)

    whole = drained(reading)
    eventually(lambda: not lines._queues)
    stream.close()
    assert whole()


def test_a_line_longer_than_a_piece_stays_whole(pipe):
    reading, stream = pipe
    long = b"y" * (3 * PIECE_BYTES) + b"\n"
    whole = drained(reading)

    with running(Lines(stream)) as lines:
        lines.put(LINE + long + LINE + b"no end", lines=3)
    stream.close()

    assert LINE + long + LINE + b"no end" == whole()


def test_a_pipe_that_does_not_block_is_waited_for(pipe):
    """A terminal may have been left so by another program."""
    reading, stream = pipe
    os.set_blocking(stream.fileno(), False)
    whole = drained(reading)

    with running(Lines(stream)) as lines:
        lines.put(LINE * 50_000, lines=50_000)
    stream.close()

    assert LINE * 50_000 == whole()


def test_a_line_that_cannot_be_made_does_not_stop_the_others():
    stream = io.StringIO()

    with running(Lines(stream)) as lines:
        lines.put_later(lambda: b"%d" % (1 // 0), size_bytes=1)
        lines.write("next\n")

    first, second = stream.getvalue().splitlines()
    assert ("log.failed", "ZeroDivisionError") == (
        msgspec.json.decode(first)["event"],
        msgspec.json.decode(first)["error"],
    )
    assert "next" == second


def test_a_reader_that_is_gone_stops_nobody(pipe):
    reading, stream = pipe
    os.dup2(os.open(os.devnull, os.O_RDONLY), reading)  # closes the pipe's end

    with running(Lines(stream)) as lines:
        lines.write("to nobody\n")


def test_two_users_share_one_thread():
    stream = io.StringIO()
    lines = Lines(stream)

    with running(lines):
        with running(lines):
            lines.write("a\n")
        lines.write("b\n")
    lines.write("c\n")

    assert "a\nb\nc\n" == stream.getvalue()
