"""The effective config as YAML for people, without a single secret. Pure."""

import re

import msgspec
import yaml

from shared.config.model import HIDDEN, Config, Section, secret_fields

_USER_INFO = re.compile(r"(://)[^/\s@]+(?=@)")


def redacted(config: Config) -> str:
    """Return the config with all defaults filled in, as YAML; secrets read `[hidden]`.

    Keys that are None or empty are left out. The text is for reading: it does not load again.
    """
    return yaml.safe_dump(_shown(config), sort_keys=False, allow_unicode=True, width=100)


def _shown(value: object) -> object:
    match value:
        case Section():
            hidden = secret_fields(type(value))
            fields = ((name, getattr(value, name)) for name in value.__struct_fields__)
            return {
                name: _hidden(inner) if name in hidden else _shown(inner)
                for name, inner in fields
                if inner is not None and inner not in ((), {})
            }
        case dict():
            return {str(name): _shown(inner) for name, inner in value.items()}
        case tuple() | list():
            return [_shown(inner) for inner in value]
        case str():
            return _USER_INFO.sub(rf"\1{HIDDEN}", value)
        case _:
            return msgspec.to_builtins(value)


def _hidden(value: object) -> object:
    if isinstance(value, dict):
        return dict.fromkeys(value, HIDDEN)
    return HIDDEN
