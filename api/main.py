"""`sluiceway api`: one process, or a supervisor over several on one socket."""

import asyncio
import gc
import math
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
from api.forks import supervise_forks
from shared.errors import StoreUnavailable
from shared.ledger.keeper import Keeper, SpoolBooks
from shared.ledger.spool import Spool
from shared.runtime import Runtime, open_runtime, read_config
from shared.settings import Settings, load_settings
from shared.store.gate import refuse_old_schema
from shared.telemetry.log import configure_logging, get_logger, wants_console

log = get_logger("api")

GRACE_S = 25.0
"""How long open calls may go on after SIGTERM; orchestrators kill at 30 s."""
LAST_WORDS_S = 1.0
"""The end of the grace, in which what is still open is told that it will not be finished."""


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
    """uvicorn that tells readiness first when it is asked to stop, and at last what is open."""

    def __init__(self, config: uvicorn.Config, edge: Edge, *, grace_s: float) -> None:
        super().__init__(config)
        self._edge = edge
        self._grace_s = grace_s

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
        self.should_exit = self._edge.stopping = True
        if self.force_exit:
            self._edge.closing.come()
            return
        wait_s = max(0.0, self._grace_s - LAST_WORDS_S)
        asyncio.get_running_loop().call_later(wait_s, self._edge.closing.come)


async def serve(settings: Settings, listener: socket.socket, *, grace_s: float) -> None:
    """Serve on an open socket until told to stop.

    Calls may then go on for `grace_s` seconds. In the last of them streams that are still open end
    with an error event, other calls with `overloaded`.
    """
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
            timeout_graceful_shutdown=math.ceil(max(grace_s, LAST_WORDS_S)),
        )
        server = Server(config, edge, grace_s=grace_s)
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


def run(
    *,
    host: str | None = None,
    port: int | None = None,
    processes: int = 1,
    grace_s: float = GRACE_S,
) -> int:
    """Run the API until SIGTERM or SIGINT, then `grace_s` seconds at most; return the exit code.

    With several `processes` this one only supervises; 1 tells that its children keep dying.

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
    if processes > 1:  # what no child could mend is told once, by us
        read_config(settings)
        refuse_old_schema(settings.database_url)
    listener = listen(settings.host, settings.port)
    if processes > 1:
        return supervise_forks(
            lambda: run_loop(settings, listener, grace_s=grace_s), processes, grace_s=grace_s
        )
    run_loop(settings, listener, grace_s=grace_s)
    return 0


def run_loop(settings: Settings, listener: socket.socket, *, grace_s: float) -> None:
    """Run one process's event loop."""
    import uvloop

    with suppress(KeyboardInterrupt):
        uvloop.run(serve(settings, listener, grace_s=grace_s))
