"""The effective config as YAML for people, without a single secret. Pure."""

import re

import msgspec
import yaml

from shared.config.model import Config
from shared.config.section import HIDDEN, Section, secret_fields

_USER_INFO = re.compile(r"(://)[^/\s@]+(?=@)")
_QUERY_VALUE = re.compile(r"([?&][^=&#\s]+=)[^&#\s]+")
_SECRET_NAME = re.compile(
    r"token|secret|passw|pwd|credential|authorization|signature|cookie|bearer"
    r"|(^|[_-])(api|access|private)?[_-]?key$|apikey$|(^|[_-])(auth|sig)$",
    re.IGNORECASE,
)
"""Names in free mappings (`params`) that stand for secrets; their numbers are shown, as those of
`max_tokens` are."""


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
            return {
                str(name): HIDDEN if _is_secret(str(name), inner) else _shown(inner)
                for name, inner in value.items()
            }
        case tuple() | list():
            return [_shown(inner) for inner in value]
        case str():
            return _in_text(value)
        case _:
            return msgspec.to_builtins(value)


def _is_secret(name: str, value: object) -> bool:
    """Return whether a free mapping's value is one; a section hides its own secrets."""
    open_to_all = isinstance(value, Section | int | float | None)
    return not open_to_all and _SECRET_NAME.search(name) is not None


def _in_text(text: str) -> str:
    """Return the text without user info and query values of a URL: both carry keys."""
    if "://" not in text:
        return text
    return _QUERY_VALUE.sub(rf"\1{HIDDEN}", _USER_INFO.sub(rf"\1{HIDDEN}", text))


def _hidden(value: object) -> object:
    if isinstance(value, dict):
        return dict.fromkeys(value, HIDDEN)
    return HIDDEN
