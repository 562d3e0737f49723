"""`sluiceway dev`: the whole stack on this machine, from one command, until Ctrl-C."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec

from compose.children import Child, fresh_log, sluiceway_command
from compose.console import stop as stop_with
from compose.dev_config import DevKeys, effective, generated, tour_model
from compose.discover import discover
from compose.folder import CannotStart, Folder, write_private
from compose.journal import Journal
from compose.port import free_port
from compose.ready import ready
from compose.redis_server import RedisPlan, redis_plan
from compose.stack import Stack, release
from compose.terminal import Terminal, banner, models_found, open_terminal, shown_path
from compose.tie import Tie
from shared.config.load import Loaded, load_config
from shared.config.model import Config
from shared.config.not_yet import not_yet
from shared.providers.registry import kinds
from shared.settings import default_config
from shared.telemetry.folder import VARIABLE

KEPT = frozenset({"SLUICEWAY_CONFIG", "SLUICEWAY_ENV", "SLUICEWAY_HOST", "SLUICEWAY_LOG_LEVEL"})
"""Settings that the stack takes from its environment; all others are its own."""

GRACE = "--grace=5"
"""Seconds; nobody waits for long after a Ctrl-C. In production it is 25."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the command was asked for."""

    port: int
    data_dir: Path
    config: Path | None
    tour: bool


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what the stack serves."""

    host: str
    port: int
    folder: Folder
    keys: DevKeys
    config: Config

    @property
    def url(self) -> str:
        """The address to call from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


class Stopping(msgspec.Struct, frozen=True, kw_only=True):
    """How we are told to stop: `soon` with grace, `now` without."""

    soon: asyncio.Event
    now: asyncio.Event

    @classmethod
    def by_signal(cls) -> "Stopping":
        """Return events that SIGINT, SIGTERM and SIGHUP set: the first `soon`, the next `now`."""
        stopping = cls(soon=asyncio.Event(), now=asyncio.Event())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stopping.heard)
        return stopping

    def heard(self) -> None:
        """Take note of a signal."""
        (self.now if self.soon.is_set() else self.soon).set()


def run(*, port: int, data_dir: Path, config: Path | None, tour: bool) -> int:
    """Run the stack until a signal stops it; return the exit code.

    Leaves with 2 when a person must mend something first (the port, the folder), with 1 when a
    process does not start.

    Raises:
        ConfigError: the given config file is wrong.
    """
    order = Order(port=port, data_dir=data_dir, config=config, tour=tour)
    try:
        return asyncio.run(_main(order, os.environ, open_terminal()))
    except CannotStart as error:
        stop_with((), str(error), code=error.code)


async def _main(order: Order, env: Mapping[str, str], terminal: Terminal) -> int:
    stopping = Stopping.by_signal()
    host = env.get("SLUICEWAY_HOST") or "127.0.0.1"
    port = free_port(host, order.port)
    folder = Folder(order.data_dir)
    folder.make()
    async with AsyncExitStack() as opened:
        opened.enter_context(folder.locked())
        redis = opened.enter_context(redis_plan(folder.path))
        _greet(terminal, folder, env)
        site = await _prepared(order, host, port, folder, env, terminal)
        stack = await opened.enter_async_context(_running(site, redis, env, terminal, stopping))
        await _until(stopping.soon, lambda: _serve(order, site, stack, terminal))
        terminal.words("\nStopping; what is open may finish. Ctrl-C again stops at once.")
    terminal.words(f"Stopped. Your data stays in {shown_path(folder.path)}.")
    return 0


def _greet(terminal: Terminal, folder: Folder, env: Mapping[str, str]) -> None:
    terminal.words("Starting Sluiceway ...", style="bold")
    ignored = [name for name in env if name.startswith("SLUICEWAY_") and name not in KEPT]
    if ignored:
        names = ", ".join(sorted(ignored))
        terminal.step("note", f"ignored: {names}; the embedded stack has its own", well=False)
    how = "found again" if folder.database.exists() else "new"
    terminal.step("data", f"{shown_path(folder.path)} ({how})")


async def _prepared(
    order: Order,
    host: str,
    port: int,
    folder: Folder,
    env: Mapping[str, str],
    terminal: Terminal,
) -> Site:
    """Bring keys, database and config into being.

    Raises:
        ConfigError: the given config file is wrong.
    """
    from shared.store.schema import migrate

    keys = DevKeys(key=folder.dev_key(), webhook_secret=folder.webhook_secret())
    given = _given_config(order, env)
    text = generated(await discover(env), keys) if given is None else effective(given, env, keys)
    write_private(folder.config, text)
    # The copy has the overlay in it already, and none beside it.
    loaded = load_config(folder.config, {**env, "SLUICEWAY_ENV": ""}, kinds())
    applied = await asyncio.to_thread(migrate, folder.database_url)
    terminal.step("database", f"SQLite, {'migrated' if applied else 'up to date'}")
    _tell_config(terminal, loaded, given)
    await release(folder.database_url, folder.owners())
    return Site(host=host, port=port, folder=folder, keys=keys, config=loaded.config)


