"""JSON Schemas as Anthropic's structured outputs take them; what they refuse becomes a note.

The keywords are those of Anthropic's own SDK, which does the same.
"""

from collections.abc import Mapping

_FORMATS = frozenset({
    "date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid",
})  # fmt: skip
_KEPT = frozenset({
    "$ref", "$defs", "definitions", "type", "enum", "const", "anyOf", "oneOf", "allOf",
    "description", "title", "properties", "required", "items", "additionalProperties", "default",
})  # fmt: skip
_SILENT = frozenset({"$schema", "$id", "$comment"})
_FEWEST_ITEMS = (0, 1)


def strict_schema(schema: Mapping[str, object]) -> dict[str, object]:
    """Return the schema without the keywords that are refused.

    Objects are closed. What was taken out stands in the description, so that the model may still
    keep to it: `{minimum: 1}`.
    """
    kept: dict[str, object] = {}
    notes: list[str] = []
    for word, value in schema.items():
        if word in _KEPT or _keeps(word, value):
            kept["anyOf" if word == "oneOf" else word] = _inside(word, value)
        elif word not in _SILENT:
            notes.append(f"{word}: {value}")
    if kept.get("type") == "object" or "properties" in kept:
        kept["type"] = kept.get("type", "object")
        kept.setdefault("properties", {})
        kept["additionalProperties"] = False
    if notes:
        said = kept.get("description")
        note = "{" + ", ".join(notes) + "}"
        kept["description"] = f"{said}\n\n{note}" if said else note
    return kept


def _keeps(word: str, value: object) -> bool:
    if word == "format":
        return value in _FORMATS
    return word == "minItems" and value in _FEWEST_ITEMS


def _inside(word: str, value: object) -> object:
    if word in {"properties", "$defs", "definitions"} and isinstance(value, Mapping):
        return {name: _schema(inner) for name, inner in value.items()}
    if word == "items":
        return _schema(value)
    if word in {"anyOf", "oneOf", "allOf"} and isinstance(value, list):
        return [_schema(inner) for inner in value]
    return value


def _schema(value: object) -> object:
    return strict_schema(value) if isinstance(value, Mapping) else value
