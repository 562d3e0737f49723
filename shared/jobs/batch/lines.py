"""An input file as lines, whatever its size: pieces of bytes in, lines out. Pure."""

from collections.abc import AsyncIterator

import msgspec

BOM = b"\xef\xbb\xbf"


class RawLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that is not blank. `raw` is None when it is too long; `ends` is where the next begins.

    `number` counts all lines from where the reading began, from 1.
    """

    raw: bytes | None
    number: int
    ends: int


class LineBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a line of an input file says."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


decode_line = msgspec.json.Decoder(LineBody).decode


async def read_lines(
    pieces: AsyncIterator[bytes], *, start: int, most_bytes: int
) -> AsyncIterator[RawLine]:
    """Yield the lines of a file whose pieces begin at byte `start`.

    Never holds more than a line of `most_bytes` and a piece. A byte order mark is no part of the
    first line.
    """
    at, number = start, 1
    begun = bytearray()
    too_long = False
    async for piece in pieces:
        *whole, rest = piece.split(b"\n")
        for part in whole:
            at += len(part) + 1
            if too_long or len(begun) + len(part) > most_bytes:
                yield RawLine(raw=None, number=number, ends=at)
            elif raw := _stripped(bytes(begun) + part, first=start == 0 and number == 1):
                yield RawLine(raw=raw, number=number, ends=at)
            begun.clear()
            too_long = False
            number += 1
        at += len(rest)
        too_long = too_long or len(begun) + len(rest) > most_bytes
        if not too_long:
            begun += rest
    if too_long:
        yield RawLine(raw=None, number=number, ends=at)
    elif raw := _stripped(bytes(begun), first=start == 0 and number == 1):
        yield RawLine(raw=raw, number=number, ends=at)


def _stripped(raw: bytes, *, first: bool) -> bytes:
    return (raw.removeprefix(BOM) if first else raw).strip()
