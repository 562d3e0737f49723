"""What is wrong with a config file, said so that the line can be found and mended."""

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from typing_extensions import override

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Place(NamedTuple):
    """Where something stands; `file` is empty for a text that is in none, line 0 is unknown."""

    file: str
    line: int


NOWHERE = Place("", 0)


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to mend. `line` counts from 1 and is 0 where none is known; `path` may be empty."""

    file: str = ""
    line: int = 0
    path: str = ""
    message: str

    @override
    def __str__(self) -> str:
        told = f"{self.path}: {self.message}" if self.path else self.message
        if not self.file:
            return told + (f" (line {self.line})" if self.line else "")
        return f"{self.file}:{self.line}: {told}" if self.line else f"{self.file}: {told}"


class ConfigError(Exception):
    """The file cannot be used; `mistakes` lists every reason, in the order of the lines."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("; ".join(map(str, mistakes)))
        self.mistakes = mistakes


class Mistakes:
    """Collects mistakes; the first one of a path stands, later ones would only repeat it."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Mistake] = {}
        self._places: dict[str, Place] = {}
        self._unreadable: set[str] = set()
        self._excused: set[str] = set()
        self._files: list[str] = []

    def reads(self, file: str) -> None:
        """Remember that a file follows; its mistakes are told after those of the files before."""
        self._files.append(file)

    def place(self, path: str, at: Place) -> None:
        """Remember where a path stands."""
        self._places.setdefault(path, at)

    def unreadable(self, path: str, message: str) -> None:
        """Note a mistake that leaves nothing inside the path to complain about."""
        self.add(path, message)
        self._unreadable.add(path)

    def excuse(self, path: str) -> None:
        """Add nothing more at the path: what is missing there stands beside it, misspelt."""
        self._excused.add(path)

    def add(self, path: str, message: str, *, at: Place | None = None) -> None:
        """Note a mistake; without `at` it stands where the path does, or what encloses it."""
        if path in self._excused or any(_inside(path, one) for one in self._unreadable):
            return
        file, line = self._place_of(path) if at is None else at
        found = Mistake(file=file, line=line, path=path, message=message)
        self._found.setdefault((file, path), found)

    def spot(self, path: str) -> str:
        """Return a path with its line, for a sentence."""
        file, line = self._place_of(path)
        if not line:
            return path
        return f"{path} in line {line}" + (f" of {file}" if len(self._files) > 1 else "")

    def below(self, path: str) -> bool:
        """Return whether anything at the path or inside it is wrong."""
        return any(found == path or _inside(found, path) for _, found in self._found)

    def listed(self) -> tuple[Mistake, ...]:
        """Return all mistakes in the order of the files and their lines."""
        order = {file: number for number, file in enumerate(self._files)}
        found = self._found.values()
        return tuple(sorted(found, key=lambda one: (order.get(one.file, 0), one.line)))

    def _place_of(self, path: str) -> Place:
        while path and path not in self._places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._places.get(path, NOWHERE)


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


def suggested(word: str, known: Iterable[str], *, most: int = 20) -> str:
    """Return the known word that looks most alike, or all of them if none does."""
    words = list(known)
    more = f" and {len(words) - most} more" if len(words) > most else ""
    listed = f"; known are {', '.join(words[:most])}{more}" if words else ""
    return nearest(word, words) or listed
