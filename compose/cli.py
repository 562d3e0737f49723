"""The `sluiceway` command. Every command imports what it needs when it runs."""

import os
import tempfile
from pathlib import Path

import click

from compose.admin import keys
from compose.console import Plain, counted, say, stop
from shared.config.mistakes import ConfigError
from shared.settings import DEFAULT_CONFIG, Settings, load_settings


def _version() -> str:
    from importlib.metadata import version

    return version("sluiceway")


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 (click's own signature)
    if wanted:
        click.echo(f"sluiceway {_version()}")
        context.exit()


@click.group(cls=Plain, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version and leave.",
)
def main() -> None:
    """Run an LLM gateway whose every call can be a durable job.

    `sluiceway dev` starts everything on this machine; api, worker and scheduler are the production
    processes. Settings come from SLUICEWAY_* variables: docs/reference/settings.md.
    """


main.add_command(keys)


@main.command("check-config")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check_config(file: Path | None) -> None:
    """List every mistake in the config FILE, or print what it comes to.

    Without FILE it is the one in SLUICEWAY_CONFIG, else ./sluiceway.yaml. The effective config goes
    to stdout without secrets; notes, warnings and mistakes go to stderr. Exit code 2: mistakes.
    """
    from shared.config.load import load_config
    from shared.config.not_yet import not_yet
    from shared.config.redact import redacted
    from shared.providers.registry import kinds

    path = file or Path(os.environ.get("SLUICEWAY_CONFIG") or DEFAULT_CONFIG)
    if not path.is_file():
        stop((), f"no config file at {path}; name one or set SLUICEWAY_CONFIG")
    try:
        loaded = load_config(path, os.environ, kinds())
    except ConfigError as error:
        lines = (
            ": ".join(part for part in (f"{path}:{one.line}", one.path, one.message) if part)
            for one in error.mistakes
        )
        stop(lines, f"{counted(len(error.mistakes), 'mistake')} in {path}")
    say("note", loaded.notes)
    say("warning", not_yet(loaded.config))
    click.echo(redacted(loaded.config), nl=False)
    click.echo(f"{path} is fine", err=True)


@main.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 2 when behind.")
def migrate(*, check: bool) -> None:
    """Bring the database to the newest schema."""
    from shared.store.schema import is_current
    from shared.store.schema import migrate as upgrade

    url = load_settings(os.environ).database_url
    if check:
        if not is_current(url):
            stop((), "the database is behind; run: sluiceway migrate")
        click.echo("the database has the newest schema")
        return
    applied = upgrade(url)
    for revision in applied:
        click.echo(f"applied {revision}")
    if not applied:
        click.echo("the database already had the newest schema")


@main.command()
@click.option("--host", help="Address to listen on (SLUICEWAY_HOST).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (SLUICEWAY_PORT).")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--grace", type=click.FloatRange(0, 3600), help="Seconds to end calls when stopped.")
@click.pass_context
def api(
    context: click.Context,
    host: str | None,
    port: int | None,
    processes: int,
    grace: float | None,
) -> None:
    """Serve the HTTP API."""
    if processes > 1:
        _share_metrics(context)
    settings = _started()
    from api.main import GRACE_S, run

    try:
        code = run(
            host=host,
            port=port,
            processes=processes,
            grace_s=GRACE_S if grace is None else grace,
        )
    except OSError as error:
        where = f"{host or settings.host}:{settings.port if port is None else port}"
        stop((), f"cannot listen on {where}: {error.strerror or error}; try --port", code=1)
    raise click.exceptions.Exit(code)


@main.command()
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--slots", type=click.IntRange(1, 100_000), help="Calls at once, per process.")
@click.option("--grace", type=click.FloatRange(0, 3600), help="Seconds to end calls when stopped.")
def worker(processes: int, slots: int | None, grace: float | None) -> None:
    """Run jobs and deliver webhooks."""
    _started()
    from workers.main import GRACE_S, SLOTS, run

    code = run(
        processes=processes,
        slots=SLOTS if slots is None else slots,
        grace_s=GRACE_S if grace is None else grace,
    )
    raise click.exceptions.Exit(code)


@main.command()
def scheduler() -> None:
    """Close spend windows, expire jobs, ring for what is due."""
    _started()
    from scheduler.main import run

    raise click.exceptions.Exit(run())


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".sluiceway"),
    show_default=True,
    help="Where the database, keys and logs stay.",
)
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="A config file.")
@click.option("--tour", is_flag=True, help="Show what it can do, then keep serving.")
def dev(port: int, data_dir: Path, config: Path | None, *, tour: bool) -> None:
    """Run the whole stack on this machine, with nothing to install."""
    if config is not None and not config.is_file():
        stop((), f"no config file at {config}")
    from compose.dev import run

    raise click.exceptions.Exit(run(port=port, data_dir=data_dir, config=config, tour=tour))


def _started() -> Settings:
    """Return a process's settings with its logs set up and its weak spots told.

    Raises:
        SettingsError, ConfigError: the process must not start like this.
    """
    from shared.config.not_yet import not_yet
    from shared.runtime import read_config
    from shared.telemetry.log import configure_logging, get_logger, wants_console
    from shared.telemetry.metrics import BUILD_INFO

    settings = load_settings(os.environ)
    configure_logging(level=settings.log_level, console=wants_console(settings.environment))
    loaded = read_config(settings)
    log = get_logger("start")
    for note in (*settings.notes, *loaded.notes, *not_yet(loaded.config)):
        log.warning("start.note", note=note)
    BUILD_INFO.labels(_version()).set(1)
    return settings


def _share_metrics(context: click.Context) -> None:
    """Have the processes to come keep their numbers where each of them can add them up.

    Must come before anything imports prometheus-client, which looks for the variable only then.
    """
    variable = "PROMETHEUS_MULTIPROC_DIR"
    if variable not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="sluiceway-metrics-")
        os.environ[variable] = context.with_resource(folder)


if __name__ == "__main__":
    main()
