"""The file's text as a tree that still knows its lines, before anything is given a meaning.

Scalars stay text, so that `2.5` never becomes a float and `off` never a flag before the schema
says what it is.
"""

import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time

import msgspec
import yaml

from shared.config.mistakes import ConfigError, Mistake, Mistakes, joined

_KNOWN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value")
)


MOST_NODES = 100_000
"""Values in a file, each alias counted as often as it is used; nine levels of aliases are 10^9."""


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """A scalar; `plain` when it stood without quotes and so may be a number or a flag."""

    text: str
    plain: bool
    line: int


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """A list."""

    items: tuple["Node", ...]
    line: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A key and what stands beside it."""

    name: str
    line: int
    value: "Node"


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping; no name occurs twice."""

    entries: tuple[Entry, ...]
    line: int

    def get(self, name: str) -> "Node | None":
        """Return the value of a key, or None."""
        return next((entry.value for entry in self.entries if entry.name == name), None)

    def replaced(self, name: str, value: "Node") -> "Branch":
        """Return the mapping with another value at a key it has."""
        entries = tuple(
            msgspec.structs.replace(entry, value=value) if entry.name == name else entry
            for entry in self.entries
        )
        return msgspec.structs.replace(self, entries=entries)


Node = Leaf | Items | Branch


def parse_yaml(text: str, mistakes: Mistakes) -> Branch:
    """Return the document's tree; repeated keys and unknown tags are noted as mistakes.

    Raises:
        ConfigError: the text is not one YAML document whose top is a mapping, or it grows beyond
            MOST_NODES by its aliases.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError((_syntax_mistake(error, text),)) from error
    except RecursionError as error:
        raise ConfigError((Mistake(line=0, path="", message="nested too deeply"),)) from error
    if root is None:
        return Branch(entries=(), line=1)
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        raise ConfigError((Mistake(line=line, path="", message="must be a mapping of keys"),))
    return _YamlTree(mistakes).branch(root, "", ())


def parse_toml(text: str) -> Branch:
    """Return the tree of a TOML document; it has no line numbers.

    Raises:
        ConfigError: the text is not TOML.
    """
    try:
        found = tomllib.loads(text, parse_float=_Number)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((Mistake(line=0, path="", message=f"not TOML: {error}"),)) from error
    return _toml_branch(found)


def _syntax_mistake(error: yaml.YAMLError, text: str) -> Mistake:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line = error.problem_mark.line + 1
        guilty = text.splitlines()[line - 1 : line]
        # A bare ${NAME} inside {...} is the usual reason: its braces are YAML's own there.
        hint = '; inside {} write "${NAME}" with quotes' if "${" in "".join(guilty) else ""
        message = f"not YAML: {error.problem or error.context}{hint}"
        return Mistake(line=line, path="", message=message)
    reason = str(error).splitlines()[0]
    return Mistake(line=0, path="", message=f"not YAML: {reason}")


class _YamlTree:
    """Turns PyYAML's nodes into ours; an alias that encloses itself is a mistake."""

    def __init__(self, mistakes: Mistakes) -> None:
        self._mistakes = mistakes
        self._nodes = 0

    def node(self, node: yaml.Node, path: str, above: tuple[yaml.Node, ...]) -> Node:
        line = node.start_mark.line + 1
        self._nodes += 1
        if self._nodes > MOST_NODES:
            message = f"its aliases make more than {MOST_NODES:,} values of it"
            raise ConfigError((Mistake(line=line, path="", message=message),))
        if any(node is one for one in above):
            self._mistakes.add(path, "refers to itself", line=line)
            return Leaf(text="", plain=True, line=line)
        if node.tag not in _KNOWN_TAGS:
            self._mistakes.add(path, f"has the unknown tag {node.tag}", line=line)
        match node:
            case yaml.MappingNode():
                return self.branch(node, path, above)
            case yaml.SequenceNode():
                items = tuple(
                    self.node(item, f"{path}[{index}]", (*above, node))
                    for index, item in enumerate(node.value)
                )
                return Items(items=items, line=line)
            case yaml.ScalarNode():
                return Leaf(text=str(node.value), plain=node.style is None, line=line)
            case _:
                raise TypeError(f"PyYAML has a new kind of node: {type(node).__name__}")

    def branch(self, node: yaml.MappingNode, path: str, above: tuple[yaml.Node, ...]) -> Branch:
        own: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                for entry in self._merged(value, path, (*above, node)):
                    merged.setdefault(entry.name, entry)
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._mistakes.add(path, "has a key that is not text", line=line)
                continue
            name = str(key.value)
            where = joined(path, name)
            if name in own:
                self._mistakes.add(where, f"given twice, first in line {own[name].line}", line=line)
                continue
            inner = self.node(value, where, (*above, node))
            own[name] = Entry(name=name, line=line, value=inner)
        entries = {**merged, **own}
        return Branch(entries=tuple(entries.values()), line=node.start_mark.line + 1)

    def _merged(
        self, node: yaml.Node, path: str, above: tuple[yaml.Node, ...]
    ) -> tuple[Entry, ...]:
        """Return what `<<` brings in: a mapping's entries, or those of several in order."""
        match self.node(node, joined(path, "<<"), above):
            case Branch(entries=entries):
                return entries
            case Items(items=items):
                return tuple(
                    entry for item in items if isinstance(item, Branch) for entry in item.entries
                )
            case _:
                self._mistakes.add(path, "<< takes a mapping", line=node.start_mark.line + 1)
                return ()


class _Number(str):
    """A TOML float's text."""

    __slots__ = ()


def _toml_branch(found: Mapping[str, object]) -> Branch:
    entries = tuple(
        Entry(name=name, line=0, value=_toml_node(value)) for name, value in found.items()
    )
    return Branch(entries=entries, line=0)


def _toml_node(value: object) -> Node:
    match value:
        case Mapping():
            return _toml_branch(value)
        case _Number():
            return Leaf(text=str(value), plain=True, line=0)
        case str():
            return Leaf(text=value, plain=False, line=0)
        case Sequence():
            return Items(items=tuple(_toml_node(item) for item in value), line=0)
        case bool():
            return Leaf(text=str(value).lower(), plain=True, line=0)
        case datetime() | date() | time():
            return Leaf(text=value.isoformat(), plain=True, line=0)
        case _:
            return Leaf(text=str(value), plain=True, line=0)
