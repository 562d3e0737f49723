"""From the file's tree to the Structs of the model, led by their types.

A value that cannot be used is noted and its default (or an empty stand-in) put in its place, so
that everything else is still checked: the caller must look at the mistakes before the result.
"""

import enum
import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Final, TypeVar, cast

import msgspec
from msgspec import inspect

from shared.config.amounts import number_hint
from shared.config.expand import expand
from shared.config.formats import FORMATS, header_mistake
from shared.config.mistakes import Mistakes, joined, nearest, suggested
from shared.config.source import NULLS, Branch, Items, Leaf, Node

_WHOLE = re.compile(r"[+-]?[0-9][0-9_]*")
_DECIMAL = re.compile(r"[+-]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_FLAGS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
NOT_KEYS: Mapping[str, frozenset[str]] = {"Config": frozenset({"disabled"})}
"""Fields that the loader fills in and the file may not hold."""


class _Broken(enum.Enum):
    BROKEN = enum.auto()


BROKEN: Final = _Broken.BROKEN
"""Stands for a value that was wrong and has been noted."""

SectionType = TypeVar("SectionType", bound=msgspec.Struct)


@cache
def _described(kind: type[msgspec.Struct]) -> inspect.StructType:
    """Return the fields of a section; finding them out took two thirds of reading a config."""
    return cast("inspect.StructType", inspect.type_info(kind))


class Converter:
    """Converts one file; `quiet` are paths whose unset variables are no mistakes."""

    def __init__(
        self, env: Mapping[str, str], mistakes: Mistakes, *, quiet: frozenset[str] = frozenset()
    ) -> None:
        self._env = env
        self._mistakes = mistakes
        self._quiet = quiet

    def section(
        self,
        node: Node,
        kind: type[SectionType],
        path: str,
        *,
        omit: frozenset[str] = frozenset(),
    ) -> SectionType:
        """Return the Struct for a mapping; `omit` are fields that may not stand there.

        Whatever was wrong is among the mistakes, and the Struct holds defaults instead.
        """
        self._mistakes.place(path, node.at)
        described = _described(kind)
        empty = isinstance(node, Leaf) and node.is_null
        if not isinstance(node, Branch):
            if not empty:
                self._mistakes.unreadable(path, f"must be a mapping of keys{_not_that(node)}")
                return cast("SectionType", _stand_in(described))
            node = Branch(entries=(), at=node.at)
        without = omit | NOT_KEYS.get(kind.__name__, frozenset())
        fields = {field.name: field for field in described.fields if field.name not in without}
        values: dict[str, object] = {}
        for entry in node.entries:
            where = joined(path, entry.name)
            self._mistakes.place(where, entry.at)
            field = fields.get(entry.name)
            if field is None:
                self._unknown(entry.name, fields, path)
                continue
            found = self.value(entry.value, field.type, where)
            if found is not BROKEN:
                values[entry.name] = found
        given = {entry.name for entry in node.entries}
        for field in described.fields:
            if field.required and field.name not in values:
                if field.name not in given and field.name not in omit:
                    self._mistakes.add(joined(path, field.name), "is missing")
                values[field.name] = _stand_in(field.type)
        return kind(**values)

    def _unknown(self, name: str, fields: Mapping[str, inspect.Field], path: str) -> None:
        """Note an unknown key; what it was meant to be is then not missing too."""
        meant = _meant(name, fields)
        self._mistakes.add(joined(path, name), f"unknown key{meant or suggested(name, fields)}")
        for field in fields:
            if f'"{field}"' in meant:
                self._mistakes.excuse(joined(path, field))

    def value(self, node: Node, kind: inspect.Type, path: str) -> object:
        """Return the value for a node of that type, or BROKEN."""
        self._mistakes.place(path, node.at)
        extra: Mapping[str, object] = {}
        if isinstance(kind, inspect.UnionType):  # the model has only `X | None`
            if isinstance(node, Leaf) and node.is_null:
                return None
            kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
        if isinstance(kind, inspect.Metadata):
            extra = kind.extra or {}
            kind = kind.type
        match kind:
            case inspect.StructType(cls=cls):
                return self.section(node, cls, path)
            case inspect.VarTupleType(item_type=item_type):
                return self._items(node, item_type, path)
            case inspect.DictType():
                return self._mapping(node, kind, path, headers=extra.get("format") == "headers")
            case inspect.CustomType():
                return self._anything(node, path)
            case _:
                return self._scalar(node, kind, path, extra)

    def _items(self, node: Node, item_type: inspect.Type, path: str) -> object:
        if isinstance(node, Leaf) and node.is_null:
            return ()
        if not isinstance(node, Items):
            self._mistakes.unreadable(path, f"must be a list{_not_that(node)}")
            return BROKEN
        found = (
            self.value(item, item_type, f"{path}[{index}]") for index, item in enumerate(node.items)
        )
        # Stand-ins keep the indices of what follows.
        return tuple(_stand_in(item_type) if one is BROKEN else one for one in found)

    def _mapping(self, node: Node, kind: inspect.DictType, path: str, *, headers: bool) -> object:
        if isinstance(node, Leaf) and node.is_null:
            return {}
        if not isinstance(node, Branch):
            self._mistakes.unreadable(path, f"must be a mapping of keys{_not_that(node)}")
            return BROKEN
        known = kind.key_type.values if isinstance(kind.key_type, inspect.LiteralType) else None
        found: dict[str, object] = {}
        for entry in node.entries:
            where = joined(path, entry.name)
            self._mistakes.place(where, entry.at)
            if known is not None and entry.name not in known:
                words = [str(word) for word in known]
                self._mistakes.add(where, f"unknown key{suggested(entry.name, words)}")
                continue
            value = self.value(entry.value, kind.value_type, where)
            found[entry.name] = _stand_in(kind.value_type) if value is BROKEN else value
            if headers and (why := header_mistake(entry.name, str(found[entry.name]))):
                self._mistakes.add(where, why)
        return found

    def _anything(self, node: Node, path: str) -> object:
        """Return what YAML itself would make of a free value; moments stay text."""
        match node:
            case Branch():
                inner = (
                    (e.name, self._anything(e.value, joined(path, e.name))) for e in node.entries
                )
                return {name: value for name, value in inner if value is not BROKEN}
            case Items():
                found = (self._anything(n, f"{path}[{i}]") for i, n in enumerate(node.items))
                return [value for value in found if value is not BROKEN]
            case Leaf():
                leaf = self._expanded(node, path)
                if leaf is BROKEN or not (leaf.plain or leaf.expanded):
                    return BROKEN if leaf is BROKEN else leaf.text
                return _natural(leaf.text)

    def _scalar(
        self, node: Node, kind: inspect.Type, path: str, extra: Mapping[str, object]
    ) -> object:
        wanted = _wanted(kind)
        if not isinstance(node, Leaf):
            self._mistakes.add(path, f"must be {wanted}, not a {_shape(node)}")
            return BROKEN
        leaf = self._expanded(node, path)
        if leaf is BROKEN:
            return BROKEN
        try:
            return _read(leaf, kind, str(extra.get("format", "")))
        except ValueError as error:
            # What came from the environment or is a secret is never repeated.
            shown = "" if leaf.expanded or extra.get("secret") else f', not "{leaf.text}"'
            quoted = not (leaf.plain or leaf.expanded)
            hint = number_hint(leaf.text, path.rpartition(".")[2], kind, quoted=quoted)
            self._mistakes.add(path, f"{error}{shown}{hint if shown else ''}")
            return BROKEN

    def _expanded(self, leaf: Leaf, path: str) -> "_Scalar | _Broken":
        found = expand(leaf.text, self._env)
        if found.malformed:
            self._mistakes.add(path, "write ${NAME} or ${NAME:-default}")
            return BROKEN
        if found.unset:
            if not any(path.startswith((f"{one}.", f"{one}[")) for one in self._quiet):
                names = " and ".join(found.unset)
                verb = "is" if len(found.unset) == 1 else "are"
                self._mistakes.add(path, f"{names} {verb} not set in the environment")
            return BROKEN
        return _Scalar(text=found.text, plain=leaf.plain, expanded=found.touched)


class _Scalar(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf whose variables are filled in; then even a quoted text may be a number."""

    text: str
    plain: bool
    expanded: bool


def _read(leaf: _Scalar, kind: inspect.Type, form: str) -> object:
    """Return the scalar as that type. Raises ValueError saying what it must be."""
    loose = leaf.plain or leaf.expanded
    text = leaf.text.strip() if loose else leaf.text
    match kind:
        case inspect.StrType():
            if leaf.plain and not leaf.expanded and text.lower() in NULLS:
                raise ValueError("must be text")
            if not text:
                raise ValueError("must not be empty")
            return FORMATS[form](text) if form in FORMATS else text
        case inspect.LiteralType(values=values):
            # `null` and `off` are words here, whatever YAML thinks of them.
            found = next((one for one in values if str(one) == (text or "null")), None)
            if found is None:
                words = ", ".join(str(one) for one in values)
                raise ValueError(f"must be one of {words}")
            return found
        case inspect.BoolType() if loose and text.lower() in _FLAGS:
            return _FLAGS[text.lower()]
        case inspect.IntType() if loose and _WHOLE.fullmatch(text):
            return _bounded(int(text), kind)
        case inspect.FloatType() if loose and _DECIMAL.fullmatch(text):
            return _bounded(float(text), kind)
        case _:
            raise ValueError(f"must be {_wanted(kind)}")


_Number = TypeVar("_Number", int, float)


def _bounded(number: _Number, kind: inspect.IntType | inspect.FloatType) -> _Number:
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    if kind.ge is not None and number < kind.ge:
        raise ValueError(f"must be {kind.ge} or more")
    if kind.gt is not None and number <= kind.gt:
        raise ValueError(f"must be more than {kind.gt}")
    if kind.le is not None and number > kind.le:
        raise ValueError(f"must be {kind.le} or less")
    return number


def _natural(text: str) -> object:
    if text.lower() in NULLS:
        return None
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _wanted(kind: inspect.Type) -> str:
    match kind:
        case inspect.StrType():
            return "text"
        case inspect.IntType():
            return "a whole number"
        case inspect.FloatType():
            return "a number"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(str(one) for one in values)}"
        case _:
            return "something else"


def _meant(name: str, fields: Mapping[str, inspect.Field]) -> str:
    """Return `; did you mean "..."?` for a key that belongs one level deeper, or is misspelt."""
    for field in fields.values():
        inside, below = field.type, f"{field.name}."
        if isinstance(inside, inspect.UnionType):
            inside = next(one for one in inside.types if not isinstance(one, inspect.NoneType))
        if isinstance(inside, inspect.Metadata):
            inside = inside.type
        if isinstance(inside, inspect.VarTupleType):
            inside, below = inside.item_type, f"{field.name}[]."
        if isinstance(inside, inspect.StructType) and name in {one.name for one in inside.fields}:
            return f'; did you mean "{below}{name}"?'
    return nearest(name, fields)


def _not_that(node: Node) -> str:
    """Return what stands there instead; never the text itself, which may be a secret."""
    match node:
        case Items():
            return ", not a list: leave out the dashes, and begin each with its name and a colon"
        case Branch():
            return ", not a mapping: begin each item with a dash"
        case Leaf(text=text) if ":" in text:
            return ", not text: a colon needs a space after it"
        case _:
            return ", not a single value"


def _shape(node: Node) -> str:
    return "list" if isinstance(node, Items) else "mapping"


def _stand_in(kind: inspect.Type) -> object:
    """Return an empty value of the type; only checks of other paths will ever see it."""
    match kind:
        case inspect.Metadata(type=inner):
            return _stand_in(inner)
        case inspect.UnionType() | inspect.CustomType():
            return None
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.VarTupleType():
            return ()
        case inspect.DictType():
            return {}
        case inspect.IntType() | inspect.FloatType():
            return 1
        case inspect.BoolType():
            return False
        case inspect.StructType(cls=cls, fields=fields):
            return cls(**{one.name: _stand_in(one.type) for one in fields if one.required})
        case _:
            return ""
