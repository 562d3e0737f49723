"""`load_config`: the file's text to a checked Config, or every mistake in it at once."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from shared.config.advice import advice
from shared.config.checks import check
from shared.config.conduct import CLASS_WEIGHTS, QueueConfig
from shared.config.convert import Converter
from shared.config.defaults import with_defaults
from shared.config.expand import expand
from shared.config.files import read_files
from shared.config.kinds import Kinds
from shared.config.mistakes import ConfigError, Mistakes, joined
from shared.config.model import Config
from shared.config.prune import without_disabled
from shared.config.source import Branch, Items, Leaf, Node, parse_yaml

_TRUE = frozenset({"true", "yes", "on"})


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A config that holds together, and plain sentences on what was left out or looks wrong.

    `files` are those it was read from, the base first.
    """

    config: Config
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def load_config(source: str | Path, env: Mapping[str, str], kinds: Kinds) -> Loaded:
    """Return the config of a file (Path) or of YAML text (str).

    `kinds` are the provider kinds that exist, with what each needs. A Path that ends in `.toml` is
    read as TOML; with SLUICEWAY_ENV in `env` the overlay beside it is laid over it. Optional
    providers whose variables are unset are dropped and listed in `Config.disabled`, with what only
    they could serve.

    Raises:
        ConfigError: with every mistake found.
    """
    mistakes = Mistakes()
    if isinstance(source, Path):
        root, files = read_files(source, env, mistakes)
    else:
        root, files = parse_yaml(source, mistakes), ()
    disabled = dict(_disabled(root, env))
    quiet = frozenset(joined("providers", name) for name in disabled)
    converter = Converter(env, mistakes, quiet=quiet)
    config = converter.section(with_defaults(root, converter, mistakes), Config, "")
    check(config, kinds, mistakes, disabled=disabled)
    if found := mistakes.listed():
        raise ConfigError(found)
    config = msgspec.structs.replace(config, defaults={}, queue=_whole_queue(config.queue))
    config, notes = without_disabled(config, disabled)
    return Loaded(config=config, notes=(*notes, *advice(config, kinds)), files=files)


def _disabled(root: Branch, env: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each optional provider that lacks a variable, with the names of those it lacks."""
    providers = root.get("providers")
    if not isinstance(providers, Branch):
        return
    for entry in providers.entries:
        optional = entry.value.get("optional") if isinstance(entry.value, Branch) else None
        if not isinstance(optional, Leaf):
            continue
        if expand(optional.text, env).text.lower() not in _TRUE:
            continue
        unset = tuple(dict.fromkeys(_unset(entry.value, env)))
        if unset:
            yield entry.name, unset


def _unset(node: Node, env: Mapping[str, str]) -> Iterator[str]:
    match node:
        case Leaf():
            yield from expand(node.text, env).unset
        case Items():
            for item in node.items:
                yield from _unset(item, env)
        case Branch():
            for entry in node.entries:
                yield from _unset(entry.value, env)


def _whole_queue(queue: QueueConfig) -> QueueConfig:
    # A class without a share would never be served.
    return msgspec.structs.replace(queue, classes={**CLASS_WEIGHTS, **queue.classes})
