"""How commands speak: results on stdout, everything else on stderr in plain words."""

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import click
from typing_extensions import override

from shared.config.mistakes import ConfigError
from shared.errors import GatewayError, StoreUnavailable
from shared.settings import SettingsError

MISCONFIGURED = 2
"""The exit code of whatever a person must mend first: settings, config file, schema."""

FAILED = 1


class Plain(click.Group):
    """A group whose commands end in a sentence, not in a traceback, when a known thing fails."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            stop(error.mistakes, f"{counted(len(error.mistakes), 'mistake')} in the environment")
        except ConfigError as error:
            mistakes = error.mistakes
            stop(map(str, mistakes), f"{counted(len(mistakes), 'mistake')} in the config file")
        except StoreUnavailable as error:
            stop((), f"{error.message}; is SLUICEWAY_DATABASE_URL right?", code=FAILED)
        except GatewayError as error:
            stop((), error.message)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None


def stop(lines: Iterable[str], last: str, *, code: int = MISCONFIGURED) -> NoReturn:
    """Print the lines and the last word on stderr and leave the command with that exit code."""
    for line in lines:
        click.echo(line, err=True)
    click.echo(f"sluiceway: {last}", err=True)
    raise click.exceptions.Exit(code)


def say(kind: str, lines: Iterable[str]) -> None:
    """Print each line on stderr after its kind: `note: ...`."""
    for line in lines:
        click.echo(f"{kind}: {line}", err=True)


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of equal length on stdout, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def counted(count: int, word: str) -> str:
    """Return `1 mistake`, `2 mistakes`."""
    return f"{count} {word}" + ("" if count == 1 else "s")
