"""Why a job is where it is, for operators. Pure."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from shared.jobs.object import JobObject, job_object
from shared.jobs.state import FINAL
from shared.store.oversight import Overseen
from shared.store.pauses import CLASS, TENANT, Pause
from shared.store.records import AttemptRow, JobRow
from shared.store.workers import WorkerRow


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job is where it is: a code for programs, words for people."""

    code: str
    text: str


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a job, and until when (epoch seconds); the token grows with every claim."""

    owner: str | None
    token: int
    until: int | None


class OverseenJob(JobObject, frozen=True, kw_only=True):
    """A job over HTTP as operators see it."""

    tenant_id: str
    model: str | None
    reason: Reason
    stuck: str | None
    last_error: str | None
    lease: Lease
    attempts_spent: int
    deferrals: int
    recoveries: int


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What is around a job at a moment: pauses, and the workers that live: claiming, draining."""

    now: datetime
    pauses: Sequence[Pause]
    workers: int
    draining: int


def scene(
    now: datetime, pauses: Sequence[Pause], workers: Sequence[WorkerRow], *, lost_after_s: float
) -> Scene:
    """Return the scene; a worker silent for longer than `lost_after_s` seconds does not count."""
    living = [one for one in workers if not is_lost(one, now, lost_after_s)]
    claiming = sum(one.drain_at is None for one in living)
    return Scene(now=now, pauses=pauses, workers=claiming, draining=len(living) - claiming)


def is_lost(worker: WorkerRow, now: datetime, lost_after_s: float) -> bool:
    """Return whether a worker has been silent for longer than that."""
    return (now - worker.seen_at).total_seconds() > lost_after_s


def reason_of(job: JobRow, around: Scene) -> Reason:
    """Return why the job is where it is."""
    if job.status in FINAL:
        message = (job.error or {}).get("message")
        how = "was cancelled" if job.status == "cancelled" else job.status
        return Reason(code="ended", text=f"It {how}" + (f": {message}" if message else "."))
    if job.lease_until is not None:
        return _held(job, around.now)
    if (paused := _paused(job, around.pauses)) is not None:
        why = f" ({paused.reason})" if paused.reason else ""
        return Reason(
            code="paused", text=f"{paused.scope} is paused since {_when(paused.since)}{why}."
        )
    if job.status == "scheduled" and job.not_before is not None:
        return _scheduled(job, job.not_before)
    if around.workers == 0 and around.draining:
        return Reason(
            code="draining", text="All workers that live are draining: they claim no more jobs."
        )
    if around.workers == 0:
        return Reason(code="no_worker", text="No worker that claims jobs has been heard of lately.")
    return Reason(code="turn", text=f"It waits for its turn since {_when(job.queued_at)}.")


def overseen_job(
    overseen: Overseen, around: Scene, attempts: Sequence[AttemptRow] = ()
) -> OverseenJob:
    """Return the job as operators see it."""
    job = overseen.job
    failed = [one for one in attempts if one.code is not None]
    last = failed[-1] if failed else None
    shown = msgspec.structs.asdict(job_object(job, attempts=attempts))
    return OverseenJob(
        **shown,
        tenant_id=job.tenant_id,
        model=job.model,
        reason=reason_of(job, around),
        stuck=overseen.stuck,
        last_error=None if last is None else f"{last.code}: {last.message or last.provider}",
        lease=Lease(
            owner=job.lease_owner,
            token=job.lease_token,
            until=None if job.lease_until is None else int(job.lease_until.timestamp()),
        ),
        attempts_spent=job.attempts_spent,
        deferrals=job.deferrals,
        recoveries=job.recoveries,
    )


def _held(job: JobRow, now: datetime) -> Reason:
    until = job.lease_until or now
    if until <= now:
        return Reason(
            code="lease_ended",
            text=f"{job.lease_owner or 'Its worker'} has not been heard of since {_when(until)}; "
            "a worker takes it back.",
        )
    doing = "It runs" if job.status == "running" else "Its call is being ended"
    return Reason(code=job.status, text=f"{doing} at {job.lease_owner}.")


def _paused(job: JobRow, pauses: Sequence[Pause]) -> Pause | None:
    scopes = {f"{CLASS}{job.priority}", f"{TENANT}{job.tenant_id}"}
    return next((one for one in pauses if one.scope in scopes), None)


def _scheduled(job: JobRow, not_before: datetime) -> Reason:
    if job.waits_for is not None:
        tries = f"put off {job.deferrals} times, tried in vain {job.attempts_spent} times"
        return Reason(
            code="put_off", text=f"{job.waits_for}: again at {_when(not_before)} ({tries})."
        )
    return Reason(code="not_before", text=f"It is not to start before {_when(not_before)}.")


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
