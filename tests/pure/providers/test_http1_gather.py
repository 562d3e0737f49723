"""Fast streams are read some times a second, slow ones as they come, and nothing is lost."""

import asyncio
import heapq
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.providers.http1_gather import ALONE, Gathering, Pace
from tests.fakes.http1_line import Line

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
EVERY_S = 0.016


class Time:
    """What a loop knows of it; `pass_to` makes it pass."""

    def __init__(self):
        self.now_s = 0.0
        self._due = []

    def time(self):
        return self.now_s

    def call_later(self, delay_s, call):
        heapq.heappush(self._due, (self.now_s + delay_s, len(self._due), call))

    def call_soon(self, call):
        call()

    def pass_to(self, at_s):
        while self._due and self._due[0][0] <= at_s:
            self.now_s, _, call = heapq.heappop(self._due)
            call()
        self.now_s = at_s


class Stream:
    """A stream that a caller takes as it comes; what comes while nobody reads waits in the kernel.

    `taken`: when, and what.
    """

    def __init__(self, every_s=EVERY_S):
        self.time = Time()
        self.line = Line(gathering=Gathering(self.time, every_s))
        self.taken = []
        self.takes = True
        self._waiting = b""
        self.line.hear(CHUNKED)
        self.listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.line.loop.close()

    def listen(self):
        """Be one who waits for more, and has it taken past him."""
        answer = self.line.answer
        answer.take()
        answer.more()
        answer.taker = self._take

    def _take(self, piece):
        if self.takes:
            self.taken.append((round(self.time.now_s, 3), piece))
        return self.takes

    def comes(self, at_s, data):
        """Have the server send that at some time."""
        self.pass_to(at_s)
        self._waiting += data
        self._read()

    def pass_to(self, at_s):
        """Let time pass, in steps as fine as the loop's."""
        while self.time.now_s < at_s:
            self.time.pass_to(min(at_s, self.time.now_s + 0.001))
            self._read()

    def _read(self):
        if self._waiting and not self.line.wire.paused:
            waiting, self._waiting = self._waiting, b""
            self.line.hear(waiting)


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_fast_stream_is_read_at_once_at_first_and_then_some_times_a_second():
    with Stream() as stream:
        for number in range(40):
            stream.comes(1 + number * 0.002, chunk(b"%02d" % number))
        stream.pass_to(2)

        times_s = [at_s for at_s, _ in stream.taken]
        assert [1.0, 1.002, 1.004, 1.006] == times_s[:4]
        assert all(
            later - earlier == pytest.approx(EVERY_S, abs=0.001)
            for earlier, later in pairwise(times_s[3:])
        )
        assert len(times_s) < 12
        assert b"".join(b"%02d" % number for number in range(40)) == b"".join(
            piece for _, piece in stream.taken
        )


@pytest.mark.parametrize(
    "gaps_ms",
    [
        pytest.param([8, 9, 20, 8, 15, 10, 8, 300, 8], id="slow"),
        pytest.param([1, 1, 30, 1, 25, 2, 30], id="in bursts"),
        pytest.param([], id="one"),
    ],
)
def test_a_slow_stream_is_never_held_up(gaps_ms):
    with Stream() as stream:
        comes_s = [round(1 + ms / 1000, 3) for ms in accumulate([0, *gaps_ms])]
        for at_s in comes_s:
            stream.comes(at_s, chunk(b"x"))

        assert [(at_s, b"x") for at_s in comes_s] == stream.taken


def test_nothing_is_gathered_where_nobody_wants_it():
    with Stream(every_s=0.0) as stream:
        for number in range(20):
            stream.comes(1 + number * 0.001, chunk(b"x"))

        assert 20 == len(stream.taken)


def test_a_stream_that_becomes_slow_is_read_as_it_comes_again():
    with Stream() as stream:
        for number in range(10):
            stream.comes(1 + number * 0.001, chunk(b"x"))
        stream.comes(1.1, chunk(b"late"))
        stream.comes(1.109, chunk(b"later"))

        assert [(1.1, b"late"), (1.109, b"later")] == stream.taken[-2:]


