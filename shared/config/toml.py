"""TOML as the tree that YAML becomes, with its lines. Pure.

`tomllib` reads the values and refuses what is no TOML, but forgets the lines: a second, simple
pass over the text, which is known to be good by then, finds them.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time

from shared.config.mistakes import ConfigError, Mistake, Place
from shared.config.source import Branch, Entry, Items, Leaf, Node
from shared.config.syntax import toml_mistake

Steps = tuple[str | int, ...]
"""The way to a value: keys of tables and indices of lists."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|'
    r"'''.*?'{3,5}|"
    r'"(?:\\.|[^"\\\n])*"|'
    r"'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]*")
_BETWEEN = re.compile(r"[ \t]*\.[ \t]*")


class _Number(str):
    """A TOML float's text."""

    __slots__ = ()


def parse_toml(text: str, file: str = "") -> Branch:
    """Return the tree of a TOML document.

    Raises:
        ConfigError: the text is not TOML.
    """
    try:
        found = tomllib.loads(text, parse_float=_Number)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((toml_mistake(error, text, file),)) from error
    except RecursionError as error:
        raise ConfigError((Mistake(file=file, message="nested too deeply"),)) from error
    return _Tree(file, _Lines(text).found).branch(found, ())


class _Tree:
    """Puts the lines to the values."""

    def __init__(self, file: str, lines: Mapping[Steps, int]) -> None:
        self._file = file
        self._lines = lines

    def branch(self, found: Mapping[str, object], steps: Steps) -> Branch:
        entries = (
            Entry(name=name, at=self._at((*steps, name)), value=self.node(value, (*steps, name)))
            for name, value in found.items()
        )
        return Branch(entries=tuple(entries), at=self._at(steps))

    def node(self, value: object, steps: Steps) -> Node:
        at = self._at(steps)
        match value:
            case Mapping():
                return self.branch(value, steps)
            case _Number():
                return Leaf(text=str(value), plain=True, at=at)
            case str():
                return Leaf(text=value, plain=False, at=at)
            case Sequence():
                items = (self.node(item, (*steps, index)) for index, item in enumerate(value))
                return Items(items=tuple(items), at=at)
            case bool():
                return Leaf(text=str(value).lower(), plain=True, at=at)
            case datetime() | date() | time():
                return Leaf(text=value.isoformat(), plain=True, at=at)
            case _:
                return Leaf(text=str(value), plain=True, at=at)

    def _at(self, steps: Steps) -> Place:
        while steps and steps not in self._lines:
            steps = steps[:-1]
        return Place(self._file, self._lines.get(steps, 1))


class _Lines:
    """Walks through a good document and notes the line of every key and every item."""

    def __init__(self, text: str) -> None:
        self.found: dict[Steps, int] = {}
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._tables: dict[Steps, int] = {}
        """How many tables each [[list]] has so far."""
        above: Steps = ()
        self._skip()
        while self._at < len(self._text):
            if self._text.startswith("[", self._at):
                above = self._header()
            else:
                self._pair(above)
            self._skip()

    def _header(self) -> Steps:
        """Read `[a.b]` or `[[a.b]]` and return what stands below it."""
        depth = 2 if self._text.startswith("[[", self._at) else 1
        self._at += depth
        *outer, last = self._keys()
        steps: Steps = ()
        for name in outer:
            steps = self._down(steps, name)
        if depth == 1:
            self._note((*steps, last))
            steps = self._down(steps, last)
        else:
            steps = (*steps, last)
            self._note(steps)
            index = self._tables.get(steps, 0)
            self._tables[steps] = index + 1
            steps = (*steps, index)
            self._note(steps)
        self._at += depth
        return steps

    def _down(self, steps: Steps, name: str) -> Steps:
        """Return one step further; a name of tables in a list means the last of them."""
        steps = (*steps, name)
        return (*steps, self._tables[steps] - 1) if steps in self._tables else steps

    def _pair(self, above: Steps) -> None:
        start = self._at
        keys = self._keys()
        for depth in range(1, len(keys) + 1):
            self._note((*above, *keys[:depth]), start)
        self._at += 1  # =
        self._value((*above, *keys))

    def _keys(self) -> tuple[str, ...]:
        """Read `a."b c".d` and the blanks around it."""
        names: list[str] = []
        self._skip()
        while True:
            if quoted := _STRING.match(self._text, self._at):
                names.append(str(tomllib.loads(f"key = {quoted[0]}")["key"]))
                self._at = quoted.end()
            elif bare := _BARE.match(self._text, self._at):
                names.append(bare[0])
                self._at = bare.end()
            between = _BETWEEN.match(self._text, self._at)
            if between is None:
                break
            self._at = between.end()
        self._skip()
        return tuple(names)

    def _value(self, steps: Steps) -> None:
        self._skip()
        self._note(steps)
        if string := _STRING.match(self._text, self._at):
            self._at = string.end()
        elif self._text[self._at] in "[{":
            self._enclosed(steps)
        elif scalar := _SCALAR.match(self._text, self._at):
            self._at = scalar.end()

    def _enclosed(self, steps: Steps) -> None:
        """Read `[...]` or `{...}`."""
        last = {"[": "]", "{": "}"}[self._text[self._at]]
        self._at += 1
        self._skip()
        index = 0
        while not self._text.startswith(last, self._at):
            if last == "}":
                self._pair(steps)
            else:
                self._value((*steps, index))
            index += 1
            self._skip()
            if self._text.startswith(",", self._at):
                self._at += 1
                self._skip()
        self._at += 1

    def _note(self, steps: Steps, at: int | None = None) -> None:
        place = self._at if at is None else at
        self.found.setdefault(steps, self._text.count("\n", 0, place) + 1)

    def _skip(self) -> None:
        """Go on to what is neither blank nor a comment."""
        if blank := _BLANK.match(self._text, self._at):
            self._at = blank.end()
