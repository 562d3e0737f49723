"""`sluiceway jobs|queue|workers`: the queue in an operator's hands, straight in the database.

No broker is asked: workers look for themselves every `queue.poll_s` seconds.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import redirect_stdout
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from compose.console import FAILED, stop, table
from compose.opened import Opened, config_of
from shared.clock import SystemClock
from shared.errors import CallerError
from shared.settings import Settings, load_settings

if TYPE_CHECKING:
    from shared.jobs.operating import ShownQueue, ShownWorkers
    from shared.jobs.oversight import OverseenJob
    from shared.store.engine import Store
    from shared.store.oversight import Wanted

T = TypeVar("T")

STATUSES = (
    "scheduled", "queued", "running", "cancelling", "succeeded", "failed", "cancelled", "expired",
)  # fmt: skip
PRIORITIES = ("interactive", "default", "batch")
SHORT = 72
"""Characters of a reason in a list; `jobs show` has all."""

_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
_kind = click.argument("kind", type=click.Choice(("class", "tenant")))
_ids = click.argument("ids", metavar="ID...", nargs=-1, required=True)


@click.group()
def jobs() -> None:
    """Look at jobs of all tenants, run them again, cancel them."""


@jobs.command("list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--priority", type=click.Choice(PRIORITIES))
@click.option("--stuck", is_flag=True, help="Only those that do not move as they should.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@_as_json
def list_jobs(
    tenant: str | None,
    status: str | None,
    priority: str | None,
    *,
    stuck: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first, each with the reason it is where it is."""
    from shared.store.oversight import Wanted

    wanted = Wanted(tenant_id=tenant, status=status, priority=priority, stuck=stuck, limit=limit)
    found = done(lambda store, settings: _listed(store, settings, wanted))
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no such jobs", err=True)
    else:
        heads = ("ID", "AGE", "TENANT", "MODEL", "CLASS", "STATUS", "TRIES", "STUCK", "REASON")
        now = SystemClock().now()
        table([heads, *(_job_cells(one, now) for one in found)])


@jobs.command()
@click.argument("job_id", metavar="ID")
def show(job_id: str) -> None:
    """Print a job with its attempts, its lease and its reason, as JSON."""
    print_json(done(lambda store, settings: _shown(store, settings, job_id)))


@jobs.command()
@_ids
def retry(ids: tuple[str, ...]) -> None:
    """Run jobs again: one that is put off at once, one that ended in vain as a copy."""
    for job_id in ids:
        own_id = done(partial(_run_again, job_id))
        click.echo(f"queued {own_id}" + ("" if own_id == job_id else f", a copy of {job_id}"))


@jobs.command("cancel")
@_ids
def cancel_jobs(ids: tuple[str, ...]) -> None:
    """Cancel jobs, whosever they are. A running one ends with its worker's next heartbeat."""
    for job_id in ids:
        status = done(partial(_cancelled, job_id))
        click.echo(f"{job_id} is {status}")


@click.group()
def queue() -> None:
    """Look at the queue, pause and resume parts of it."""


@queue.command("show")
@_as_json
def show_queue(*, as_json: bool) -> None:
    """Print what waits by class, what is stuck, what is paused."""
    from shared.jobs.operating import queue_report

    _print_queue(done(lambda store, _settings: queue_report(store)), as_json=as_json)


@queue.command("pause")
@_kind
@click.argument("name")
@click.option("--reason", help="For whoever wonders.")
def pause_scope(kind: str, name: str, reason: str | None) -> None:
    """Have no jobs of a class or tenant claimed; what runs goes on, submitting does too."""
    _print_queue(done(lambda store, _settings: _paused(store, f"{kind}:{name}", reason)))


@queue.command("resume")
@_kind
@click.argument("name")
def resume_scope(kind: str, name: str) -> None:
    """Have jobs of a class or tenant claimed again."""
    _print_queue(done(lambda store, _settings: _resumed(store, f"{kind}:{name}")))


@click.group()
def workers() -> None:
    """Look at workers, take one out and in again."""


@workers.command("list")
@_as_json
def list_workers(*, as_json: bool) -> None:
    """List the workers, with what they run."""
    _print_workers(done(_workers), as_json=as_json)


@workers.command()
@click.argument("worker_id", metavar="ID")
def drain(worker_id: str) -> None:
    """Have a worker claim no more from its next heartbeat on; what it runs it ends."""
    _print_workers(done(lambda store, settings: _told(store, settings, worker_id, drains=True)))


@workers.command("resume")
@click.argument("worker_id", metavar="ID")
def resume_worker(worker_id: str) -> None:
    """Have a worker claim jobs again."""
    _print_workers(done(lambda store, settings: _told(store, settings, worker_id, drains=False)))


