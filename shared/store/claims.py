"""Jobs as workers and caretakers see them: every change of a job's status.

A job under a lease changes only with its token; a waiting one only while it still waits. Whoever
is told False has written nothing, and has no say about the job any more.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from shared.store.batches import release_batches
from shared.store.engine import Tx
from shared.store.groups import close_attempts, ended, insert_attempts, still_held
from shared.store.money_tables import ledger
from shared.store.records import (
    AttemptRow,
    Finish,
    JobRow,
    Renewed,
)
from shared.store.rows import JOBS, attempt_of, attempts_where, job_of
from shared.store.tables import (
    DELIVERING,
    LEASED,
    WAITING,
    attempt,
    delivery,
    in_status,
    job,
    job_content,
)
from shared.store.turns import claim, release_due

__all__ = [
    "claim",
    "close_attempts",
    "end_lost",
    "end_unleased",
    "expired_leases",
    "finish",
    "is_held",
    "open_attempt",
    "open_attempts_of",
    "past_deadline",
    "release",
    "release_due",
    "release_owner",
    "renew",
    "request_cancel",
    "requeue_lost",
    "reschedule",
]

_RUNNING = in_status(job, "running")
_CANCELLING = in_status(job, "cancelling")


async def renew(tx: Tx, *, owner: str, held: Mapping[str, int], lease_s: float) -> Renewed:
    """Prolong the leases of `held` (token by job id) to `lease_s` seconds from now.

    A lease that ran out but was not taken back yet is prolonged too. Calls for jobs in `lost`
    must be aborted without a trace, those in `cancelling` aborted and finished as cancelled.
    """
    if not held:
        return Renewed()
    # Locked first, in the order in which runs that share a transaction lock them.
    ours = await still_held(tx, held.items(), to_change=True)
    renewed = await tx.connection.execute(
        sa.update(job)
        .where(job.c.id.in_({job_id for job_id, _ in ours}), job.c.lease_owner == owner)
        .values(lease_until=await tx.now() + timedelta(seconds=lease_s))
        .returning(job.c.id, job.c.status)
    )
    status_of = {row.id: row.status for row in renewed}
    return Renewed(
        kept=frozenset(status_of),
        lost=frozenset(held) - frozenset(status_of),
        cancelling=frozenset(id_ for id_, status in status_of.items() if status == "cancelling"),
    )


async def is_held(tx: Tx, *, job_id: str, token: int) -> bool:
    """Return whether the job is still ours; it then is until this transaction ends."""
    return bool(await still_held(tx, [(job_id, token)], to_change=False))


async def open_attempt(tx: Tx, *, token: int, row: AttemptRow) -> bool:
    """Record that a provider is about to be called; False when the lease is gone."""
    if not await is_held(tx, job_id=row.job_id, token=token):
        return False
    await insert_attempts(tx, [row])
    return True


async def open_attempts_of(tx: Tx, job_id: str) -> list[AttemptRow]:
    """Return a job's attempts without an outcome, oldest first."""
    rows = await tx.connection.execute(
        attempts_where(attempt.c.job_id == job_id, attempt.c.outcome.is_(None))
    )
    return [attempt_of(row) for row in rows]


async def finish(tx: Tx, *, job_id: str, token: int, end: Finish) -> bool:
    """End a job that we hold; False when the lease is gone.

    The caller writes ledger rows, closings and the event in the same transaction, and raises to
    roll all of it back when this returns False.
    """
    return await _end(tx, job_id, end, *_held(token))


async def end_lost(tx: Tx, row: JobRow, end: Finish) -> bool:
    """End a job whose holder is gone; False when somebody changed it since it was read."""
    return await _end(tx, row.id, end, *_held(row.lease_token))


async def end_unleased(
    tx: Tx, job_id: str, end: Finish, expect: Sequence[str] = ("queued", "scheduled")
) -> bool:
    """End a job that nobody holds; False when its status is none of `expect` any more."""
    return await _end(tx, job_id, end, job.c.status.in_(expect))


async def reschedule(
    tx: Tx,
    *,
    job_id: str,
    token: int,
    not_before: datetime,
    spent: bool,
    waits_for: str | None = None,
    position: Mapping[str, object] | None = None,
) -> bool:
    """Let a job that we hold wait until `not_before`; False when the lease is gone.

    `spent` says which counter grows: attempts that cost one, or free deferrals. `waits_for` is a
    code, for people; `position` is where its chain goes on. A job that is being cancelled stays
    so, and its lease ends: the caretaker ends the job.
    """
    counter = job.c.attempts_spent if spent else job.c.deferrals
    return await _let_go(
        tx,
        job_id,
        token,
        status="scheduled",
        changes={
            "not_before": not_before,
            "waits_for": waits_for,
            "position": position,
            counter.name: counter + 1,
        },
    )


