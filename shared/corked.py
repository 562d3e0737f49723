"""Writes that leave together: what a turn of the event loop has to send goes out at its end.

A send that follows other work takes three times the processor time of one that follows a send: the
kernel's code has left the caches, and the reader at the other end of a loopback has fallen asleep
again. So the answers and the questions of all calls that one turn brings forward leave one after
the other, and what a turn writes to one connection leaves in one piece. Where they are many, turns
that bring more of them are one: what wakes the loop for a few calls costs as much as for a crowd.

What has to be done before anything leaves, as a call is written in the books before its provider
hears of it, is done once for all of a turn.
"""

import asyncio
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

from typing_extensions import override

MOST_HELD_BYTES = 64 * 1024
"""More than that leaves at once: what it costs to send is its own length."""

BUSY = 4
"""From so many pieces on, a turn's end waits for what the next turns bring at once."""
GATHER_S = 0.002
"""So long at most: a caller in a crowd waits for longer than that anyway."""

Piece = bytes | bytearray | memoryview


Refused = Callable[[Exception], None]
"""Told instead of sending: why what had to come first could not be done."""


class Corked(asyncio.Transport):
    """A transport whose writes wait for the end of the loop's turn; a goodbye sends them first.

    One with `refused` sends nothing before the errands of the turn are done.
    """

    __slots__ = (
        "_cork",
        "_held",
        "_loop",
        "_refused",
        "_transport",
        "can_write_eof",
        "get_extra_info",
        "is_closing",
        "pause_reading",
        "queued",
        "resume_reading",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        refused: Refused | None = None,
    ) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._refused = refused
        self._cork = cork_of(loop)
        self._held = b""
        self.queued = False  # to be flushed when the turn ends
        # The rest is as the transport itself has it; asked five times a call.
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.can_write_eof = transport.can_write_eof  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    @override
    def write(self, data: Piece) -> None:
        """Send at the end of the turn, behind what waits already; at once when it is much."""
        if held := self._held:
            self._held = data = b"".join((held, data))
            if len(data) > MOST_HELD_BYTES:
                self.flush()
        elif len(data) <= MOST_HELD_BYTES:
            self._held = bytes(data)  # its owner may write into it again
            if not self.queued:
                self.queued = True
                cork = self._cork
                cork.holding.append(self)
                if not cork.due:
                    cork.end_turn(self._loop)
        elif not self._transport.is_closing() and self._may_leave():
            self._transport.write(data)

    def pass_on(self, data: bytes) -> None:
        """Send what the loop has just read from another connection, behind what waits.

        A turn hands out all that it has read before it sends, so these leave together anyway.
        """
        if self._held or self._refused is not None:
            self.write(data)
        else:
            self._transport.write(data)

    @override
    def writelines(self, list_of_data: Iterable[Piece]) -> None:
        """Send at once."""
        self.flush()
        if self._may_leave():
            self._transport.writelines(list_of_data)

    def flush(self) -> None:
        """Send what waits."""
        held, self._held = self._held, b""
        if (
            held
            and not self._transport.is_closing()
            and (self._refused is None or self._may_leave())
        ):
            self._transport.write(held)

    def _may_leave(self) -> bool:
        """Return whether all is done that comes before; says so when it is not."""
        if self._refused is None or (error := self._cork.run_errands()) is None:
            return True
        self._refused(error)
        return False

    @override
    def write_eof(self) -> None:
        self.flush()
        self._transport.write_eof()

    @override
    def close(self) -> None:
        self.flush()
        self._transport.close()

    @override
    def abort(self) -> None:
        self._held = b""
        self._transport.abort()

    @override
    def get_write_buffer_size(self) -> int:
        return len(self._held) + self._transport.get_write_buffer_size()


class Cork:
    """What has to leave one loop when its turn ends, and what has to be done before.

    `holding` are those that are to be flushed then; `due`: it is known that the turn has to end.
    """

    def __init__(self) -> None:
        self.holding: list[Corked] = []
        self.due = False
        self._held_before = 0
        self._until_s = 0.0
        self._crowd_gone: list[asyncio.Future[None]] = []
        self._errands: list[Callable[[], None]] = []

    def first(self, errand: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        """Have this done before anything leaves from now on that waits for errands.

        One that raises is tried again, and nothing of that kind leaves until it has been done.
        """
        if errand not in self._errands:
            self._errands.append(errand)
        if not self.due:
            self.end_turn(loop)

    def run_errands(self) -> Exception | None:
        """Do what has to be done first; return why something could not be done."""
        if not self._errands:
            return None
        failure = None
        errands, self._errands = self._errands, []
        for errand in errands:
            try:
                errand()
            except Exception as error:  # noqa: BLE001 (told to whom it keeps from sending)
                failure = error
                self._errands.append(errand)
        return failure

    def end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have all of it done when the loop's turn ends."""
        self.due = True
        loop.call_soon(self._pull, loop)

    async def crowd_gone(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return once what is gathered has left; at once where nothing is."""
        if self._held_before:
            self._crowd_gone.append(waiter := loop.create_future())
            await waiter

    def _gathers_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether what leaves may wait for more: as long as each turn brings some."""
        count, before = len(self.holding), self._held_before
        if count <= before:
            return False
        if not before:
            self._until_s = loop.time() + GATHER_S
        self._held_before = count
        return loop.time() < self._until_s

    def _pull(self, loop: asyncio.AbstractEventLoop) -> None:
        if len(self.holding) >= BUSY and self._gathers_on(loop):
            loop.call_soon(self._pull, loop)
            return
        self._held_before = 0
        self.due = False
        self.run_errands()
        holding, self.holding = self.holding, []
        for transport in holding:
            transport.queued = False
            try:
                transport.flush()
            except Exception as error:  # noqa: BLE001 (the others' answers must leave)
                loop.call_exception_handler(
                    {"message": "a connection could not be written to", "exception": error}
                )
                transport.abort()
        waiters, self._crowd_gone = self._crowd_gone, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


_corks: WeakKeyDictionary[asyncio.AbstractEventLoop, Cork] = WeakKeyDictionary()


def cork_of(loop: asyncio.AbstractEventLoop) -> Cork:
    """Return the one of a loop."""
    cork = _corks.get(loop)
    if cork is None:
        cork = _corks[loop] = Cork()
    return cork
