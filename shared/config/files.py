"""The config file, and the one that SLUICEWAY_ENV lays over it."""

import re
from collections.abc import Mapping
from pathlib import Path

from shared.config.mistakes import ConfigError, Mistake, Mistakes, suggested
from shared.config.overlay import overlaid
from shared.config.source import Branch, parse_yaml
from shared.config.toml import parse_toml

ENV = "SLUICEWAY_ENV"
SUFFIXES = (".yaml", ".yml", ".toml")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def read_files(
    path: Path, env: Mapping[str, str], mistakes: Mistakes
) -> tuple[Branch, tuple[Path, ...]]:
    """Return the tree of the file with its overlay in it, and the files read, base first.

    Raises:
        ConfigError: a file is missing, cannot be read, or is neither YAML nor TOML.
    """
    files = config_files(path, env)
    trees: list[Branch] = []
    broken: list[Mistake] = []
    for file in files:
        mistakes.reads(str(file))
        try:
            trees.append(_tree(file, mistakes))
        except ConfigError as error:
            broken += error.mistakes
    if broken:
        raise ConfigError(tuple(broken))
    root, *above = trees
    for tree in above:
        root = overlaid(root, tree, mistakes)
    return root, files


def config_files(path: Path, env: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the file and its overlay: `sluiceway.production.yaml` for SLUICEWAY_ENV=production.

    The overlay lies beside the file and is YAML or TOML, whatever the file itself is.

    Raises:
        ConfigError: the variable is set and there is not exactly one such file.
    """
    name = env.get(ENV, "").strip()
    if not name:
        return (path,)
    if _NAME.fullmatch(name) is None:
        raise _refused(path, "must be letters, digits, - or _, as they stand in a file's name")
    found = [one for suffix in SUFFIXES if (one := _beside(path, name, suffix)).is_file()]
    if not found:
        hint = suggested(name, sorted(_names(path)))
        wanted = _beside(path, name, path.suffix or SUFFIXES[0]).name
        raise _refused(path, f'is "{name}", and there is no {wanted} beside this file{hint}')
    if len(found) > 1:
        both = " and ".join(one.name for one in found)
        raise _refused(path, f'is "{name}", and only one may be there of {both}')
    return (path, found[0])


def overlay_of(path: Path) -> tuple[Path, str] | None:
    """Return the file that this one is an overlay of, and the environment, or None."""
    stem, dot, name = path.stem.rpartition(".")
    bases = (path.with_name(stem + suffix) for suffix in SUFFIXES) if dot and stem else ()
    return next(((base, name) for base in bases if base.is_file()), None)


def _beside(path: Path, name: str, suffix: str) -> Path:
    return path.with_name(f"{path.stem}.{name}{suffix}")


def _names(path: Path) -> set[str]:
    """Return the environments that have an overlay."""
    if not path.parent.is_dir():
        return set()
    return {
        one.stem.removeprefix(f"{path.stem}.")
        for one in path.parent.iterdir()
        if one.suffix in SUFFIXES and one.stem.startswith(f"{path.stem}.")
    }


def _refused(path: Path, why: str) -> ConfigError:
    return ConfigError((Mistake(file=str(path), message=f"{ENV} {why}"),))


def _tree(path: Path, mistakes: Mistakes) -> Branch:
    text, file = _text_of(path), str(path)
    if path.suffix.lower() == ".toml":
        return parse_toml(text, file)
    return parse_yaml(text, mistakes, file)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        why = f"cannot be read: {error.strerror or type(error).__name__}"
    except UnicodeDecodeError:
        why = "is not UTF-8 text"
    raise ConfigError((Mistake(file=str(path), message=why),))
