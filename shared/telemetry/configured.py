"""The secrets that this process was given: they never reach a logged body."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from shared.config.section import Section, secret_fields
from shared.settings import Secret, Settings

LEAST_CHARACTERS = 8
"""A shorter one (`none`, say, for a server without keys) would take common words with it."""


def configured_secrets(config: Section, settings: Settings | None = None) -> tuple[str, ...]:
    """Return every secret of the file and the environment, the longest first.

    Passwords inside URLs count, and keys that a URL holds as a whole.
    """
    found = set(_of_section(config))
    if settings is not None:
        found |= set(_of_settings(settings))
    return tuple(
        sorted(
            (secret for secret in found if len(secret) >= LEAST_CHARACTERS),
            key=lambda secret: (-len(secret), secret),
        )
    )


def _of_section(section: Section) -> Iterator[str]:
    hidden = secret_fields(type(section))
    for name in section.__struct_fields__:
        yield from _of_value(getattr(section, name), hidden=name in hidden)


def _of_value(value: object, *, hidden: bool) -> Iterator[str]:
    match value:
        case Section():
            yield from _of_section(value)
        case str():
            if hidden:
                yield value
            yield from _password(value)
        case dict():
            for inner in value.values():
                yield from _of_value(inner, hidden=hidden)
        case tuple() | list():
            for inner in value:
                yield from _of_value(inner, hidden=hidden)
        case _:
            pass


def _of_settings(settings: Settings) -> Iterator[str]:
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, Secret):
            yield value.reveal()
        elif isinstance(value, str):
            yield from _password(value)


def _password(text: str) -> Iterator[str]:
    if "://" not in text:
        return
    try:
        password = urlsplit(text).password
    except ValueError:
        return
    if password:
        yield password
