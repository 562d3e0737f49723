"""What the layout tests look at: the repository's files, and the product's modules."""

import ast
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PRODUCT = ("api", "workers", "scheduler", "shared", "compose")


class Module(NamedTuple):
    """One Python file: its path from the root, its text, its syntax tree."""

    path: str
    text: str
    tree: ast.Module


@cache
def tracked() -> tuple[str, ...]:
    """Return the paths that git keeps or would keep, from the repository's root."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return tuple(sorted(path for path in listed.stdout.split("\0") if (ROOT / path).is_file()))


def module_of(path: str, text: str) -> Module:
    """Return the module that this text makes."""
    return Module(path, text, ast.parse(text, path))


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Return the Python files under these top-level folders."""
    return tuple(
        module_of(path, (ROOT / path).read_text("utf-8"))
        for path in tracked()
        if path.endswith(".py") and path.split("/")[0] in folders
    )


def text_of(path: str) -> str:
    """Return a file's text; nothing for a picture or another file that is not text."""
    try:
        return (ROOT / path).read_text("utf-8")
    except UnicodeDecodeError:
        return ""
