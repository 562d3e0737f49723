"""The scheduler process: one clock, a fixed timetable, nothing remembered.

APScheduler keeps its jobs in memory: two schedulers sharing its store would run ticks twice or
not at all. After a pause a task runs once and finds everything that became due meanwhile.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC

import uvloop
from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    JobEvent,
)
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from scheduler.lease import Leadership
from scheduler.schedule import SCHEDULE, Row, timetable
from shared.clock import Clock
from shared.errors import StoreUnavailable
from shared.ids import IdMaker
from shared.lifeline import stop_signals
from shared.queue.bell import Bell
from shared.runtime import Runtime, open_runtime
from shared.settings import load_settings
from shared.store.engine import Store
from shared.telemetry.endpoint import Readiness, operations, readiness
from shared.telemetry.log import configure_logging, get_logger, wants_console
from shared.telemetry.metrics import SCHEDULER_TICKS

_TROUBLE = {
    EVENT_JOB_MISSED: "missed",
    EVENT_JOB_ERROR: "error",
    EVENT_JOB_MAX_INSTANCES: "still_running",
}

log = get_logger(__name__)


class Ticker:
    """Runs rows of the timetable, if this scheduler leads."""

    def __init__(self, store: Store, bell: Bell, ids: IdMaker, leadership: Leadership) -> None:
        self._store = store
        self._bell = bell
        self._ids = ids
        self._leadership = leadership
        self._store_away = False

    async def tick(self, row: Row) -> int | None:
        """Run the row's task; return what it did, None when another leads or it failed.

        Never fails: the next tick finds what this one left.
        """
        try:
            if not await self._leadership.held():
                SCHEDULER_TICKS.labels(row.id, "skipped").inc()
                return None
            done = await row.task(self._store, self._bell, self._ids)
        except StoreUnavailable as error:
            self._failed(row)
            if not self._store_away:  # once per outage, not once per tick
                log.warning("scheduler.store_unavailable", task=row.id, reason=error.message)
            self._store_away = True
            return None
        except Exception:
            self._failed(row)
            log.exception("scheduler.tick_failed", task=row.id)
            return None
        self._store_away = False
        SCHEDULER_TICKS.labels(row.id, "succeeded").inc()
        return done

    def _failed(self, row: Row) -> None:
        SCHEDULER_TICKS.labels(row.id, "failed").inc()


def build_scheduler(
    tick: Callable[[Row], Awaitable[object]], rows: tuple[Row, ...] = SCHEDULE
) -> AsyncIOScheduler:
    """Return an APScheduler with the timetable, not started."""
    scheduler = AsyncIOScheduler(
        timezone=UTC,
        jobstores={"default": MemoryJobStore()},
        executors={"default": AsyncIOExecutor()},
        # The default grace of one second drops what is late; None runs it.
        job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
    )
    for row in rows:
        trigger = IntervalTrigger(seconds=row.every_s, timezone=UTC)
        scheduler.add_job(tick, trigger, args=[row], id=row.id, name=row.id)
    scheduler.add_listener(_note_trouble, sum(_TROUBLE))
    return scheduler


def _note_trouble(event: JobEvent) -> None:
    outcome = "failed" if event.code == EVENT_JOB_ERROR else "skipped"
    SCHEDULER_TICKS.labels(event.job_id, outcome).inc()
    log.warning("scheduler.tick_trouble", task=event.job_id, what=_TROUBLE[event.code])


async def serve(runtime: Runtime, stop: asyncio.Event) -> None:
    """Tick until told to stop. The database and the broker may be away at any time."""
    leadership = Leadership(runtime.store, runtime.clock, owner=runtime.owner)
    ticker = Ticker(runtime.store, runtime.bell, runtime.ids, leadership)
    scheduler = build_scheduler(ticker.tick, timetable(runtime.config))
    scheduler.start()
    log.info("scheduler.started", owner=runtime.owner)
    try:
        await stop.wait()
    finally:
        scheduler.shutdown(wait=False)
        await _resign(leadership, runtime.clock)
    log.info("scheduler.stopped", owner=runtime.owner)


async def _resign(leadership: Leadership, clock: Clock) -> None:
    with suppress(StoreUnavailable, TimeoutError):
        async with clock.timeout(2.0):
            await leadership.resign()


async def _main() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, stop.set)
    settings = load_settings(os.environ)
    async with open_runtime(settings, role="scheduler") as runtime:

        async def ready() -> Readiness:
            return await readiness(runtime.store.ping, stopping=stop.is_set())

        async with operations(settings.host, settings.metrics_port, ready):
            await serve(runtime, stop)


def run() -> int:
    """Run `sluiceway scheduler` until a signal stops it; return the exit code.

    Raises:
        SettingsError, ConfigError, SchemaBehind: the process must not start as it is.
    """
    settings = load_settings(os.environ)
    configure_logging(level=settings.log_level, console=wants_console(settings.environment))
    uvloop.run(_main())
    return 0
