"""The file's text as a tree that still knows its lines, before anything is given a meaning.

Scalars stay text, so that `2.5` never becomes a float and `off` never a flag before the schema
says what it is.
"""

from contextlib import suppress

import msgspec
import yaml

from shared.config.mistakes import ConfigError, Mistake, Mistakes, Place, joined
from shared.config.syntax import yaml_mistake

_KNOWN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value")
)
NULLS = frozenset({"", "~", "null"})
"""How a plain scalar says that there is nothing, whatever the case of its letters."""


MOST_NODES = 100_000
"""Values in a file, each alias counted as often as it is used; nine levels of aliases are 10^9."""
MOST_DEEP = 50
"""Levels that the fast parser is trusted with; more are no config, and are told so by the other."""


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """A scalar; `plain` when it stood without quotes and so may be a number or a flag."""

    text: str
    plain: bool
    at: Place

    @property
    def is_null(self) -> bool:
        """Whether it stands for nothing."""
        return self.plain and self.text.lower() in NULLS


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """A list."""

    items: tuple["Node", ...]
    at: Place


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A key and what stands beside it."""

    name: str
    at: Place
    value: "Node"


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping; no name occurs twice."""

    entries: tuple[Entry, ...]
    at: Place

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


def parse_yaml(
    text: str, mistakes: Mistakes, file: str = "", *, fast: bool = yaml.__with_libyaml__
) -> Branch:
    """Return the document's tree; repeated keys and unknown tags are noted as mistakes.

    With libyaml, as PyYAML mostly has it, it is `fast`: ten times so, but its errors say less.

    Raises:
        ConfigError: the text is not one YAML document whose top is a mapping, or it grows beyond
            MOST_NODES by its aliases.
    """
    try:
        root = _composed(text, fast=fast)
    except yaml.YAMLError as error:
        raise ConfigError((yaml_mistake(error, text, file),)) from error
    except RecursionError as error:
        raise ConfigError((Mistake(file=file, message="nested too deeply"),)) from error
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
        return Branch(entries=(), at=Place(file, 1))
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        message = "must be a mapping of keys, such as `version: 1`"
        raise ConfigError((Mistake(file=file, line=line, message=message),))
    return _YamlTree(mistakes, file).branch(root, "", ())


def _composed(text: str, *, fast: bool) -> yaml.Node | None:
    """Parse, and what libyaml refuses once more in Python: for the error."""
    if fast:
        with suppress(yaml.YAMLError):
            if _depth(text) <= MOST_DEEP:
                return yaml.compose(text, Loader=yaml.CSafeLoader)
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _depth(text: str) -> int:
    """Return how deep a document nests: libyaml's composer has no limit but the stack."""
    depth = most = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            most = max(most, depth)
            if most > MOST_DEEP:
                break
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return most


class _YamlTree:
    """Turns PyYAML's nodes into ours; an alias that encloses itself is a mistake."""

    def __init__(self, mistakes: Mistakes, file: str) -> None:
        self._mistakes = mistakes
        self._file = file
        self._nodes = 0

    def node(self, node: yaml.Node, path: str, above: tuple[yaml.Node, ...]) -> Node:
        at = self._at(node)
        self._nodes += 1
        if self._nodes > MOST_NODES:
            message = f"its aliases make more than {MOST_NODES:,} values of it"
            raise ConfigError((Mistake(file=at.file, line=at.line, message=message),))
        if any(node is one for one in above):
            self._mistakes.add(path, "refers to itself", at=at)
            return Leaf(text="", plain=True, at=at)
        if node.tag not in _KNOWN_TAGS:
            self._mistakes.add(path, f"has the unknown tag {node.tag}", at=at)
        match node:
            case yaml.MappingNode():
                return self.branch(node, path, above)
            case yaml.SequenceNode():
                items = tuple(
                    self.node(item, f"{path}[{index}]", (*above, node))
                    for index, item in enumerate(node.value)
                )
                return Items(items=items, at=at)
            case yaml.ScalarNode():
                return Leaf(text=str(node.value), plain=not node.style, at=at)
            case _:
                raise TypeError(f"PyYAML has a new kind of node: {type(node).__name__}")

    def branch(self, node: yaml.MappingNode, path: str, above: tuple[yaml.Node, ...]) -> Branch:
        own: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key, value in node.value:
            at = self._at(key)
            if key.tag == "tag:yaml.org,2002:merge":
                for entry in self._merged(value, path, (*above, node)):
                    merged.setdefault(entry.name, entry)
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._mistakes.add(path, "has a key that is not text", at=at)
                continue
            name = str(key.value)
            where = joined(path, name)
            if name in own:
                self._mistakes.add(where, f"given twice, first in line {own[name].at.line}", at=at)
                continue
            inner = self.node(value, where, (*above, node))
            own[name] = Entry(name=name, at=at, value=inner)
        entries = {**merged, **own}
        return Branch(entries=tuple(entries.values()), at=self._at(node))

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
                self._mistakes.add(path, "<< takes a mapping", at=self._at(node))
                return ()

    def _at(self, node: yaml.Node) -> Place:
        return Place(self._file, node.start_mark.line + 1)
