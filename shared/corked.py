"""Writes that leave together: what a turn of the event loop has to send goes out at its end.

A send that follows other work takes three times the processor time of one that follows a send: the
kernel's code has left the caches, and the reader at the other end of a loopback has fallen asleep
again. So the answers and the questions of all calls that one turn brings forward leave one after
the other. A connection waits with one piece at most; a second one takes both out at once.
"""

import asyncio
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from typing_extensions import override

MOST_HELD_BYTES = 64 * 1024
"""A larger piece leaves at once: what it costs to send is its own length."""

Piece = bytes | bytearray | memoryview


class Corked(asyncio.Transport):
    """A transport whose writes wait for the end of the loop's turn; a goodbye sends them first."""

    __slots__ = ("_cork", "_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._cork = _cork_of(loop)
        self._held = b""

    @override
    def write(self, data: Piece) -> None:
        """Send at the end of the turn, or at once after what waits already."""
        if self._held:
            self._transport.write(b"".join((self._held, data)))
            self._held = b""
        elif len(data) > MOST_HELD_BYTES:
            self._transport.write(data)
        else:
            self._held = bytes(data)  # its owner may write into it again
            self._cork.hold(self, self._loop)

    @override
    def writelines(self, list_of_data: Iterable[Piece]) -> None:
        """Send at once."""
        self.flush()
        self._transport.writelines(list_of_data)

    def flush(self) -> None:
        """Send what waits."""
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)

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

    # As the transport itself has it

    @override
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    @override
    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    @override
    def pause_reading(self) -> None:
        self._transport.pause_reading()

    @override
    def resume_reading(self) -> None:
        self._transport.resume_reading()


class _Cork:
    """The transports of one loop that have something to send when its turn ends."""

    def __init__(self) -> None:
        self._holding: list[Corked] = []

    def hold(self, transport: Corked, loop: asyncio.AbstractEventLoop) -> None:
        self._holding.append(transport)
        if len(self._holding) == 1:
            loop.call_soon(self._pull)

    def _pull(self) -> None:
        holding, self._holding = self._holding, []
        for transport in holding:
            try:
                transport.flush()
            except (OSError, RuntimeError) as error:  # the others' answers must leave
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a connection could not be written to", "exception": error}
                )
                transport.abort()


_corks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Cork] = WeakKeyDictionary()


def _cork_of(loop: asyncio.AbstractEventLoop) -> _Cork:
    cork = _corks.get(loop)
    if cork is None:
        cork = _corks[loop] = _Cork()
    return cork
