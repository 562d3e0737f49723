"""Running a claimed job: the gateway's call, then one transaction that records what it led to."""

import enum
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from shared.chat.usage import Usage
from shared.clock import Clock, Deadline
from shared.errors import (
    ChainFailed,
    DeadlineExceeded,
    FailedAttempt,
    GatewayError,
    JobEnded,
    StoreUnavailable,
)
from shared.ids import IdMaker
from shared.jobs import failure
from shared.jobs.books import JobBooks
from shared.jobs.commits import Commits, Ending, Page
from shared.jobs.ending import tell
from shared.jobs.lease import Interrupt, Interrupted, LeaseLost, Reason
from shared.jobs.results import set_aside
from shared.jobs.state import FinalStatus
from shared.jobs.stream.broken import ToldInPart
from shared.jobs.verdict import Ended, Later, Past, after_failure
from shared.ledger.books import Books
from shared.ledger.holds import Holds
from shared.objects.port import Objects
from shared.queue.bell import Bell
from shared.queue.tasks import DELIVERIES
from shared.store.claims import release, reschedule
from shared.store.engine import Store, Tx
from shared.store.job_events import EventRows, insert_events, is_cancelling
from shared.store.ledger import job_cost
from shared.store.records import Finish, JobRow
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import JOBS_FINISHED

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0

log = get_logger(__name__)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The call's whole answer, as the job keeps it; `last` are the last events of a stream."""

    body: bytes
    status: int = 200
    usage: Usage | None = None
    attempts: tuple[FailedAttempt, ...] = ()
    last: EventRows | None = None


class Call(Protocol):
    """Makes the job's call: the gateway's `complete`."""

    async def __call__(
        self, job: JobRow, *, deadline: Deadline, books: Books, holds: Holds
    ) -> Reply:
        """Return the answer.

        Raises:
            GatewayError: there is none; what it means is decided by `after_failure`.
            LeaseLost: the books could not be opened under the job's lease.
        """


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """What running a job needs.

    `holds` makes the holds of one run, `draw` a number from 0 to 1. Through `commits` runs share
    transactions; without it each has its own.
    """

    store: Store
    objects: Objects
    bell: Bell
    call: Call
    holds: Callable[[JobRow], Holds]
    describe: failure.Describe
    clock: Clock
    ids: IdMaker
    draw: Callable[[], float]
    commits: Commits | None = None


class Ran(enum.Enum):
    """What a run came to."""

    FINISHED = "finished"
    RESCHEDULED = "rescheduled"
    RELEASED = "released"
    LEASE_LOST = "lease_lost"


class _Run:
    """One run of one job; its methods are the ways it can end, each one transaction."""

    def __init__(self, job: JobRow, desk: Desk, interrupt: Interrupt, books: JobBooks) -> None:
        self.job = job
        self.desk = desk
        self.interrupt = interrupt
        self.books = books
        self._commits = desk.commits or Commits(desk.store)
        self._lease = job.id, job.lease_token

    async def finish(
        self,
        status: FinalStatus,
        *,
        reply: Reply | None = None,
        error: GatewayError | None = None,
    ) -> Ran:
        job, desk = self.job, self.desk
        shown = _shown(reply, error)
        told = taken_back = False
        key: str | None = None

        async def store() -> None:
            nonlocal key
            if reply is not None:
                key = await set_aside(desk.objects, job, reply.body)

        async def write(page: Page) -> bool:
            nonlocal told, taken_back
            tx = page.tx
            if reply is not None and job.response_id and await is_cancelling(tx, job.id):
                taken_back = True  # its caller has been told that it is cancelled
                return False
            end = Finish(
                status=status,
                response_status=None if reply is None else reply.status,
                response_body=None if reply is None or key is not None else reply.body,
                result_key=key,
                error=None if error is None else _described(error, desk.describe),
                usage=None if reply is None else reply.usage,
                cost_nanousd=await self._cost_nanousd(tx),
                at=await tx.now(),
            )
            page.end(job.id, end)
            self.books.enter(page, shown)
            if reply is not None and reply.last is not None:
                await insert_events(tx, reply.last, end.at)
            answer = None if reply is None else reply.body
            told = await tell(tx, desk.ids, job, end, answer)
            return True

        if not (await self._until_done(store) and await self._commit(write)):
            if taken_back:
                return await self.finish("cancelled", error=failure.cancelled())
            return Ran.LEASE_LOST
        if told:
            desk.bell.ring(DELIVERIES)
        JOBS_FINISHED.labels(status).inc()
        code = None if error is None else error.code
        log.info("job.finished", job_id=job.id, status=status, code=code)
        return Ran.FINISHED

    async def _cost_nanousd(self, tx: Tx) -> int | None:
        """Return what the job cost with the runs before this one, lost attempts included."""
        this = self.books.cost_nanousd
        if self.job.lease_token <= 1 or self.books.unpriced:
            return this
        before = await job_cost(tx, self.job.id)
        return this if before is None else before + (this or 0)

    async def reschedule(self, later: Later, error: Exception) -> Ran:
        job = self.job
        cancelling = False

        async def write(page: Page) -> bool:
            nonlocal cancelling
            cancelling = await is_cancelling(page.tx, job.id)
            if cancelling:
                return False
            kept = await reschedule(
                page.tx,
                job_id=job.id,
                token=job.lease_token,
                not_before=later.not_before,
                spent=later.spent,
                waits_for=later.waits_for,
                position=self.books.position,
            )
            if kept:
                self.books.enter(page, _shown(None, error))
            return kept

        if not await self._commit(write):
            if cancelling:
                return await self.finish("cancelled", error=failure.cancelled())
            return Ran.LEASE_LOST
        log.info(
            "job.rescheduled",
            job_id=job.id,
            code=getattr(error, "code", "internal_error"),
            spent=later.spent,
            waits_for=later.waits_for,
            not_before=later.not_before.isoformat(),
        )
        return Ran.RESCHEDULED

    async def release(self) -> Ran:
        async def write(page: Page) -> bool:
            kept = await release(
                page.tx,
                job_id=self.job.id,
                token=self.job.lease_token,
                position=self.books.position,
            )
            if kept:
                self.books.enter(page)
            return kept

        return Ran.RELEASED if await self._commit(write) else Ran.LEASE_LOST

    async def _commit(self, write: Callable[[Page], Awaitable[bool]]) -> bool:
        """Write under the lease; False when it is gone."""
        kept = False

        async def once() -> None:
            nonlocal kept
            kept = await self._commits.end(Ending(lease=self._lease, write=write))

        return await self._until_done(once) and kept

    async def _until_done(self, task: Callable[[], Awaitable[None]]) -> bool:
        """Do the task; False when the lease is lost before the stores let us.

        An answer that was paid for is not thrown away because a store blinks: this goes on until
        it is written or the lease is known to be lost.
        """
        pause_s = FIRST_PAUSE_S
        while self.interrupt.reason is not Reason.LEASE_LOST:
            try:
                await task()
            except StoreUnavailable as error:
                log.warning("job.write_failed", job_id=self.job.id, reason=error.message)
            else:
                return True
            await self.desk.clock.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
        return False


