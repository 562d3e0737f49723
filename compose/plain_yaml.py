"""YAML as it was written: scalars stay text, so that nothing changes its meaning on the way.

`off` stays `off` and `2.50` stays `2.50`; quotes stay quotes. Comments are lost.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from shared.config.files import read_files
from shared.config.mistakes import Mistakes
from shared.config.source import Branch, Items, Leaf, Node


class Plain(str):
    """A scalar that stood without quotes: its reader decides whether it is a number or a flag."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    pass


def _plain(dumper: _Dumper, text: Plain) -> yaml.ScalarNode:
    # The tag that a reader will guess: the emitter then adds neither quotes nor a tag.
    tag = dumper.resolve(yaml.ScalarNode, str(text), (True, False))  # type: ignore[no-untyped-call]
    return dumper.represent_scalar(tag, str(text))


_Dumper.add_representer(Plain, _plain)


def read_tree(path: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Return the tree of a YAML or TOML file that is known to be good, its overlay in it."""
    root, _ = read_files(path, env, Mistakes())
    return {entry.name: _found(entry.value) for entry in root.entries}


def _found(node: Node) -> object:
    match node:
        case Branch():
            return {entry.name: _found(entry.value) for entry in node.entries}
        case Items():
            return [_found(item) for item in node.items]
        case Leaf():
            return Plain(node.text) if node.plain else node.text


def tree_text(tree: dict[str, Any]) -> str:
    """Return the YAML of a tree."""
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text
