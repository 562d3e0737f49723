"""The queue as operators look at it and order it about: the API and the shell do the same."""

from datetime import datetime

import msgspec

from shared.errors import InvalidRequest, NotFound
from shared.jobs.object import MOST_ATTEMPTS
from shared.jobs.oversight import OverseenJob, Scene, is_lost, overseen_job, scene
from shared.queue.tasks import CLASSES
from shared.store.backlog import Backlog, backlogs
from shared.store.engine import Store, Tx
from shared.store.jobs import attempts_of
from shared.store.oversight import (
    Wanted,
    count_by_status,
    count_stuck,
    find_job,
    list_overseen,
)
from shared.store.pauses import CLASS, TENANT, Pause, pauses
from shared.store.records import AttemptRow
from shared.store.workers import WorkerRow, list_workers


class ShownPause(msgspec.Struct, frozen=True, kw_only=True):
    """What is paused; `since` in epoch seconds."""

    scope: str
    reason: str | None
    since: int


class ShownClass(msgspec.Struct, frozen=True, kw_only=True):
    """A class of the queue: its open jobs by status, and how long the oldest has waited."""

    priority: str
    scheduled: int
    queued: int
    running: int
    cancelling: int
    oldest_s: float | None
    drained_per_s: float
    paused: bool


class ShownQueue(msgspec.Struct, frozen=True, kw_only=True):
    """The whole queue; `stuck` counts jobs by why they do not move as they should."""

    kind: str = msgspec.field(default="queue", name="object")
    classes: tuple[ShownClass, ...]
    stuck: dict[str, int]
    pauses: tuple[ShownPause, ...]


class ShownWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker; `state` is `working`, `draining`, or `lost` when nothing is heard of it."""

    kind: str = msgspec.field(default="worker", name="object")
    id: str
    state: str
    host: str
    slots: int
    running: int
    started_at: int
    seen_at: int
    draining_since: int | None


class ShownWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """All workers."""

    kind: str = msgspec.field(default="list", name="object")
    data: tuple[ShownWorker, ...]


async def jobs_of_all(store: Store, wanted: Wanted, *, lost_after_s: float) -> list[OverseenJob]:
    """Return a page of jobs with their reasons, newest first.

    A worker that has been silent for longer than `lost_after_s` seconds counts as gone.
    """
    async with store.read() as tx:
        around = await _scene(tx, lost_after_s)
        found = await list_overseen(tx, wanted)
        return [overseen_job(one, around, await _last_attempts(tx, one.job.id)) for one in found]


async def job_of_anyone(store: Store, job_id: str, *, lost_after_s: float) -> OverseenJob:
    """Return a job with its reason, whosever it is.

    Raises:
        NotFound: there is none of that id.
    """
    async with store.read() as tx:
        found = await find_job(tx, job_id)
        if found is None:
            raise NotFound(f"No job '{job_id}'.")
        around = await _scene(tx, lost_after_s)
        return overseen_job(found, around, await _last_attempts(tx, job_id))


async def queue_report(store: Store) -> ShownQueue:
    """Return the queue as it stands."""
    async with store.read() as tx:
        now = await tx.now()
        waiting = await backlogs(tx, now)
        counts = await count_by_status(tx)
        stuck = await count_stuck(tx)
        paused = await pauses(tx)

    def shown(name: str) -> ShownClass:
        backlog = waiting.get(name, Backlog())
        return ShownClass(
            priority=name,
            scheduled=counts.get((name, "scheduled"), 0),
            queued=counts.get((name, "queued"), 0),
            running=counts.get((name, "running"), 0),
            cancelling=counts.get((name, "cancelling"), 0),
            oldest_s=_age_s(backlog.oldest_at, now),
            drained_per_s=round(backlog.drained_per_s, 3),
            paused=any(one.scope == f"{CLASS}{name}" for one in paused),
        )

    return ShownQueue(
        classes=tuple(shown(name) for name in CLASSES),
        stuck=stuck,
        pauses=tuple(_shown_pause(one) for one in paused),
    )


async def workers_report(store: Store, *, lost_after_s: float) -> ShownWorkers:
    """Return the workers; one that has been silent for longer than that counts as lost."""
    async with store.read() as tx:
        now = await tx.now()
        rows = await list_workers(tx)
    return ShownWorkers(data=tuple(_shown_worker(row, now, lost_after_s) for row in rows))


def checked_scope(scope: str) -> str:
    """Return the scope of a pause.

    Raises:
        InvalidRequest: it is neither `class:NAME` of a class there is, nor `tenant:ID`.
    """
    if scope.removeprefix(CLASS) in CLASSES and scope.startswith(CLASS):
        return scope
    if scope.startswith(TENANT) and scope != TENANT:
        return scope
    raise InvalidRequest(
        f"scope must be 'tenant:ID' or 'class:NAME' with one of {', '.join(CLASSES)}.",
        param="scope",
    )


async def _last_attempts(tx: Tx, job_id: str) -> list[AttemptRow]:
    return await attempts_of(tx, job_id, last=MOST_ATTEMPTS)


async def _scene(tx: Tx, lost_after_s: float) -> Scene:
    return scene(
        await tx.now(), await pauses(tx), await list_workers(tx), lost_after_s=lost_after_s
    )


def _shown_pause(one: Pause) -> ShownPause:
    return ShownPause(scope=one.scope, reason=one.reason, since=int(one.since.timestamp()))


def _shown_worker(row: WorkerRow, now: datetime, lost_after_s: float) -> ShownWorker:
    state = "working" if row.drain_at is None else "draining"
    if is_lost(row, now, lost_after_s):
        state = "lost"
    return ShownWorker(
        id=row.owner,
        state=state,
        host=row.host,
        slots=row.slots,
        running=row.running,
        started_at=int(row.started_at.timestamp()),
        seen_at=int(row.seen_at.timestamp()),
        draining_since=None if row.drain_at is None else int(row.drain_at.timestamp()),
    )


def _age_s(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else round(max(0.0, (now - moment).total_seconds()), 1)
