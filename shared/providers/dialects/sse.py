"""Server-sent events from bytes, by the WHATWG standard, however the bytes are cut.

CR, LF and CRLF end a line; U+2028 and U+0085 do not. Comments are dropped, events without data
too, `id` and `retry` are ignored. Two leniencies towards real servers: a line that begins with
`{` counts as data (errors come as a plain JSON line), and an event that lacks only its last
blank line is given by `finish`. Characters that JSON has cut in two are whole again.
"""

import msgspec

from shared.providers.dialects.halves import Halves

EVENT_LIMIT_BYTES = 2 * 1024 * 1024
"""No known provider sends larger events; images inside deltas stay below 1.5 MB."""

# Looking for a byte by its number is at once; by a text, an exception is made and thrown away.
CR, LF = b"\r\n"

_BOM = b"\xef\xbb\xbf"


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One event: its data lines joined by LF, and its name (empty when it has none)."""

    data: bytes
    name: bytes = b""


class EventTooLarge(ValueError):
    """One event is larger than EVENT_LIMIT_BYTES."""


class SseParser:
    """Fed the bytes of one stream; gives the events completed by each piece."""

    def __init__(self, limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self.halves = Halves()
        self._limit_bytes = limit_bytes
        self._pieces: list[bytes] = []
        self._data: list[bytes] = []
        self._name = b""
        self._size_bytes = 0
        self._after_cr = False
        self._begun = False

    @property
    def idle(self) -> bool:
        """Whether the next byte begins a new event."""
        return (
            self._begun
            and not self._size_bytes
            and not self._after_cr
            and not self._data
            and not self._name
        )

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take the next bytes and return the events they complete.

        Raises:
            EventTooLarge: the event under way passes the limit; the parser is of no use any more.
        """
        if chunk.endswith(b"\n\n") and (whole := self._whole(chunk)) is not None:
            return whole
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if LF not in chunk and CR not in chunk:
            self._keep(chunk)
            return []
        self._pieces.append(chunk)
        text = b"".join(self._pieces)
        self._pieces.clear()
        if CR in text:
            self._after_cr = text.endswith(b"\r")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._size_bytes = sum(map(len, self._data))
        events: list[SseEvent] = []
        for line in lines:
            self._line(line, events)
        self._keep(rest)
        return events

    def _whole(self, chunk: bytes) -> list[SseEvent] | None:
        """Return the events of a chunk where each is a line of data, or a name and one.

        None where there is anything else, or less; then nothing has been taken.
        """
        if self._pieces or self._data or self._name or self._after_cr or CR in chunk:
            return None
        events = []
        for lines in chunk[:-2].split(b"\n\n"):
            name, line = b"", lines
            if lines.startswith(b"event: "):
                named, _, line = lines.partition(b"\n")
                name = named[7:]
            if not line.startswith(b"data: ") or LF in line or len(line) > self._limit_bytes:
                return None
            if data := line[6:]:
                events.append(SseEvent(self.halves.whole(data), name))
        self._begun = True
        return events

    def finish(self) -> list[SseEvent]:
        """Take the end of the stream and return the event that lacks only its end, if any."""
        events: list[SseEvent] = []
        if self._pieces:
            self._line(b"".join(self._pieces), events)
            self._pieces.clear()
        self._line(b"", events)
        return events

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._grow(len(piece))

    def _grow(self, length_bytes: int) -> None:
        self._size_bytes += length_bytes
        if self._size_bytes > self._limit_bytes:
            raise EventTooLarge(f"an event is larger than {self._limit_bytes} bytes")

    def _line(self, line: bytes, events: list[SseEvent]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(events)
        elif line.startswith(b"data:"):
            self._add(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"{"):
            self._add(line)
        elif line.startswith(b"event:"):
            self._name = line[6:].removeprefix(b" ")
        elif line == b"data":
            self._add(b"")

    def _add(self, value: bytes) -> None:
        self._data.append(value)
        self._grow(len(value))

    def _dispatch(self, events: list[SseEvent]) -> None:
        if self._data:
            data = b"\n".join(self._data) if len(self._data) > 1 else self._data[0]
            if data:
                events.append(SseEvent(self.halves.whole(data), self._name))
            self._data.clear()
        self._name = b""
        self._size_bytes = 0
