"""AWS event-stream frames from bytes, however the bytes are cut.

A frame, all numbers big-endian: total length u32, length of the headers u32, CRC-32 of those eight
bytes, headers, payload, CRC-32 of all before. A header: length of the name u8, name, type u8, value
(text: length u16 and the bytes). Source: the Amazon event stream specification.
"""

import struct
import zlib
from collections.abc import Mapping

import msgspec

FRAME_LIMIT_BYTES = 24 * 1024 * 1024
"""AWS bounds a payload by 24 MB; a larger number is no length."""

_PRELUDE = struct.Struct(">III")
_CRC_BYTES = 4
_LEAST_BYTES = _PRELUDE.size + _CRC_BYTES
_TEXT, _BYTES = 7, 6
_FIXED_BYTES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Sizes of the values of other types: true, false, integers, a timestamp, a UUID."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One message; only headers that hold text are kept."""

    headers: Mapping[str, str]
    payload: bytes


class BrokenFrame(ValueError):
    """The bytes are not an event stream, or were changed on the way."""


class FrameParser:
    """Fed the bytes of one stream; gives the frames completed by each piece."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take the next bytes.

        Raises:
            BrokenFrame: a checksum or a length is wrong; nothing after it can be read.
        """
        buffer = self._buffer
        buffer += chunk
        frames: list[Frame] = []
        start = 0
        while len(buffer) - start >= _PRELUDE.size:
            length, headers_length = _prelude(buffer, start)
            if len(buffer) - start < length:
                break
            frames.append(_frame(bytes(buffer[start : start + length]), headers_length))
            start += length
        del buffer[:start]
        return frames

    @property
    def waiting(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._buffer)


def _prelude(buffer: bytearray, start: int) -> tuple[int, int]:
    """Return the lengths of the frame and of its headers, checked before they are believed."""
    length, headers_length, crc = _PRELUDE.unpack_from(buffer, start)
    if zlib.crc32(buffer[start : start + 8]) != crc:
        raise BrokenFrame("the checksum of a frame's lengths is wrong")
    if not _LEAST_BYTES <= length <= FRAME_LIMIT_BYTES or headers_length > length - _LEAST_BYTES:
        raise BrokenFrame(f"a frame of {length} bytes cannot be")
    return length, headers_length


def _frame(raw: bytes, headers_length: int) -> Frame:
    (crc,) = struct.unpack_from(">I", raw, len(raw) - _CRC_BYTES)
    if zlib.crc32(memoryview(raw)[:-_CRC_BYTES]) != crc:
        raise BrokenFrame("the checksum of a frame is wrong")
    end = _PRELUDE.size + headers_length
    try:
        headers = _headers(raw[_PRELUDE.size : end])
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise BrokenFrame("the headers of a frame are cut") from error
    return Frame(headers, raw[end:-_CRC_BYTES])


def _headers(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(raw):
        name_end = at + 1 + raw[at]
        name, kind = raw[at + 1 : name_end].decode(), raw[name_end]
        at = name_end + 1
        if kind in _FIXED_BYTES:
            at += _FIXED_BYTES[kind]
            continue
        if kind not in {_TEXT, _BYTES}:
            raise BrokenFrame(f"a header of the unknown type {kind}")
        (length,) = struct.unpack_from(">H", raw, at)
        at += 2 + length
        if kind == _TEXT:
            found[name] = raw[at - length : at].decode()
    return found
