"""As much of JSON Schema, draft 7, as the config's schema uses; an unknown word fails the test."""

import re
from collections.abc import Iterator
from typing import Any

TYPES = {"string": str, "array": list, "object": dict, "boolean": bool, "null": type(None)}
SILENT = {"$schema", "title", "description", "default", "definitions", "then"}


def faults(schema: dict[str, Any], value: object) -> list[str]:
    """Return the paths at which a value does not satisfy a schema."""
    return list(_faults(schema, value, "", schema["definitions"]))


def _faults(schema: dict, value: object, path: str, known: dict) -> Iterator[str]:
    for word, wanted in schema.items():
        if word in SILENT:
            continue
        if word not in WORDS:
            raise AssertionError(f"the schema has a new word: {word}")
        for fault in WORDS[word](wanted, value, schema, path, known):
            yield fault or path


def _fits(schema: dict, value: object, known: dict) -> bool:
    return next(_faults(schema, value, "-", known), None) is None


def _is(value: object, name: str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in {"number", "integer"}:
        return number and (name == "number" or isinstance(value, int))
    return isinstance(value, TYPES[name])


def _when(broken: object) -> list[str]:
    return [""] if broken else []


def _properties(wanted, value, schema, path, known):
    for name in wanted.keys() & (value.keys() if isinstance(value, dict) else ()):
        yield from _faults(wanted[name], value[name], f"{path}.{name}".lstrip("."), known)


def _additional(wanted, value, schema, path, known):
    named = schema.get("properties", {})
    for name in value.keys() - named.keys() if isinstance(value, dict) else ():
        where = f"{path}.{name}".lstrip(".")
        yield from _faults(wanted, value[name], where, known) if wanted else [where]


def _items(wanted, value, schema, path, known):
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield from _faults(wanted, item, f"{path}[{index}]", known)


def _number(value: object) -> bool:
    return _is(value, "number")


def _matches(wanted: str, value: object) -> bool:
    return not isinstance(value, str) or re.search(wanted, value) is not None


WORDS = {
    "$ref": lambda w, v, s, p, k: _faults(k[w.rpartition("/")[2]], v, p, k),
    "type": lambda w, v, s, p, k: _when(
        not any(_is(v, one) for one in ([w] if isinstance(w, str) else w))
    ),
    "enum": lambda w, v, s, p, k: _when(not any(v == one and type(v) is type(one) for one in w)),
    "const": lambda w, v, s, p, k: _when(v is not w),
    "pattern": lambda w, v, s, p, k: _when(not _matches(w, v)),
    "minLength": lambda w, v, s, p, k: _when(isinstance(v, str) and len(v) < w),
    "minItems": lambda w, v, s, p, k: _when(isinstance(v, list) and len(v) < w),
    "minimum": lambda w, v, s, p, k: _when(_number(v) and v < w),
    "maximum": lambda w, v, s, p, k: _when(_number(v) and v > w),
    "exclusiveMinimum": lambda w, v, s, p, k: _when(_number(v) and v <= w),
    "required": lambda w, v, s, p, k: [
        f"{p}.{name}".lstrip(".") for name in w if isinstance(v, dict) and name not in v
    ],
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": lambda w, v, s, p, k: [
        f"{p}.{name}" for name in (v if isinstance(v, dict) else ()) if not _fits(w, name, k)
    ],
    "items": _items,
    "allOf": lambda w, v, s, p, k: (fault for one in w for fault in _faults(one, v, p, k)),
    "anyOf": lambda w, v, s, p, k: _when(not any(_fits(one, v, k) for one in w)),
    "not": lambda w, v, s, p, k: _when(_fits(w, v, k)),
    "if": lambda w, v, s, p, k: _faults(s["then"], v, p, k) if _fits(w, v, k) else (),
}