def done(work: "Callable[[Store, Settings], Coroutine[object, object, T]]") -> T:
    """Return what the work returns, done on the store; a refusal ends the command with its word."""
    from shared.telemetry.log import quiet

    settings = load_settings(os.environ)

    async def run() -> T:
        async with Opened(settings) as store:
            return await work(store, settings)

    try:
        with quiet(), redirect_stdout(sys.stderr):  # what is logged is no result
            return asyncio.run(run())
    except CallerError as error:
        stop((), error.message, code=FAILED)


async def _listed(store: "Store", settings: Settings, wanted: "Wanted") -> "list[OverseenJob]":
    from shared.jobs.operating import jobs_of_all

    return await jobs_of_all(store, wanted, lost_after_s=_lost_after_s(settings))


async def _shown(store: "Store", settings: Settings, job_id: str) -> "OverseenJob":
    from shared.jobs.operating import job_of_anyone

    return await job_of_anyone(store, job_id, lost_after_s=_lost_after_s(settings))


async def _run_again(job_id: str, store: "Store", _settings: Settings) -> str:
    from shared.ids import new_id
    from shared.jobs.again import run_again
    from shared.queue.silent import SilentBell

    return await run_again(store, SilentBell(), new_id, job_id)


async def _cancelled(job_id: str, store: "Store", settings: Settings) -> str:
    from shared.ids import new_id
    from shared.jobs.cancel import cancel
    from shared.queue.silent import SilentBell

    job = await _shown(store, settings, job_id)
    after = await cancel(store, SilentBell(), new_id, tenant_id=job.tenant_id, job_id=job_id)
    return after.status


async def _paused(store: "Store", scope: str, reason: str | None) -> "ShownQueue":
    from shared.jobs.operating import checked_scope, queue_report
    from shared.store.pauses import pause

    async with store.write() as tx:
        await pause(tx, checked_scope(scope), reason)
    return await queue_report(store)


async def _resumed(store: "Store", scope: str) -> "ShownQueue":
    from shared.jobs.operating import checked_scope, queue_report
    from shared.store.pauses import resume

    async with store.write() as tx:
        if not await resume(tx, checked_scope(scope)):
            stop((), f"{scope} is not paused; see: sluiceway queue show", code=FAILED)
    return await queue_report(store)


async def _workers(store: "Store", settings: Settings) -> "ShownWorkers":
    from shared.jobs.operating import workers_report

    return await workers_report(store, lost_after_s=_lost_after_s(settings))


async def _told(
    store: "Store", settings: Settings, worker_id: str, *, drains: bool
) -> "ShownWorkers":
    from shared.store.workers import set_drain

    async with store.write() as tx:
        if not await set_drain(tx, worker_id, at=await tx.now() if drains else None):
            stop((), f"no worker {worker_id}; see: sluiceway workers list", code=FAILED)
    return await _workers(store, settings)


def _lost_after_s(settings: Settings) -> float:
    return config_of(settings).queue.lease_s


def _print_queue(found: "ShownQueue", *, as_json: bool = False) -> None:
    if as_json:
        print_json(found)
        return
    heads = ("CLASS", "SCHEDULED", "QUEUED", "RUNNING", "OLDEST", "PER SECOND", "PAUSED")
    rows = [
        (
            one.priority,
            str(one.scheduled),
            str(one.queued),
            str(one.running + one.cancelling),
            "-" if one.oldest_s is None else f"{one.oldest_s:g} s",
            f"{one.drained_per_s:g}",
            "yes" if one.paused else "-",
        )
        for one in found.classes
    ]
    table([heads, *rows])
    for reason, count in found.stuck.items():
        click.echo(f"stuck: {count} {reason}; see: sluiceway jobs list --stuck")
    for one in found.pauses:
        why = f": {one.reason}" if one.reason else ""
        click.echo(f"paused: {one.scope} since {_moment(one.since)}{why}")


def _print_workers(found: "ShownWorkers", *, as_json: bool = False) -> None:
    if as_json:
        print_json(found.data)
    elif not found.data:
        click.echo("no workers", err=True)
    else:
        heads = ("ID", "STATE", "RUNNING", "SLOTS", "HOST", "SEEN")
        rows = [
            (one.id, one.state, str(one.running), str(one.slots), one.host, _moment(one.seen_at))
            for one in found.data
        ]
        table([heads, *rows])


def _job_cells(one: "OverseenJob", now: datetime) -> tuple[str, ...]:
    reason = one.reason.text
    return (
        one.id,
        _age(int(now.timestamp()) - one.created_at),
        one.tenant_id,
        one.model or "-",
        one.priority,
        one.status,
        str(one.attempts_made),
        one.stuck or "-",
        reason if len(reason) <= SHORT else reason[: SHORT - 1] + "…",
    )


def _age(length_s: int) -> str:
    """Return a length in its largest unit, rounded down: `90m` is `1h`."""
    for unit, unit_s in (("d", 86_400), ("h", 3600), ("m", 60)):
        if length_s >= unit_s:
            return f"{length_s // unit_s}{unit}"
    return f"{max(0, length_s)}s"


def _moment(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}Z"


def print_json(value: object) -> None:
    """Print a value for programs."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
