"""Vectors in the form the caller asked for, whatever form the server likes.

OpenAI answers `encoding_format: base64` with little-endian 32-bit floats; some servers ignore the
field and send numbers, a few send base64 unasked.
"""

import base64
import binascii
import re
import struct
from operator import itemgetter

import msgspec

from shared.errors import InvalidRequest, UnsupportedParameter
from shared.providers.dialects.openai_draft import Draft

_FLOAT_BYTES = 4


_FIRST = re.compile(rb'"embedding"\s*:\s*(["\[])')


class _Row(msgspec.Struct):
    embedding: list[float] | str


class _Rows(msgspec.Struct):
    data: list[_Row]


class _Placed(msgspec.Struct):
    embedding: msgspec.Raw
    index: int | None = None


class _PlacedRows(msgspec.Struct):
    data: list[_Placed]


_decode = msgspec.json.Decoder(_Rows).decode
_decode_placed = msgspec.json.Decoder(_PlacedRows).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_rows = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


def floats_only(draft: Draft) -> None:
    """Ask for numbers, as everybody gives them; base64 is made of them here.

    Some servers refuse the field, and some refuse a null in it.
    """
    draft.body.pop("encoding_format", None)


def base64_too(draft: Draft) -> None:
    """Leave the caller's wish where there is one: the server makes base64 itself."""
    if not draft.has("encoding_format"):
        draft.body.pop("encoding_format", None)


def texts_only(draft: Draft) -> None:
    """Refuse token ids, which mean something to OpenAI's models alone.

    Raises:
        UnsupportedParameter: they are the input.
    """
    found = draft.body.get("input")
    items = _decode_items(found) if isinstance(found, msgspec.Raw) and _is_list(found) else []
    if any(bytes(memoryview(item)[:1]) != b'"' for item in items):
        raise UnsupportedParameter(
            f"{draft.model} embeds texts, not token ids; send `input` as text.", param="input"
        )


def inputs_of(draft: Draft) -> int | None:
    """Return how many vectors are asked for, None where that cannot be told.

    Raises:
        InvalidRequest: none at all.
    """
    found = draft.body.get("input")
    if not isinstance(found, msgspec.Raw):
        return None
    if not _is_list(found):
        return 1
    items = _decode_items(found)
    if not items:
        raise InvalidRequest("`input` must not be empty.", param="input")
    # A list of numbers is one text, in tokens.
    return len(items) if bytes(memoryview(items[0])[:1]) in b'["' else 1


def _is_list(value: msgspec.Raw) -> bool:
    return bytes(memoryview(value)[:1]) == b"["


def first_width(body: bytes) -> int | None:
    """Return how wide the first vector is, None when there is none."""
    first = _FIRST.search(body)
    if first is None:
        return None
    end = body.find(b'"' if first[1] == b'"' else b"]", first.end())
    vector = body[first.end() : end]
    if first[1] == b"[":
        return vector.count(b",") + 1 if vector.strip() else 0
    return len(vector.rstrip(b"=")) * 3 // 4 // _FLOAT_BYTES


def in_order(body: bytes, count: int | None) -> bytes:
    """Return the answer with its vectors in the order of the inputs, each with its index.

    Raises:
        ValueError: there is not one for each of `count` inputs.
    """
    rows = _decode_placed(body).data
    places = [row.index for row in rows]
    wanted = list(range(len(rows) if count is None else count))
    if places == wanted:
        return body
    if places == [None] * len(wanted):
        places = [*wanted]
    if sorted(place for place in places if place is not None) != wanted:
        raise ValueError("there is not one vector for each input")
    fields = _decode_fields(body)
    placed = sorted(zip(places, _decode_rows(fields["data"]), strict=True), key=itemgetter(0))
    data = [{**row, "index": place} for place, row in placed]
    fields["data"] = msgspec.Raw(msgspec.json.encode(data))
    return msgspec.json.encode(fields)


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
