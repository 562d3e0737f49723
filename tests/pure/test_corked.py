"""What is written in one turn of the loop leaves at its end, in order, whatever comes between."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from shared.corked import BUSY, GATHER_S, MOST_HELD_BYTES, Corked, cork_of
from tests.fakes.pipe import PipeTransport


class Loop(asyncio.SelectorEventLoop):
    """One whose time can be moved."""

    ahead_s = 0.0

    @override
    def time(self):
        return super().time() + self.ahead_s


class Turning:
    """Transports of one loop that turns when it is told."""

    def __init__(self):
        self.loop = Loop()
        self.told = []
        self.loop.set_exception_handler(lambda _loop, told: self.told.append(told["message"]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.close()

    def corked(self, wire):
        return Corked(wire, self.loop)

    def turn(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


def test_what_a_turn_writes_leaves_at_its_end():
    with Turning() as turning:
        wires = [PipeTransport(), PipeTransport()]
        for wire in wires:
            turning.corked(wire).write(b"hello")

        assert [b"", b""] == [wire.written for wire in wires]
        turning.turn()
        assert [b"hello", b"hello"] == [wire.written for wire in wires]


def test_what_its_owner_does_with_it_afterwards_changes_nothing():
    with Turning() as turning:
        data = bytearray(b"hello")
        turning.corked(wire := PipeTransport()).write(data)
        data[:] = b"other"
        turning.turn()

        assert b"hello" == wire.written


def test_a_crowd_waits_as_long_as_turns_bring_more():
    with Turning() as turning:
        wires = [PipeTransport() for _ in range(BUSY + 2)]
        for wire in wires[:BUSY]:
            turning.corked(wire).write(b"hello")
        turning.turn()
        gone = turning.loop.create_task(cork_of(turning.loop).crowd_gone(turning.loop))
        for wire in wires[BUSY:]:
            turning.corked(wire).write(b"hello")
            assert not any(wire.written for wire in wires)
            turning.turn()

        assert not any(wire.written for wire in wires)
        turning.turn()
        assert all(wire.written for wire in wires)
        assert not gone.done()
        turning.loop.run_until_complete(gone)
        turning.loop.run_until_complete(cork_of(turning.loop).crowd_gone(turning.loop))


def test_a_crowd_does_not_wait_for_ever():
    with Turning() as turning:
        wires = []
        while not any(wire.written for wire in wires):
            assert len(wires) <= 3 * BUSY
            for _ in range(BUSY):
                wires.append(PipeTransport())
                turning.corked(wires[-1]).write(b"hello")
            turning.turn()
            turning.loop.ahead_s += 0.7 * GATHER_S

        assert all(wire.written for wire in wires)


def test_each_turn_has_its_own_end():
    with Turning() as turning:
        corked = turning.corked(wire := PipeTransport())
        for word in (b"one ", b"two ", b"three"):
            corked.write(word)
            turning.turn()

        assert (b"one two three", 3) == (wire.written, wire.writes)


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=9), st.just(b"x" * 70_000), st.none())))
def test_whatever_the_turns_the_order_stays_and_little_waits(steps):
    """None is the end of a turn."""
    with Turning() as turning:
        corked = turning.corked(wire := PipeTransport())
        for step in steps:
            if step is None:
                turning.turn()
            else:
                corked.write(step)
            assert corked.get_write_buffer_size() <= MOST_HELD_BYTES
        corked.close()

        assert (b"".join(filter(None, steps)), "close") == (wire.written, wire.ended)


def test_what_a_turn_writes_to_one_leaves_in_one_piece():
    with Turning() as turning:
        corked = turning.corked(wire := PipeTransport())
        for word in (b"one ", memoryview(b"two "), bytearray(b"three")):
            corked.write(word)

        assert b"" == wire.written
        turning.turn()
        assert (b"one two three", 1) == (wire.written, wire.writes)


@pytest.mark.parametrize("ends", ["close", "abort"])
def test_a_goodbye_comes_after_what_was_said_and_an_abort_instead_of_it(ends):
    with Turning() as turning:
        corked = turning.corked(wire := PipeTransport())
        corked.write(b"last words")
        getattr(corked, ends)()
        turning.turn()

        assert (b"last words" if ends == "close" else b"", ends) == (wire.written, wire.ended)


def test_nothing_is_sent_to_one_who_has_left():
    with Turning() as turning:
        corked = turning.corked(wire := PipeTransport())
        corked.write(b"hello")
        wire.ended = "lost"
        turning.turn()
        corked.write(b"one of two")
        corked.write(b"two of two")
        corked.write(b"large" * MOST_HELD_BYTES)
        turning.turn()

        assert b"" == wire.written


class Broken(PipeTransport):
    def __init__(self, error):
        super().__init__()
        self._error = error

    @override
    def write(self, data):
        raise self._error


@pytest.mark.parametrize("error", [RuntimeError("no such handle"), TypeError("a bug")])
def test_one_that_cannot_be_written_to_takes_nothing_from_the_others(error):
    with Turning() as turning:
        wires = [Broken(error), PipeTransport()]
        for wire in wires:
            turning.corked(wire).write(b"hello")
        turning.turn()

        assert ("abort", b"hello") == (wires[0].ended, wires[1].written)
        assert ["a connection could not be written to"] == turning.told


def test_one_that_writes_much_is_no_crowd():
    with Turning() as turning:
        corked = turning.corked(wire := PipeTransport())
        for _ in range(4 * BUSY):
            corked.write(b"x" * (MOST_HELD_BYTES // 2 + 1))
        corked.write(b"y")
        turning.turn()

        assert (4 * BUSY * (MOST_HELD_BYTES // 2 + 1) + 1) == len(wire.written)


def test_errands_come_before_what_waits_for_them_and_are_done_once():
    with Turning() as turning:
        done = []
        wire = PipeTransport()
        corked = Corked(wire, turning.loop, done.append)
        cork = cork_of(turning.loop)
        corked.write(b"hello")
        cork.first(lambda: done.append(wire.written), turning.loop)
        assert ([], b"") == (done, wire.written)
        turning.turn()

        assert ([b""], b"hello") == (done, wire.written)
        turning.turn()
        assert [b""] == done


def test_a_turn_of_errands_alone_does_them():
    with Turning() as turning:
        done = []
        cork_of(turning.loop).first(lambda: done.append(1), turning.loop)
        turning.turn()

        assert [1] == done


class Disk:
    """Does what it is asked unless it is full."""

    def __init__(self):
        self.full = True
        self.asked = 0

    def __call__(self):
        self.asked += 1
        if self.full:
            raise OSError("no room")


@pytest.mark.parametrize(
    "pieces", [[b"one"], [b"one", b"two"], [b"x" * 70_000], [[b"one", b"two"]]]
)
def test_where_an_errand_fails_nothing_leaves_that_waits_for_it_until_it_is_done(pieces):
    with Turning() as turning:
        told, disk = [], Disk()
        careful = Corked(wire := PipeTransport(), turning.loop, told.append)
        other = Corked(open_wire := PipeTransport(), turning.loop)
        cork_of(turning.loop).first(disk, turning.loop)
        for piece in pieces:
            (careful.write if isinstance(piece, bytes) else careful.writelines)(piece)
        other.write(b"hello")
        turning.turn()

        assert (b"", b"hello") == (wire.written, open_wire.written)
        assert ["no room"] == [str(error) for error in told]
        careful.write(b"also in later turns")
        turning.turn()
        assert (b"", 2) == (wire.written, len(told))
        disk.full, disk.asked = False, 0
        for _ in range(2):
            careful.write(b"again")
            turning.turn()
        assert (b"againagain", 1) == (wire.written, disk.asked)


@given(st.lists(st.sampled_from(["write", "pass on", "large", "turn", "flush"])))
def test_what_is_passed_on_keeps_its_place(steps):
    with Turning() as turning:
        corked, told = turning.corked(wire := PipeTransport()), []
        for number, step in enumerate(steps):
            piece = b"%d " % number
            if step == "turn":
                turning.turn()
            elif step == "flush":
                corked.flush()
            elif step == "pass on":
                corked.pass_on(piece)
                told.append(piece)
            else:
                filling = piece * (20_000 if step == "large" else 1)
                corked.write(filling)
                told.append(filling)
        turning.turn()

        assert b"".join(told) == wire.written


def test_what_is_passed_on_waits_for_errands_where_all_else_does():
    with Turning() as turning:
        done = []
        careful = Corked(wire := PipeTransport(), turning.loop, lambda _error: None)
        cork_of(turning.loop).first(lambda: done.append(wire.written), turning.loop)
        careful.pass_on(b"hello")
        turning.turn()

        assert ([b""], b"hello") == (done, wire.written)


@given(st.lists(st.sampled_from(["errand", "write", "large", "turn"])))
def test_nothing_overtakes_an_errand(steps):
    """Whatever is written after an errand was given finds it done when it leaves."""
    with Turning() as turning:
        given_errands, done, seen = 0, [], []

        class Wire(PipeTransport):
            @override
            def write(self, data):
                seen.append((int(bytes(data).split(b" ")[-1]), len(done)))

        corked = Corked(Wire(), turning.loop, lambda _error: None)
        for step in steps:
            if step == "turn":
                turning.turn()
            elif step == "errand":
                given_errands += 1
                cork_of(turning.loop).first(lambda: done.append(1), turning.loop)
            else:
                filling = b"x" * (70_000 if step == "large" else 1)
                corked.write(b" %b %d" % (filling, given_errands))
        turning.turn()

        assert all(due <= count for due, count in seen)
        assert given_errands == len(done)