def fast(stream):
    """Have a stream that is being gathered; returns when it is."""
    for number in range(2 + ALONE):
        stream.comes(1 + number * 0.001, chunk(b"x"))
    assert stream.line.wire.paused
    return stream.time.now_s


def test_an_end_is_read_with_what_came_before_and_the_connection_is_used_again():
    with Stream() as stream:
        now_s = fast(stream)
        stream.comes(now_s + 0.001, chunk(b"last") + END)
        assert not stream.line.answer.ended
        stream.pass_to(now_s + EVERY_S + 0.001)

        assert stream.line.answer.ended
        assert b"last" == stream.line.answer.take()
        assert [stream.line.connection] == stream.line.home.free
        assert not stream.line.wire.paused


def test_the_first_pieces_of_the_next_answer_are_its_own():
    """A call on the same connection begins as fast as the first did."""
    with Stream() as stream:
        now_s = fast(stream)
        stream.comes(now_s + 0.001, END)
        stream.pass_to(now_s + 0.02)
        stream.line.again()
        stream.line.hear(CHUNKED)
        stream.listen()
        now_s = stream.time.now_s
        stream.taken.clear()
        for number in range(ALONE):
            stream.comes(now_s + number * 0.001, chunk(b"x"))

        assert ALONE == len(stream.taken)


def test_a_caller_who_is_slow_is_waited_for():
    """What is gathered ends; that the reader has enough does not."""
    with Stream() as stream:
        fast(stream)
        stream.takes = False
        stream.comes(1.1, chunk(b"y"))
        while not stream.line.wire.paused:
            stream.comes(stream.time.now_s, chunk(b"y" * 60_000))
        stream.pass_to(stream.time.now_s + 0.1)

        assert stream.line.wire.paused
        stream.line.answer.take()
        assert not stream.line.wire.paused


def test_a_caller_who_leaves_is_heard_at_once():
    with Stream() as stream:
        now_s = fast(stream)
        stream.line.answer.leave()

        assert "abort" == stream.line.wire.ended
        stream.pass_to(now_s + 1)


def test_all_fast_streams_are_read_in_one_turn():
    time = Time()
    gathering = Gathering(time, EVERY_S)
    read_at = []
    for delay_s in (0.0, 0.004, 0.009):
        time.pass_to(1 + delay_s)
        gathering.wait(lambda: read_at.append(time.now_s))
    time.pass_to(2)

    assert [1 + EVERY_S] * 3 == read_at


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 5)), max_size=40))
def test_who_brings_fewer_than_two_in_that_time_is_slow(arrivals):
    """And so is whoever just did."""
    time = Time()
    pace = Pace(Gathering(time, EVERY_S))
    quick = 0
    for gap_ms, pieces in arrivals:
        time.now_s += gap_ms / 1000 + 0.0001
        fewer = (gap_ms + 0.1) / pieces >= EVERY_S * 1000 / 2
        quick = 0 if fewer else quick + pieces

        assert (quick >= ALONE) == pace.is_fast(pieces)


@pytest.mark.anyio
async def test_instants_are_the_loops():
    loop = asyncio.get_running_loop()
    gathering = Gathering(loop, 0.01)
    done = loop.create_future()
    began_s = loop.time()
    gathering.wait(lambda: done.set_result(loop.time()))

    assert await done - began_s >= 0.009


@pytest.mark.anyio
async def test_who_fails_leaves_the_others_reading():
    loop = asyncio.get_running_loop()
    told = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    gathering = Gathering(loop, 0.001)
    done = loop.create_future()

    def fails():
        raise ValueError("a bug")

    gathering.wait(fails)
    gathering.wait(lambda: done.set_result(None))
    await asyncio.wait_for(done, 10)

    assert ["a bug"] == [str(error) for error in told]
