"""The `sluiceway` command. Every command imports what it needs when it runs."""

import gc
import os
from pathlib import Path

import click

from compose.admin import keys
from compose.alerts import alerts
from compose.budgets import budgets
from compose.console import Plain, counted, say, stop
from compose.ledger import ledger
from compose.operate import jobs, queue, workers
from compose.usage import usage
from shared.config.mistakes import ConfigError
from shared.settings import DEFAULT_CONFIGS, Settings, SettingsError, default_config, load_settings

GC_ALLOCATIONS = 10_000
"""Imports, calls and jobs leave few cycles behind: looking for them at Python's 700 takes 8 % of a
call, and of a start."""


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
    gc.set_threshold(GC_ALLOCATIONS, 50, 50)


for _group in (keys, jobs, queue, workers, alerts, budgets, ledger):
    main.add_command(_group)
main.add_command(usage)


@main.command("check-config")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check_config(file: Path | None) -> None:
    """List every mistake in the config FILE, or print what it comes to.

    Without FILE it is the one in SLUICEWAY_CONFIG, else ./sluiceway.yaml; with SLUICEWAY_ENV=NAME
    the file sluiceway.NAME.yaml beside it is laid over it. The effective config goes to stdout
    without secrets; which files were read, notes, warnings and mistakes go to stderr. Exit code 2:
    mistakes.
    """
    from shared.config.load import load_config
    from shared.config.not_yet import not_yet
    from shared.config.redact import redacted
    from shared.providers.registry import kinds

    path = file or _config_file()
    if not path.is_file():
        stop((), f"no config file at {path}; name one or set SLUICEWAY_CONFIG")
    try:
        loaded = load_config(path, os.environ, kinds())
    except ConfigError as error:
        _say_overlay(path)
        stop(map(str, error.mistakes), f"{counted(len(error.mistakes), 'mistake')} in {path}")
    say("read", map(str, loaded.files))
    say("note", loaded.notes)
    say("warning", not_yet(loaded.config))
    click.echo(redacted(loaded.config), nl=False)
    click.echo(f"{path} is fine", err=True)


def _config_file() -> Path:
    named = os.environ.get("SLUICEWAY_CONFIG")
    return Path(named) if named else default_config() or DEFAULT_CONFIGS[0]


def _say_overlay(path: Path) -> None:
    """Tell who checks an overlay by itself how it is meant to be checked."""
    from shared.config.files import overlay_of

    found = overlay_of(path)
    if found is not None:
        base, name = found
        how = f"SLUICEWAY_ENV={name} sluiceway check-config {base}"
        say("note", [f"{path.name} looks like an overlay of {base.name}; to check both: {how}"])


@main.command("config-schema")
@click.option("--overlay", is_flag=True, help="That of a sluiceway.NAME.yaml for SLUICEWAY_ENV.")
def config_schema(*, overlay: bool) -> None:
    """Print the JSON Schema of the config file, for editors.

    An editor that knows YAML schemas then completes and checks the file. Name the printed file in
    its first line: `# yaml-language-server: $schema=sluiceway.schema.json`
    """
    from shared.config.schema import schema_text
    from shared.providers.registry import kinds

    click.echo(schema_text(kinds(), overlay=overlay), nl=False)


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
@click.option(
    "--stop-delay",
    type=click.FloatRange(0, 600),
    help="Seconds before that in which /readyz says 503 and callers are still let in.",
)
@click.pass_context
def api(
    context: click.Context,
    host: str | None,
    port: int | None,
    processes: int,
    grace: float | None,
    stop_delay: float | None,
) -> None:
    """Serve the HTTP API."""
    _share_metrics(context, processes)
    settings = _started()
    from api.main import ENDING, run
    from api.server import Ending

    ending = Ending(
        delay_s=ENDING.delay_s if stop_delay is None else stop_delay,
        grace_s=ENDING.grace_s if grace is None else grace,
    )
    try:
        code = run(host=host, port=port, processes=processes, ending=ending)
    except OSError as error:
        where = f"{host or settings.host}:{settings.port if port is None else port}"
        stop((), f"cannot listen on {where}: {error.strerror or error}; try --port", code=1)
    raise click.exceptions.Exit(code)


@main.command()
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--slots", type=click.IntRange(1, 100_000), help="Calls at once, per process.")
@click.option("--grace", type=click.FloatRange(0, 3600), help="Seconds to end calls when stopped.")
@click.pass_context
def worker(context: click.Context, processes: int, slots: int | None, grace: float | None) -> None:
    """Run jobs and deliver webhooks."""
    _share_metrics(context, processes)
    _started()
    from workers.main import GRACE_S, SLOTS, run

    code = run(
        processes=processes,
        slots=SLOTS if slots is None else slots,
        grace_s=GRACE_S if grace is None else grace,
    )
    raise click.exceptions.Exit(code)


@main.command()
@click.pass_context
def scheduler(context: click.Context) -> None:
    """Close spend windows, expire jobs, ring for what is due."""
    _share_metrics(context, 1)
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
    _check_folder(settings.data_dir)
    configure_logging(level=settings.log_level, console=wants_console(settings.environment))
    loaded = read_config(settings)
    log = get_logger("start")
    for note in (*settings.notes, *loaded.notes, *not_yet(loaded.config)):
        log.warning("start.note", note=note)
    BUILD_INFO.labels(_version()).set(1)
    return settings


def _check_folder(folder: Path) -> None:
    """Return if a process can keep its files there.

    Raises:
        SettingsError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise SettingsError((f"SLUICEWAY_DATA_DIR, {folder}: {why}; name a folder of your own",))


def _share_metrics(context: click.Context, processes: int) -> None:
    """Have several processes keep their numbers where each of them can add them up.

    Must come before anything imports prometheus-client, which looks for the variable only then.
    """
    from shared.telemetry.folder import VARIABLE, shared_folder

    if processes > 1 or os.environ.get(VARIABLE):
        context.with_resource(shared_folder())


if __name__ == "__main__":
    main()
