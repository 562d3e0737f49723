"""Vectors in the form the caller asked for, whatever form the server likes.

OpenAI answers `encoding_format: base64` with little-endian 32-bit floats; some servers ignore the
field and send numbers, a few send base64 unasked.
"""

import base64
import binascii
import re
import struct

import msgspec

_FLOAT_BYTES = 4


_FIRST = re.compile(rb'"embedding"\s*:\s*(["\[])')


class _Row(msgspec.Struct):
    embedding: list[float] | str


class _Rows(msgspec.Struct):
    data: list[_Row]


_decode = msgspec.json.Decoder(_Rows).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_rows = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


def in_asked_form(body: bytes, *, encoding_format: str | None) -> bytes:
    """Return the answer with every vector as asked (floats unless `base64`), else unchanged.

    Raises:
        ValueError: a vector is neither a list of numbers nor base64 of floats.
    """
    wanted, mark = (str, b'"') if encoding_format == "base64" else (list, b"[")
    first = _FIRST.search(body)
    # Answers of 20 MB are not decoded to learn what their first vector shows.
    if first is None or first[1] == mark:
        return body
    rows = _decode(body).data
    fields = _decode_fields(body)
    changed = _decode_rows(fields["data"])
    for raw, row in zip(changed, rows, strict=True):
        if not isinstance(row.embedding, wanted):
            raw["embedding"] = msgspec.Raw(msgspec.json.encode(_turned(row.embedding)))
    fields["data"] = msgspec.Raw(msgspec.json.encode(changed))
    return msgspec.json.encode(fields)


def _turned(vector: list[float] | str) -> str | list[float]:
    if isinstance(vector, str):
        try:
            packed = base64.b64decode(vector, validate=True)
            return list(struct.unpack(f"<{len(packed) // _FLOAT_BYTES}f", packed))
        except (binascii.Error, struct.error) as error:
            raise ValueError("a vector is not base64 of 32-bit floats") from error
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (OverflowError, struct.error) as error:
        raise ValueError("a vector does not fit 32-bit floats") from error
