"""What makes two questions the same. Pure."""

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

Fields = Mapping[str, object]

MOST_BYTES = 1024 * 1024
"""Questions that are longer are not looked up: reading one takes milliseconds that all wait for."""

_decode = msgspec.json.Decoder(dict[str, object]).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def fields_of(raw: bytes) -> Fields | None:
    """Return the question's fields, None when it is too long or cannot be read."""
    if len(raw) > MOST_BYTES:
        return None
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def digest_of(
    fields: Fields,
    *,
    endpoint: str,
    mark: str,
    headers: Mapping[str, str],
    without: frozenset[str],
) -> str:
    """Return 40 hex digits that are the same for the same question, and for no other.

    The order of fields, spaces, and whether a number is written `0` or `0.0` make no difference;
    a field that is null is one that was left out. `mark` stands for what the model's name means,
    `without` names the fields that do not matter.
    """
    asked: dict[str, object] = {}
    for name, value in fields.items():
        if value is not None and name not in without:
            whole = isinstance(value, float) and value.is_integer()
            asked[name] = int(value) if whole else value  # type: ignore[call-overload]  # a float
    said = _encode((endpoint, mark, headers, asked))
    return blake2b(said, digest_size=20).hexdigest()
