"""`sluiceway api`: one process, or a supervisor over several on one socket."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import msgspec
import uvicorn
from typing_extensions import override

from api.access import AccessLog
from api.app import create_app
from api.auth import KeyTable
from api.edge import Edge
from shared.errors import StoreUnavailable
from shared.ledger.keeper import Keeper, SpoolBooks
from shared.ledger.spool import Spool
from shared.runtime import Runtime, open_runtime
from shared.settings import Settings, load_settings
from shared.telemetry.log import configure_logging, get_logger, wants_console

log = get_logger("api")

DRAIN_S = 25
"""How long open calls may go on after SIGTERM; orchestrators kill at 30 s."""


@asynccontextmanager
async def open_edge(runtime: Runtime) -> AsyncIterator[Edge]:
    """Open what an API process has beside the Runtime: its spool, key table and access log."""
    settings = runtime.settings
    spool = Spool(runtime.spool_dir, runtime.owner)
    keeper = Keeper(spool, runtime.store, runtime.clock)
    master = None if settings.master_key is None else settings.master_key.reveal()
    keys = KeyTable(
        runtime.config, settings.secret_key.reveal(), master, runtime.store, runtime.clock
    )
    access = AccessLog(runtime.clock, write=runtime.config.logging.requests)
    tasks = [
        asyncio.create_task(background) for background in (keeper.run(), keys.run(), access.run())
    ]
    try:
        yield Edge(runtime, keys, SpoolBooks(spool), access)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        access.flush()
        try:
            await keeper.flush()
        except StoreUnavailable as error:
            log.warning("spool.left", pending_bytes=spool.pending_bytes, why=str(error))
        spool.close()


GC_ALLOCATIONS = 10_000
"""Calls leave few cycles behind, and looking for them at Python's 700 costs 8 % of a call."""


class Server(uvicorn.Server):
    """uvicorn that tells readiness first when it is asked to stop."""

    edge: Edge | None = None

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT, at once on a second one.

        Unlike uvicorn's own this does not raise the signal again afterwards: the spool is still to
        be flushed then.
        """
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        if self.edge is not None:
            self.edge.stopping = True


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve on an open socket until told to stop."""
    async with open_runtime(settings, role="api") as runtime, open_edge(runtime) as edge:
        app = create_app(edge)
        config = uvicorn.Config(
            app,
            http="httptools",
            loop="uvloop",
            lifespan="off",  # the edge is opened around the server, not inside it
            log_config=None,
            access_log=False,
            proxy_headers=False,
            date_header=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_S,
        )
        server = Server(config)
        server.edge = edge
        gc.collect()
        gc.freeze()  # what lives from the start is never garbage: shorter collections
        gc.set_threshold(GC_ALLOCATIONS, 50, 50)
        log.info("api.serving", address=f"http://{_address(listener)}", owner=runtime.owner)
        await server.serve(sockets=[listener])


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        OSError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    listener.settimeout(0)
    listener.set_inheritable(True)
    return listener


def run(*, host: str | None = None, port: int | None = None, processes: int = 1) -> int:
    """Run the API until SIGTERM or SIGINT; return the exit code.

    Raises:
        SettingsError, ConfigError, SchemaBehind: the process must not start as it is.
        OSError: the address is taken or not ours.
    """
    settings = load_settings(os.environ)
    settings = msgspec.structs.replace(
        settings,
        host=host or settings.host,
        port=settings.port if port is None else port,
    )
    configure_logging(level=settings.log_level, console=wants_console(settings.environment))
    listener = listen(settings.host, settings.port)
    if processes == 1:
        run_loop(settings, listener)
    else:
        supervise_forks(settings, listener, processes)
    return 0


def run_loop(settings: Settings, listener: socket.socket) -> None:
    """Run one process's event loop."""
    import uvloop

    with suppress(KeyboardInterrupt):
        uvloop.run(serve(settings, listener))


def _forked(settings: Settings, listener: socket.socket) -> int:
    child = os.fork()
    if child == 0:
        try:
            run_loop(settings, listener)
        finally:
            os._exit(0)
    return child


def supervise_forks(settings: Settings, listener: socket.socket, processes: int) -> None:
    """Pass signals on, start a child anew that dies, and leave when all are gone."""
    children = [_forked(settings, listener) for _ in range(processes)]
    stopping = False

    def stop(number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while children:
        try:
            gone, status = os.wait()
        except InterruptedError:
            continue
        except ChildProcessError:
            return
        if gone in children:
            children.remove(gone)
            if not stopping:
                log.error("api.child_died", pid=gone, status=status)
                children.append(_forked(settings, listener))
