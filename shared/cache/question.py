"""What makes two questions the same. Pure."""

from collections.abc import Mapping
from hashlib import sha256

import msgspec

Fields = Mapping[str, object]

DIGITS = 40
"""Of a digest: 160 bits."""

MOST_BYTES = 1024 * 1024
"""Questions that are longer are not looked up: reading one takes milliseconds that all wait for."""

fields_of = msgspec.json.Decoder(dict[str, object]).decode
"""Returns a question's fields, or fails as `UNREADABLE` says."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_PLAIN = frozenset({str, int, bool, list, dict})
"""Of values that stand for themselves."""
_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_encode = msgspec.json.Encoder(order="deterministic").encode


def digest_of(
    fields: Fields,
    endpoint: str,
    mark: str,
    headers: Mapping[str, str],
    without: frozenset[str],
) -> str:
    """Return `DIGITS` hex digits that are the same for the same question, and for no other.

    The order of fields, spaces, and whether a number is written `0` or `0.0` make no difference;
    a field that is null is one that was left out. `mark` stands for what the model's name means,
    `without` names the fields that do not matter.
    """
    asked = dict(fields)
    for name in without.intersection(asked):
        del asked[name]
    if not _PLAIN.issuperset(map(type, asked.values())):
        asked = _plain(asked)
    try:
        said = _pack((endpoint, mark, headers, asked))  # texts are copied, where JSON reads them
    except OverflowError:  # whole numbers of more than 64 bits
        said = _encode((endpoint, mark, headers, asked))  # begins as nothing packed does
    return sha256(said).hexdigest()[:DIGITS]  # processors have instructions for it


def _plain(fields: Fields) -> dict[str, object]:
    """Return the fields that say something, whole numbers as such."""
    return {
        name: int(value) if type(value) is float and value.is_integer() else value
        for name, value in fields.items()
        if value is not None
    }
