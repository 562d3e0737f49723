"""What is wrong with a config file, said so that the line can be found and mended."""

import difflib
import re
from collections.abc import Iterable

import msgspec
from typing_extensions import override

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to mend. `line` counts from 1 and is 0 where none is known; `path` may be empty."""

    line: int
    path: str
    message: str

    @override
    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.message}" + (f" (line {self.line})" if self.line else "")


class ConfigError(Exception):
    """The file cannot be used; `mistakes` lists every reason, in the order of the lines."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("; ".join(map(str, mistakes)))
        self.mistakes = mistakes


class Mistakes:
    """Collects mistakes; the first one of a path stands, later ones would only repeat it."""

    def __init__(self) -> None:
        self._found: dict[str, Mistake] = {}
        self._lines: dict[str, int] = {}
        self._unreadable: set[str] = set()

    def place(self, path: str, line: int) -> None:
        """Remember where a path stands in the file."""
        self._lines.setdefault(path, line)

    def unreadable(self, path: str, message: str) -> None:
        """Note a mistake that leaves nothing inside the path to complain about."""
        self.add(path, message)
        self._unreadable.add(path)

    def add(self, path: str, message: str, *, line: int | None = None) -> None:
        """Note a mistake; without `line` it is that of the path or of what encloses it."""
        if any(_inside(path, one) for one in self._unreadable):
            return
        found = Mistake(
            line=self._line_of(path) if line is None else line, path=path, message=message
        )
        self._found.setdefault(path, found)

    def below(self, path: str) -> bool:
        """Return whether anything at the path or inside it is wrong."""
        return any(found == path or _inside(found, path) for found in self._found)

    def listed(self) -> tuple[Mistake, ...]:
        """Return all mistakes in the order of the lines."""
        return tuple(sorted(self._found.values(), key=lambda mistake: mistake.line))

    def _line_of(self, path: str) -> int:
        while path and path not in self._lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._lines.get(path, 0)


def _inside(path: str, outer: str) -> bool:
    return path.startswith((f"{outer}.", f"{outer}["))


def joined(path: str, key: str) -> str:
    """Return the path of a key below `path`; unusual keys stand in brackets and quotes."""
    if _PLAIN_KEY.fullmatch(key) is None:
        return f'{path}["{key}"]'
    return f"{path}.{key}" if path else key


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean "..."?` for the known word that looks most alike, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""
