"""What many runs of jobs write together: a few statements, however many the runs are.

A statement costs as much as a job's whole call: the way to the database and back, and the CPU to
make it. Rows are always locked in one order, so that no two groups wait for each other.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.records import AttemptClosing, AttemptRow, Finish
from shared.store.tables import LEASED, attempt, job, job_content

Lease = tuple[str, int]
"""A job's id and the token under which it is held."""

_CLOSED = tuple(name for name in AttemptClosing.__struct_fields__ if name != "id")


async def still_held(tx: Tx, leases: Iterable[Lease], *, to_change: bool) -> frozenset[Lease]:
    """Return those that are still held; they then are until this transaction ends.

    With `to_change` the jobs' rows are locked for a change, otherwise against one.
    """
    wanted = frozenset(leases)
    found = await tx.connection.execute(
        sa.select(job.c.id, job.c.lease_token)
        .where(job.c.id.in_({job_id for job_id, _ in wanted}), LEASED)
        .order_by(job.c.id)
        .with_for_update(read=not to_change, of=job)
    )
    return wanted & {(row.id, row.lease_token) for row in found}


async def insert_attempts(tx: Tx, rows: Sequence[AttemptRow]) -> None:
    """Record that providers are about to be called, for jobs that are still held."""
    if rows:
        await tx.connection.execute(
            sa.insert(attempt), [msgspec.structs.asdict(row) for row in rows]
        )


async def close_attempts(tx: Tx, closings: Sequence[AttemptClosing]) -> None:
    """Record how attempts ended; one that has an outcome already keeps it."""
    if not closings:
        return
    await tx.connection.execute(
        sa.update(attempt)
        .where(attempt.c.id == sa.bindparam("b_id"), attempt.c.outcome.is_(None))
        .values({name: sa.bindparam(f"b_{name}") for name in _CLOSED}),
        [
            {f"b_{name}": value for name, value in msgspec.structs.asdict(closing).items()}
            for closing in closings
        ],
    )


async def finish_held(tx: Tx, ends: Mapping[str, Finish]) -> None:
    """End jobs that are held and locked for a change."""
    if not ends:
        return
    values = {job_id: ended(end) for job_id, end in ends.items()}
    names = next(iter(values.values()))
    await tx.connection.execute(
        sa.update(job)
        .where(job.c.id == sa.bindparam("b_id"))
        .values({name: sa.bindparam(f"b_{name}") for name in names}),
        [
            {"b_id": job_id, **{f"b_{name}": value for name, value in one.items()}}
            for job_id, one in values.items()
        ],
    )
    bodies = {id_: end.response_body for id_, end in ends.items() if end.response_body is not None}
    if bodies:
        await tx.connection.execute(
            sa.update(job_content)
            .where(job_content.c.job_id == sa.bindparam("b_id"))
            .values(response_body=sa.bindparam("b_body")),
            [{"b_id": job_id, "b_body": body} for job_id, body in bodies.items()],
        )


def ended(end: Finish) -> dict[str, object]:
    """Return the columns of a job that is over."""
    return {
        "status": end.status,
        "response_status": end.response_status,
        "result_key": end.result_key,
        "error": end.error,
        "usage": end.usage,
        "cost_nanousd": end.cost_nanousd,
        "finished_at": end.at,
        "lease_owner": None,
        "lease_until": None,
    }
