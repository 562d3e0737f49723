"""What an answer says, whatever dialect it is written in; and how streams are framed."""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec

STOP, LENGTH, TOOLS, FILTER = "stop", "length", "tool_calls", "content_filter"


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One answer's content, end and count. `proofs` are signatures and redacted thoughts.

    `cached_tokens` are None where the answer does not say.
    """

    text: str = ""
    thoughts: str = ""
    calls: tuple[tuple[str, object], ...] = ()
    call_ids: tuple[str, ...] = ()
    proofs: tuple[str, ...] = ()
    finish: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    error: str | None = None


def arguments_of(text: str) -> object:
    """Return the arguments of a call; a text that is no JSON stays as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def sse(raw: bytes) -> Iterator[tuple[str, object]]:
    """Yield name and JSON of each event; what is not JSON comes as text."""
    text = raw.decode().replace("\r\n", "\n").replace("\r", "\n")
    for block in text.split("\n\n"):
        name, lines = "", []
        for line in block.split("\n"):
            field, _, value = line.partition(":")
            if field == "event":
                name = value.strip()
            elif field == "data":
                lines.append(value.removeprefix(" "))
        if lines:
            yield name, arguments_of("\n".join(lines))


def frames(raw: bytes) -> Iterator[tuple[Mapping[str, str], object]]:
    """Yield the headers and the JSON of each frame of an AWS event stream, checking its CRCs."""
    at = 0
    while at < len(raw):
        total, headers_length, prelude_crc = struct.unpack_from(">III", raw, at)
        assert prelude_crc == zlib.crc32(raw[at : at + 8])
        (crc,) = struct.unpack_from(">I", raw, at + total - 4)
        assert crc == zlib.crc32(raw[at : at + total - 4])
        body_at = at + 12 + headers_length
        yield dict(_headers(raw[at + 12 : body_at])), json.loads(raw[body_at : at + total - 4])
        at += total


def _headers(raw: bytes) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(raw):
        name_ends = at + 1 + raw[at]
        (length,) = struct.unpack_from(">H", raw, name_ends + 1)
        value_at = name_ends + 3
        assert raw[name_ends] == 7, "only texts are known here"
        yield raw[at + 1 : name_ends].decode(), raw[value_at : value_at + length].decode()
        at = value_at + length


def total(*counts: int | None) -> int | None:
    """Return the sum of what is known, None when nothing is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def joined(texts: Iterable[str | None]) -> str:
    """Return the texts one after another."""
    return "".join(text or "" for text in texts)