def _given_config(order: Order, env: Mapping[str, str]) -> Path | None:
    named = env.get("SLUICEWAY_CONFIG")
    if order.config is not None:
        return order.config
    if named:
        if not Path(named).is_file():
            raise CannotStart(f"no config file at {named}, which SLUICEWAY_CONFIG names")
        return Path(named)
    return default_config()


def _tell_config(terminal: Terminal, loaded: Loaded, given: Path | None) -> None:
    config = loaded.config
    origin = "generated" if given is None else f"from {given}"
    names = list(config.providers)
    terminal.step("config", f"{origin}: {models_found(names, len(config.routes))}")
    for note in (*loaded.notes, *not_yet(config)):
        terminal.step("note", note, well=False)


@asynccontextmanager
async def _running(
    site: Site,
    redis: RedisPlan | None,
    env: Mapping[str, str],
    terminal: Terminal,
    stopping: Stopping,
) -> AsyncIterator[Stack]:
    """Start the processes and stop them at the end, whatever happened in between."""
    tie = Tie()
    stack = _stack(site, redis, env, terminal, tie)
    try:
        stack.start()
        if redis is None:
            terminal.step(
                "redis", "none found: jobs start within a second, not at once", well=False
            )
        else:
            terminal.step("redis", f"{redis.version}, on a unix socket")
        yield stack
    finally:
        await stack.stop(stopping.now)
        tie.close()


def _stack(
    site: Site, redis: RedisPlan | None, env: Mapping[str, str], terminal: Terminal, tie: Tie
) -> Stack:
    folder = site.folder
    settings = _settings(site, redis, env)

    def child(name: str, command: list[str]) -> Child:
        return Child(name, command, env=settings, log=fresh_log(folder.logs, name), tie=tie)

    return Stack(
        [
            child("api", sluiceway_command("api", GRACE, "--stop-delay=0")),
            child("worker", sluiceway_command("worker", GRACE)),
            child("scheduler", sluiceway_command("scheduler")),
        ],
        None if redis is None else child("redis", redis.command),
        database_url=folder.database_url,
        notify=lambda text: terminal.words(text, style="yellow"),
        note_owners=folder.note_owners,
    )


def _settings(site: Site, redis: RedisPlan | None, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the processes."""
    folder = site.folder
    kept = {name: value for name, value in env.items() if not name.startswith("SLUICEWAY_")}
    kept[VARIABLE] = str(folder.path / "metrics")  # so that the API shows those of all three
    ours = {
        "CONFIG": str(folder.config),
        "DATA_DIR": str(folder.path),
        "DATABASE_URL": folder.database_url,
        "SECRET_KEY": folder.secret_key(),
        "MASTER_KEY": folder.master_key(),
        "HOST": site.host,
        "PORT": str(site.port),
        "LOG_LEVEL": env.get("SLUICEWAY_LOG_LEVEL", ""),
        "ENVIRONMENT": "dev",
        "REDIS_URL": "" if redis is None else redis.url,
    }
    return kept | {f"SLUICEWAY_{name}": value for name, value in ours.items()}


async def _until(told: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work until told to stop; it is cancelled then.

    Raises:
        Exception: whatever the work raises.
    """
    working = asyncio.ensure_future(work())
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


async def _serve(order: Order, site: Site, stack: Stack, terminal: Terminal) -> None:
    """Wait until it serves, show it, and look after the processes for ever."""
    await ready(site.url, stack)
    terminal.step("processes", "api, worker, scheduler")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stack.keep())
        model = tour_model(site.config)
        banner(terminal, url=site.url, key=site.keys.key, model=model, folder=site.folder.path)
        if order.tour:
            await _show_tour(site, terminal)
        journal = Journal({child.name: child.log for child in stack.ours})
        logs = shown_path(site.folder.logs)
        terminal.words(f"Serving {site.url}/v1. Logs: {logs}. Ctrl-C stops.\n", style="bold")
        tasks.create_task(journal.follow(terminal))


async def _show_tour(site: Site, terminal: Terminal) -> None:
    from compose.tour import show_tour

    try:
        await show_tour(site.url, site.keys.key, config=site.config, terminal=terminal)
    except OSError as error:  # no port for the webhooks, or no terminal any more
        terminal.words(f"The tour had to end: {error}", style="yellow")
