"""Token counts as they come: imitators and proxies send text, nulls and floats among them.

What is decoded in one go is nearly always sound. Only where that fails are the counts looked at one
by one, so that one that is none costs neither the others nor the answer.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

_Answer = TypeVar("_Answer")
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def part_in(mapping: Mapping[Any, object], name: str) -> Mapping[Any, object]:
    """Return the object of that name, an empty one for anything else."""
    found = mapping.get(name)
    return found if isinstance(found, Mapping) else {}


def count_in(mapping: Mapping[Any, object], name: str) -> int | None:
    """Return the count of that name; None for what is none: a text, a null, a negative number."""
    return count_of(mapping.get(name))


def count_of(found: object) -> int | None:
    """Return the value as a count; None for what is none."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return int(found) if found >= 0 else None


def text_in(mapping: Mapping[Any, object], name: str) -> str | None:
    """Return the text of that name, None for anything else."""
    found = mapping.get(name)
    return found if isinstance(found, str) else None


def parts_in(mapping: Mapping[Any, object], name: str) -> list[Mapping[Any, object]]:
    """Return the objects in the list of that name."""
    found = mapping.get(name)
    parts = found if isinstance(found, list) else ()
    return [part for part in parts if isinstance(part, Mapping)]


def without_odd_counts(
    strictly: Callable[[bytes], _Answer],
    name: str,
    keep: Callable[[_Answer, Mapping[str, object] | None], None],
) -> Callable[[bytes], _Answer]:
    """Return a decoder that leaves out what is no count instead of refusing the whole answer.

    The counts are in the field `name`; `keep` puts into an answer, decoded without that field, what
    can be read of the object that it holds. What else is wrong is refused as by `strictly`.
    """

    def decoded(body: bytes) -> _Answer:
        try:
            return strictly(body)
        except msgspec.ValidationError:
            fields = _decode_fields(body)
            found = msgspec.json.decode(fields.pop(name, b"null"))
            answer = strictly(msgspec.json.encode(fields))
            keep(answer, found if isinstance(found, dict) else None)
            return answer

    return decoded
