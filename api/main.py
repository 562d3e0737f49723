"""`sluiceway api`: one process, or a supervisor over several on one socket."""

import asyncio
import gc
import os
import random
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import uvicorn

from api.access import AccessLog
from api.app import create_app
from api.auth import KeyTable
from api.edge import Edge
from api.forks import supervise_forks
from api.protocol import KEEP_ALIVE_S, Protocol
from api.server import Ending, Server
from api.tls import refuse_bad_certificate
from shared.errors import StoreUnavailable
from shared.gateway.probes import Prober
from shared.heap import share_one_heap
from shared.ledger.books import NoBooks
from shared.ledger.holds import ProcessHolds, open_holds
from shared.ledger.keeper import Keeper, SpoolBooks
from shared.ledger.spool import Spool
from shared.runtime import Runtime, open_runtime, read_config
from shared.settings import Settings, load_settings
from shared.store.gate import refuse_old_schema
from shared.telemetry.log import configure_logging, get_logger, wants_console
from shared.telemetry.metrics import DRAINING, REQUESTS_IN_FLIGHT
from shared.telemetry.tally import watched

log = get_logger("api")

ENDING = Ending(delay_s=2.0, grace_s=25.0)
"""The delay is two looks of an impatient load balancer; orchestrators kill at 30 s in all."""


@asynccontextmanager
async def open_edge(runtime: Runtime) -> AsyncIterator[Edge]:
    """Open what an API process has beside the Runtime: holds, spool, key table, access log."""
    async with (
        open_holds(runtime.store, runtime.config, runtime.owner, runtime.clock) as holds,
        _opened(runtime, holds) as edge,
    ):
        with (
            watched(REQUESTS_IN_FLIGHT, lambda: edge.running),
            watched(DRAINING, lambda: edge.stopping),
        ):
            yield edge


@asynccontextmanager
async def _opened(runtime: Runtime, holds: ProcessHolds) -> AsyncIterator[Edge]:
    settings = runtime.settings
    spool = Spool(runtime.spool_dir, runtime.owner)
    runtime.watch.holding = holds
    keeper = Keeper(spool, runtime.store, runtime.clock, holds, runtime.watch)
    master = None if settings.master_key is None else settings.master_key.reveal()
    keys = KeyTable(
        runtime.config, settings.secret_key.reveal(), master, runtime.store, runtime.clock
    )
    logging = runtime.config.logging
    access = AccessLog(runtime.clock, write=logging.requests, sample_rate=logging.sample_rate)
    books = SpoolBooks(spool) if runtime.config.ledger.enabled else NoBooks()
    prober = Prober(runtime.gateway.kit, books, random.random)  # noqa: TID251 (hands it out)
    tasks = [
        asyncio.create_task(background)
        for background in (keeper.run(), keys.run(), access.run(), prober.run())
    ]
    try:
        yield Edge(runtime, keys, books, holds, access)
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


async def serve(
    settings: Settings, listener: socket.socket, ending: Ending, *, processes: int = 1
) -> None:
    """Serve on an open socket, as one of so many processes, until told to stop; end as told."""
    async with (
        open_runtime(settings, role="api", processes=processes) as runtime,
        open_edge(runtime) as edge,
    ):
        tls = runtime.config.server.tls
        config = uvicorn.Config(
            create_app(edge),
            http=Protocol,
            ws="none",
            interface="asgi3",  # it would take the front for ASGI2: that is no coroutine function
            loop="uvloop",
            lifespan="off",  # the edge is opened around the server, not inside it
            log_config=None,
            access_log=False,
            proxy_headers=False,
            date_header=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            ssl_certfile=None if tls is None else tls.cert_file,
            ssl_keyfile=None if tls is None else tls.key_file,
        )
        server = Server(config, edge, ending)
        gc.collect()
        gc.freeze()  # what lives from the start is never garbage: shorter collections
        scheme = "http" if tls is None else "https"
        log.info("api.serving", address=f"{scheme}://{_address(listener)}", owner=runtime.owner)
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
    ending: Ending = ENDING,
) -> int:
    """Run the API until SIGTERM or SIGINT, then to its `ending`; return the exit code.

    With several `processes` this one only supervises; 1 tells that its children keep dying.

    Raises:
        SettingsError, ConfigError, SchemaBehind: the process must not start as it is.
        OSError: the address is taken or not ours.
    """
    share_one_heap()
    settings = load_settings(os.environ)
    settings = msgspec.structs.replace(
        settings,
        host=host or settings.host,
        port=settings.port if port is None else port,
    )
    configure_logging(level=settings.log_level, console=wants_console(settings.environment))
    _allow_many_connections()
    # What no child could mend is told once, by us.
    refuse_bad_certificate(read_config(settings).config.server.tls)
    if processes > 1:
        refuse_old_schema(settings.database_url)
    listener = listen(settings.host, settings.port)
    if processes > 1:
        return supervise_forks(
            lambda: run_loop(settings, listener, ending, processes=processes),
            processes,
            grace_s=ending.delay_s + ending.grace_s,
            on_stop=listener.close,  # callers must not wait in a queue that nobody looks at
        )
    run_loop(settings, listener, ending)
    return 0


def _allow_many_connections() -> None:
    """Raise the limit of open files to what we may have: each call takes two sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS calls it unlimited, and refuses that
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run_loop(
    settings: Settings, listener: socket.socket, ending: Ending, *, processes: int = 1
) -> None:
    """Run one process's event loop."""
    import uvloop

    with suppress(KeyboardInterrupt):
        uvloop.run(serve(settings, listener, ending, processes=processes))