async def release(
    tx: Tx, *, job_id: str, token: int, position: Mapping[str, object] | None = None
) -> bool:
    """Put a job that we hold back into the queue at no cost; False when the lease is gone.

    `position` is where its chain goes on. A job that is being cancelled stays so, and its lease
    ends: the caretaker ends the job.
    """
    return await _let_go(tx, job_id, token, status="queued", changes={"position": position})


async def release_owner(tx: Tx, owner: str) -> int:
    """End every lease of a process that is known to be dead; return how many.

    The jobs are then `expired_leases` at once, webhook deliveries and batches due again. An owner
    that lives after all renews the jobs'.
    """
    now = await tx.now()
    jobs = await tx.connection.execute(
        sa.update(job).where(LEASED, job.c.lease_owner == owner).values(lease_until=now)
    )
    deliveries = await tx.connection.execute(
        sa.update(delivery)
        .where(DELIVERING, delivery.c.lease_owner == owner)
        .values(lease_until=now)
    )
    return jobs.rowcount + deliveries.rowcount + await release_batches(tx, owner)


async def expired_leases(tx: Tx, now: datetime, limit: int) -> list[JobRow]:
    """Return up to `limit` jobs whose lease has ended, locked for this transaction, no bodies.

    Jobs that another caretaker has locked are left out.
    """
    return await _locked(tx, LEASED, job.c.lease_until <= now, order=job.c.lease_until, limit=limit)


async def requeue_lost(tx: Tx, row: JobRow, at: datetime) -> bool:
    """Queue a running job whose holder is gone; False when somebody changed it since.

    The token grows, so that a holder that was only slow can write nothing.
    """
    requeued = await tx.connection.execute(
        sa.update(job)
        .where(job.c.id == row.id, job.c.lease_token == row.lease_token, _RUNNING)
        .values(
            status="queued",
            queued_at=at,
            recoveries=job.c.recoveries + 1,
            lease_token=job.c.lease_token + 1,
            lease_owner=None,
            lease_until=None,
        )
    )
    return requeued.rowcount > 0


async def request_cancel(tx: Tx, tenant_id: str, job_id: str, at: datetime) -> JobRow | None:
    """Note the wish to cancel: a running job is `cancelling` from now on; return the job.

    Without its body, locked for this transaction. A waiting one is for the caller to end with
    `end_unleased`, a final one stays. None when the tenant has no such job.
    """
    mine = (job.c.id == job_id, job.c.tenant_id == tenant_id)
    # First the lock: the row may be in the middle of being claimed, and is `queued` until then.
    await tx.connection.execute(sa.select(job.c.id).where(*mine).with_for_update())
    await tx.connection.execute(
        sa.update(job).where(*mine, _RUNNING).values(status="cancelling", cancelling_at=at)
    )
    row = (await tx.connection.execute(JOBS.where(*mine))).one_or_none()
    return None if row is None else job_of(row)


async def past_deadline(tx: Tx, now: datetime, limit: int) -> list[JobRow]:
    """Return up to `limit` waiting jobs whose deadline has passed, locked, without bodies."""
    return await _locked(tx, WAITING, job.c.deadline <= now, order=job.c.deadline, limit=limit)


def _held(token: int) -> tuple[sa.ColumnElement[bool], ...]:
    return job.c.lease_token == token, LEASED


async def _end(tx: Tx, job_id: str, end: Finish, *conditions: sa.ColumnElement[bool]) -> bool:
    values = ended(end)
    if end.response_status is None and end.cost_nanousd is None:  # what its runs cost is known
        paid = sa.select(sa.func.sum(ledger.c.cost_nanousd)).where(ledger.c.job_id == job_id)
        values["cost_nanousd"] = sa.cast(paid.scalar_subquery(), sa.BigInteger)
    changed = await tx.connection.execute(
        sa.update(job).where(job.c.id == job_id, *conditions).values(values)
    )
    if changed.rowcount == 0:
        return False
    if end.response_body is not None:
        await tx.connection.execute(
            sa.update(job_content)
            .where(job_content.c.job_id == job_id)
            .values(response_body=end.response_body)
        )
    return True


async def _let_go(
    tx: Tx, job_id: str, token: int, *, status: str, changes: Mapping[str, object]
) -> bool:
    now = await tx.now()
    ends = sa.literal(now, job.c.lease_until.type)
    released = await tx.connection.execute(
        sa.update(job)
        .where(job.c.id == job_id, *_held(token))
        .values(
            status=sa.case((_CANCELLING, "cancelling"), else_=status),
            lease_until=sa.case((_CANCELLING, ends), else_=None),
            lease_owner=None,
            queued_at=now,
            **changes,
        )
    )
    return released.rowcount > 0


async def _locked(
    tx: Tx,
    *conditions: sa.ColumnElement[bool],
    order: sa.Column[Any],
    limit: int,
) -> list[JobRow]:
    rows = await tx.connection.execute(
        JOBS.where(*conditions)
        .order_by(order, job.c.id)
        .limit(limit)
        .with_for_update(of=job, skip_locked=True)
    )
    return [job_of(row) for row in rows]
