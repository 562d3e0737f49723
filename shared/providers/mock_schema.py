"""The mock's arguments and structured answers: the smallest value a JSON Schema allows. Pure.

Schemas come from callers, so nothing in them is believed: a wrong keyword counts as absent, and
what would be large stays small.
"""

from collections.abc import Mapping

import msgspec

MOST_ITEMS = 16
"""Of one list, whatever its `minItems` says."""
MOST_NODES = 1_000
"""Of one value; where they are used up, null stands instead."""
MOST_DEPTH = 64
_NODE_BYTES = 64
"""A longer name or given value (`const`, `enum`) counts as several nodes."""


def instance_of(schema: object) -> object:
    """Return the smallest JSON value that a simple JSON Schema allows; never raises.

    At most MOST_NODES values in all, MOST_ITEMS in a list and MOST_DEPTH of them nested.
    """
    return _Builder().value(schema, MOST_DEPTH)


class _Builder:
    """Builds one value and counts what it is made of."""

    def __init__(self) -> None:
        self._left = MOST_NODES

    def value(self, schema: object, depth: int) -> object:
        if depth <= 0 or not self._spend(1):
            return None
        if not isinstance(schema, Mapping):
            return {}
        if "const" in schema:
            return self._given(schema["const"])
        if given := _listed(schema, "enum") or _listed(schema, "examples"):
            return self._given(given[0])
        if choices := _listed(schema, "anyOf") or _listed(schema, "oneOf"):
            return self.value(choices[0], depth - 1)
        kind = schema.get("type", "object" if "properties" in schema else None)
        if isinstance(kind, list):
            kind = kind[0] if kind else None
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case _:
                return {"string": "mock", "integer": 1, "number": 1.5, "boolean": True}.get(
                    str(kind)
                )

    def _object(self, schema: Mapping[str, object], depth: int) -> dict[str, object]:
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required", list(known))
        found: dict[str, object] = {}
        for name in required if isinstance(required, list) else ():
            if not isinstance(name, str):
                continue
            if not self._spend(1 + len(name) // _NODE_BYTES):
                break
            found[name] = self.value(known.get(name, {}), depth - 1)
        return found

    def _array(self, schema: Mapping[str, object], depth: int) -> list[object]:
        wanted = schema.get("minItems")
        count = min(wanted, MOST_ITEMS) if type(wanted) is int else 0  # not a bool
        items = schema.get("items", {})
        return [self.value(items, depth - 1) for _ in range(count) if self._left > 0]

    def _given(self, value: object) -> object:
        try:
            size_bytes = len(msgspec.json.encode(value))
        except (RecursionError, TypeError, ValueError):
            return None
        return value if self._spend(size_bytes // _NODE_BYTES) else None

    def _spend(self, nodes: int) -> bool:
        """Count nodes; return whether there were as many left."""
        if nodes > self._left:
            return False
        self._left -= nodes
        return True


def _listed(schema: Mapping[str, object], name: str) -> list[object]:
    """Return a keyword's list, empty if it has none."""
    found = schema.get(name)
    return found if isinstance(found, list) else []