async def run_job(job: JobRow, desk: Desk, interrupt: Interrupt) -> Ran:
    """Run a job that has just been claimed, and record what came of it.

    Returns when the job is final, waits again, or is somebody else's. `interrupt` ends it from
    outside: as cancelled, without a trace (lease lost), or by giving it back (stopping).

    Raises:
        CancelledError: the caller's own; the lease then runs out by itself.
    """
    try:
        ran = await _run(job, desk, interrupt)
    except LeaseLost:
        ran = Ran.LEASE_LOST
    if ran is Ran.LEASE_LOST:
        log.warning("job.lease_lost", job_id=job.id, token=job.lease_token)
    return ran


async def _run(job: JobRow, desk: Desk, interrupt: Interrupt) -> Ran:
    books = JobBooks(desk.store, job, desk.commits)
    run = _Run(job, desk, interrupt, books)
    left_s = (job.deadline - desk.clock.now()).total_seconds()
    if left_s <= 0:
        return await run.finish("expired", error=failure.expired())
    deadline = Deadline.after(left_s, desk.clock)
    try:
        reply = await interrupt.watch(
            desk.call(job, deadline=deadline, books=books, holds=desk.holds(job))
        )
    except Interrupted as interrupted:
        return await _interrupted(run, interrupted.reason)
    except LeaseLost:
        raise
    except ToldInPart as broken:
        return await run.finish("failed", error=broken.error)
    except Exception as error:  # noqa: BLE001 (a bug must end in a row too, not in a loop)
        return await _failed(run, error)
    return await run.finish("succeeded", reply=reply)


async def _interrupted(run: _Run, reason: Reason) -> Ran:
    match reason:
        case Reason.CANCELLED:
            return await run.finish("cancelled", error=failure.cancelled())
        case Reason.STOPPING:
            return await run.release()
        case Reason.LEASE_LOST:
            return Ran.LEASE_LOST


async def _failed(run: _Run, error: Exception) -> Ran:
    if not isinstance(error, GatewayError):
        log.error("job.broke", job_id=run.job.id, exc_info=error)
    past = Past(
        deadline=run.job.deadline,
        attempts_spent=run.job.attempts_spent,
        deferrals=run.job.deferrals,
        on_budget=run.job.on_budget,
    )
    decided = after_failure(past, error, now=run.desk.clock.now(), draw=run.desk.draw())
    match decided:
        case Later():
            return await run.reschedule(decided, error)
        case Ended(status=status, error=shown):
            return await run.finish(status, error=shown)


def _shown(reply: Reply | None, error: Exception | None) -> tuple[FailedAttempt, ...]:
    if reply is not None:
        return reply.attempts
    return error.attempts if isinstance(error, ChainFailed | DeadlineExceeded) else ()


def _described(error: GatewayError, describe: failure.Describe) -> dict[str, object]:
    return failure.ended(error) if isinstance(error, JobEnded) else describe(error)
