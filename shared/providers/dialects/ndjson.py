"""Lines of JSON from bytes, however the bytes are cut; empty lines are skipped.

Characters that JSON has cut in two are whole again.
"""

from shared.providers.dialects.halves import Halves

LINE_LIMIT_BYTES = 4 * 1024 * 1024
"""A line carries a whole tool call, arguments of a megabyte included."""


class LineTooLarge(ValueError):
    """One line is larger than LINE_LIMIT_BYTES."""


class LineParser:
    """Fed the bytes of one stream; gives the lines completed by each piece."""

    def __init__(self, limit_bytes: int = LINE_LIMIT_BYTES) -> None:
        self._halves = Halves()
        self._limit_bytes = limit_bytes
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and return the lines they complete.

        Raises:
            LineTooLarge: the line under way passes the limit.
        """
        self._rest += chunk
        if b"\n" not in chunk:
            if len(self._rest) > self._limit_bytes:
                raise LineTooLarge(f"a line of more than {self._limit_bytes} bytes")
            return []
        *whole, rest = self._rest.split(b"\n")
        self._rest = rest
        return [self._halves.whole(bytes(line)) for line in map(bytearray.strip, whole) if line]

    def finish(self) -> list[bytes]:
        """Return the last line, if it lacks only its line break."""
        last, self._rest = bytes(self._rest.strip()), bytearray()
        return [self._halves.whole(last)] if last else []
