"""YAML as it was written: scalars stay text, so that nothing changes its meaning on the way.

`off` stays `off` and `2.50` stays `2.50`; quotes stay quotes. Comments are lost.
"""

import tomllib
from pathlib import Path
from typing import Any

import yaml


class Plain(str):
    """A scalar that stood without quotes: its reader decides whether it is a number or a flag."""

    __slots__ = ()


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    pass


def _scalar(_loader: _Loader, node: yaml.ScalarNode) -> str:
    return Plain(node.value) if node.style is None else str(node.value)


def _plain(dumper: _Dumper, text: Plain) -> yaml.ScalarNode:
    # The tag that a reader will guess: the emitter then adds neither quotes nor a tag.
    tag = dumper.resolve(yaml.ScalarNode, str(text), (True, False))  # type: ignore[no-untyped-call]
    return dumper.represent_scalar(tag, str(text))


for _kind in ("str", "int", "float", "bool", "null", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _scalar)
_Dumper.add_representer(Plain, _plain)


def read_tree(path: Path) -> dict[str, Any]:
    """Return the tree of a YAML or TOML file that is known to be well formed."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        return tomllib.loads(text, parse_float=Plain)
    tree = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    return tree if isinstance(tree, dict) else {}


def tree_text(tree: dict[str, Any]) -> str:
    """Return the YAML of a tree."""
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text
