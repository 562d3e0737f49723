"""The conformance page: its sentences are written by hand, its last column is made from the tests.

`python -m tests.layout.conformance` writes it.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from tests.layout.sources import ROOT, Module, modules, text_of, tracked

PAGE = "docs/reference/conformance.md"
LAST = 196
MOST_NOT_SHOWN = 10
MOST_NAMED = 3
"""Tests named in a row; the others are counted."""

MARK = "pytest.mark.behaviour"
_ROW = re.compile(r"^\| (\d+) \| (.*) \|[^|]*\|$")
_EXCUSE = re.compile(r"^\| (\d+) \| ([^|]+) \|$")


def shown(found: Iterable[Module]) -> Iterator[tuple[int, str, str]]:
    """Yield a number, the path and the name of what carries its mark; 0 for a mark without one."""
    for module in found:
        for statement in module.tree.body:
            for name, node in _named(statement):
                for number in _numbers(node):
                    yield number, module.path, name


def shown_by_data(cases: Mapping[str, str]) -> Iterator[tuple[int, str, str]]:
    """Yield the same for golden cases, by path and text."""
    for path, text in cases.items():
        for number in json.loads(text).get("behaviours", ()):
            yield number, path, PurePosixPath(path).stem


def evidence() -> dict[int, list[tuple[str, str]]]:
    """Return path and name of everything that shows a behaviour, by number, in the tree's order."""
    golden = {
        path: text_of(path)
        for path in tracked()
        if path.startswith("tests/golden/") and path.endswith(".json")
    }
    found: dict[int, list[tuple[str, str]]] = {}
    for number, path, name in (*shown(modules("tests")), *shown_by_data(golden)):
        entries = found.setdefault(number, [])
        if (path, name) not in entries:
            entries.append((path, name))
    return found


def numbered(page: str) -> dict[int, str]:
    """Return the sentences of the page by their numbers."""
    return {int(match[1]): match[2] for match in map(_ROW.match, page.splitlines()) if match}


def excused(page: str) -> dict[int, str]:
    """Return why a behaviour is not shown, by number: the rows of two cells."""
    return {int(match[1]): match[2] for match in map(_EXCUSE.match, page.splitlines()) if match}


def filled(page: str, found: Mapping[int, list[tuple[str, str]]]) -> str:
    """Return the page with its last column made anew."""
    lines = []
    for line in page.splitlines():
        match = _ROW.match(line)
        if match:
            line = f"| {match[1]} | {match[2]} | {_cell(found.get(int(match[1]), ()))}|"  # noqa: PLW2901
        lines.append(line)
    return "\n".join(lines) + "\n"


def _cell(entries: Iterable[tuple[str, str]]) -> str:
    entries = list(entries)
    links = [f"[{name}](../../{path})" for path, name in entries[:MOST_NAMED]]
    more = len(entries) - MOST_NAMED
    text = ", ".join(links) + (f" and {more} more" if more > 0 else "")
    return f"{text} " if text else ""


def _named(statement: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    """Yield the test functions, classes and tables in which marks may stand, by name."""
    match statement:
        case ast.ClassDef(name=name, body=body, decorator_list=decorators):
            yield from ((name, decorator) for decorator in decorators)
            for inner in body:
                yield from ((f"{name}.{inside}", node) for inside, node in _named(inner))
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name, statement
        case ast.Assign(targets=[ast.Name(id=name)]):
            yield name, statement
        case _:
            yield "module", statement


def _numbers(node: ast.AST) -> Iterator[int]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and MARK == ast.unparse(call.func):
            yield from [
                argument.value
                if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
                else 0
                for argument in call.args
            ] or [0]


if __name__ == "__main__":
    (ROOT / PAGE).write_text(filled(text_of(PAGE), evidence()), encoding="utf-8")
