"""The worker process: a loop that holds the running jobs, and threads that hear the bell."""

import asyncio
import os
import random
from contextlib import AsyncExitStack

import msgspec
import uvloop

from shared.files.keeping import Shelves
from shared.files.terms import MIB
from shared.gateway.failure import failure_of
from shared.heap import share_one_heap
from shared.jobs.batch.held import BatchDesk
from shared.jobs.commits import Commits
from shared.jobs.holds import job_holds
from shared.jobs.run import Desk
from shared.lifeline import stop_signals
from shared.queue.tasks import BATCHES, DELIVERIES
from shared.runtime import Runtime, open_runtime
from shared.settings import load_settings
from shared.telemetry.endpoint import Readiness, operations, operations_thread, readiness
from shared.telemetry.log import configure_logging, get_logger, wants_console
from shared.telemetry.metrics import DRAINING
from shared.telemetry.tally import watched
from workers.batches import Batches
from workers.callers import Callers
from workers.calls import GatewayCall
from workers.deliveries import Courier
from workers.expire import keep_expiring
from workers.files import keep_pruning_files
from workers.heartbeat import keep_beating
from workers.presence import Berth, keep_present
from workers.prune import keep_pruning
from workers.rescue import keep_rescuing
from workers.supervisor import supervise
from workers.supply import Supply

SLOTS = 1000
"""Jobs at once per process; a slot is a coroutine and a connection, not a thread."""
GRACE_S = 25.0
"""For running jobs at a stop; below the 30 s after which orchestrators kill."""

log = get_logger(__name__)


class Stopping(msgspec.Struct, kw_only=True):
    """How a process is told to stop: `soon` with grace, `now` without."""

    soon: asyncio.Event
    now: asyncio.Event

    @classmethod
    def by_signal(cls, loop: asyncio.AbstractEventLoop) -> "Stopping":
        """Return events that a signal to stop sets: the first one `soon`, the next one `now`."""
        stopping = cls(soon=asyncio.Event(), now=asyncio.Event())

        def heard() -> None:
            (stopping.now if stopping.soon.is_set() else stopping.soon).set()

        for number in stop_signals():
            loop.add_signal_handler(number, heard)
        return stopping


async def serve(
    runtime: Runtime, stopping: Stopping, *, slots: int = SLOTS, grace_s: float = GRACE_S
) -> None:
    """Run jobs and deliver webhooks until told to stop, then drain.

    Broker and database may be away at any time, also now; nothing here needs a restart.
    """
    queue, owner = runtime.config.queue, runtime.owner
    desk = _desk(runtime)
    supply = Supply(
        desk,
        owner=owner,
        slots=slots,
        queue=queue,
        standing_still=runtime.gateway.standing_still,
    )
    courier = Courier(runtime.post_office, poll_s=queue.poll_s)
    batches = Batches(_batch_desk(runtime), owner=owner, poll_s=queue.poll_s)
    heard = {DELIVERIES: courier.ring, BATCHES: batches.ring}

    def on_ring(topic: str) -> None:
        heard.get(topic, supply.ring)()

    loops = [
        supply.run(),
        courier.run(),
        batches.run(),
        keep_beating(
            supply,
            runtime.store,
            owner=owner,
            lease_s=queue.lease_s,
            heartbeat_s=queue.heartbeat_s,
            clock=runtime.clock,
        ),
        keep_present(supply, desk, Berth(owner, slots), heartbeat_s=queue.heartbeat_s),
        keep_rescuing(desk, lease_s=queue.lease_s, heartbeat_s=queue.heartbeat_s),
        keep_expiring(desk, lease_s=queue.lease_s),
        keep_pruning(desk, keep_s=queue.keep_s),
        keep_pruning_files(Shelves(store=runtime.store, objects=runtime.objects), runtime.clock),
    ]
    async with AsyncExitStack() as opened, asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(loop) for loop in loops]
        if runtime.settings.broker_url is not None:
            from workers.actors import listen

            listener = listen(runtime.settings.broker_url, asyncio.get_running_loop(), on_ring)
            opened.push_async_callback(listener.aclose)
        log.info("worker.started", owner=owner, slots=slots)
        await stopping.soon.wait()
        log.info("worker.draining", held=len(supply.leases()), grace_s=grace_s)
        courier.stop()
        await batches.drain()
        await supply.drain(grace_s, stopping.now)
        await courier.drain(0.0 if stopping.now.is_set() else min(grace_s, 5.0))
        for task in running:
            task.cancel()
    log.info("worker.stopped", owner=owner)


def _desk(runtime: Runtime) -> Desk:
    at_once = 1 if runtime.store.backend == "sqlite" else 2
    commits = Commits(
        runtime.store,
        at_once=at_once,
        watch=runtime.watch,
        booked=runtime.config.ledger.enabled,
    )
    return Desk(
        store=runtime.store,
        objects=runtime.objects,
        bell=runtime.bell,
        call=GatewayCall(runtime.gateway, runtime.store, runtime.config),
        holds=job_holds(runtime.store, runtime.config, runtime.clock, commits),
        describe=failure_of,
        clock=runtime.clock,
        ids=runtime.ids,
        draw=random.random,  # noqa: TID251 (the process is where chance comes from)
        commits=commits,
    )


def _batch_desk(runtime: Runtime) -> BatchDesk:
    return BatchDesk(
        store=runtime.store,
        objects=runtime.objects,
        bell=runtime.bell,
        ids=runtime.ids,
        clock=runtime.clock,
        caller=Callers(runtime.gateway, runtime.store, runtime.config),
        lease_s=runtime.config.queue.lease_s,
        most_line_bytes=runtime.config.server.max_body_mb * MIB,
    )


async def _main(*, slots: int, grace_s: float) -> None:
    stopping = Stopping.by_signal(asyncio.get_running_loop())
    settings = load_settings(os.environ)
    async with open_runtime(settings, role="worker") as runtime:

        async def ready() -> Readiness:
            return await readiness(runtime.store.ping, stopping=stopping.soon.is_set())

        async with operations(settings.host, settings.metrics_port, ready):
            with watched(DRAINING, stopping.soon.is_set):
                await serve(runtime, stopping, slots=slots, grace_s=grace_s)


async def _supervising() -> Readiness:
    return Readiness(ready=True, facts={"status": "ok"})


def run(*, slots: int = SLOTS, processes: int = 1, grace_s: float = GRACE_S) -> int:
    """Run `sluiceway worker` until a signal stops it; return the exit code.

    With several `processes` this one only supervises: each child is a worker of its own.

    Raises:
        SettingsError, ConfigError, SchemaBehind: the process must not start as it is.
    """
    share_one_heap()
    settings = load_settings(os.environ)
    configure_logging(level=settings.log_level, console=wants_console(settings.environment))
    if processes > 1:
        with operations_thread(settings.host, settings.metrics_port, _supervising):
            return supervise(
                processes,
                ("worker", f"--slots={slots}", f"--grace={grace_s:g}"),
                grace_s=grace_s,
                database_url=settings.database_url,
            )
    uvloop.run(_main(slots=slots, grace_s=grace_s))
    return 0
