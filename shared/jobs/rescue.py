"""Taking back jobs whose worker died: their leases ended without a word."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from shared.errors import JobEnded
from shared.ids import IdMaker
from shared.jobs import failure
from shared.jobs.books import decode_opening, grant_of
from shared.jobs.ending import tell
from shared.jobs.state import MOST_RECOVERIES, FinalStatus
from shared.ledger.books import Charge, Outcome, lost
from shared.ledger.settle import write_charges
from shared.queue.bell import Bell
from shared.queue.tasks import DELIVERIES, jobs_topic
from shared.store.claims import (
    close_attempts,
    end_lost,
    expired_leases,
    open_attempts_of,
    requeue_lost,
)
from shared.store.engine import Store, Tx
from shared.store.records import AttemptClosing, Finish, JobRow
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import JOB_RECOVERIES, JOBS_FINISHED, LOST_ATTEMPTS

AT_ONCE = 50
"""Jobs per transaction."""

log = get_logger(__name__)


class _Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What was done about one job: how it ended, if it did, and what to ring."""

    job: JobRow
    lost_attempts: int
    ended: str | None = None
    topic: str | None = None


async def rescue_jobs(store: Store, bell: Bell, ids: IdMaker, *, booked: bool = True) -> int:
    """Take back up to 50 jobs whose lease has ended; return how many. Harmless twice.

    Their open attempts become `lost` and cost their estimate, which is `booked` where there is a
    ledger. The jobs wait again, unless they
    were being cancelled, are past their deadline, or have cost too many workers.
    """
    async with store.write() as tx:
        now = await tx.now()
        jobs = await expired_leases(tx, now, AT_ONCE)
        lost_charges = await _write_off(tx, jobs, now, booked=booked)
        taken = [await _take_back(tx, ids, job, now, len(lost_charges[job.id])) for job in jobs]
    for one in taken:
        _note(one)
    for topic in sorted({one.topic for one in taken if one.topic is not None}):
        bell.ring(topic)
    return len(jobs)


async def _take_back(
    tx: Tx, ids: IdMaker, job: JobRow, now: datetime, lost_attempts: int
) -> _Taken:
    ending = _ending(job, now)
    if ending is None:
        await requeue_lost(tx, job, now)
        return _Taken(job=job, lost_attempts=lost_attempts, topic=jobs_topic(job.priority))
    status, error = ending
    end = Finish(status=status, error=failure.ended(error), at=now)
    told = await end_lost(tx, job, end) and await tell(tx, ids, job, end)
    return _Taken(
        job=job, lost_attempts=lost_attempts, ended=status, topic=DELIVERIES if told else None
    )


async def _write_off(
    tx: Tx, jobs: Sequence[JobRow], now: datetime, *, booked: bool
) -> dict[str, list[Charge]]:
    """Book the calls nobody knows the end of at their estimate, and let the jobs' holds go.

    Returns the charges by job. All are written at once, because two caretakers that go through
    the same budgets job by job could wait for each other.
    """
    lost_charges: dict[str, list[Charge]] = {}
    for job in jobs:
        attempts = await open_attempts_of(tx, job.id)
        lost_charges[job.id] = [lost(decode_opening(row.opening), now) for row in attempts]
    charges = [charge for those in lost_charges.values() for charge in those]
    closings = [
        AttemptClosing(id=charge.opening.attempt_id, outcome=Outcome.LOST.value, code=charge.code)
        for charge in charges
    ]
    await close_attempts(tx, closings)
    await write_charges(tx, charges if booked else (), release=[grant_of(job.id) for job in jobs])
    return lost_charges


def _note(taken: _Taken) -> None:
    job = taken.job
    JOB_RECOVERIES.inc()
    LOST_ATTEMPTS.inc(taken.lost_attempts)
    if taken.ended is not None:
        JOBS_FINISHED.labels(taken.ended).inc()
    log.warning(
        "job.recovered",
        job_id=job.id,
        owner=job.lease_owner,
        recoveries=job.recoveries + 1,
        lost_attempts=taken.lost_attempts,
        ended=taken.ended,
    )


def _ending(job: JobRow, now: datetime) -> tuple[FinalStatus, JobEnded] | None:
    if job.status == "cancelling":
        return "cancelled", failure.cancelled()
    if job.deadline <= now:
        return "expired", failure.expired()
    if job.recoveries >= MOST_RECOVERIES:
        return "failed", failure.worker_lost()
    return None
