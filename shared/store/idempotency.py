"""Requests that their callers named with an Idempotency-Key, and what they were answered.

One owner at a time answers a named request, for as long as it says that it is still at it. Once
there is an answer, or a job, the name stands for that until it expires.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.side_tables import idempotency_key

AT_ONCE = 500
"""Rows of one pruning: on SQLite a long transaction keeps all other writers waiting."""

KEPT_FOR = timedelta(hours=24)
"""How long a name stands for its answer; a job's name at least until the job's deadline."""


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its caller names it. `route` is such as `POST /v1/chat/completions`."""

    tenant_id: str
    route: str
    key: str


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the first request of a name.

    `locked`: it is being answered now. `job_id`: the job it became. No `status`: it has no answer
    that was kept; a `status` without `body`: the answer was too large to be kept.
    """

    fingerprint: str
    locked: bool
    job_id: str | None
    status: int | None
    headers: Mapping[str, str]
    body: bytes | None


async def take_name(
    tx: Tx, named: Named, *, fingerprint: str, owner: str, lock_s: float
) -> Earlier | None:
    """Make `owner` the one who answers, for `lock_s` seconds; else return what was there before.

    A name whose owner is gone without an answer is free, and so is one that has expired.
    """
    now = await tx.now()
    insert = tx.insert(idempotency_key).values(
        **msgspec.structs.asdict(named),
        fingerprint=fingerprint,
        owner=owner,
        locked_until=now + timedelta(seconds=lock_s),
        created_at=now,
        expires_at=now + KEPT_FOR,
    )
    row = idempotency_key.c
    fresh = {column.name: insert.excluded[column.name] for column in row if not column.primary_key}
    unanswered = sa.and_(row.status.is_(None), row.job_id.is_(None))
    unlocked = sa.or_(row.locked_until.is_(None), row.locked_until <= now)
    taken = await tx.connection.execute(
        insert.on_conflict_do_update(
            index_elements=["tenant_id", "route", "key"],
            set_=fresh,
            where=sa.or_(row.expires_at <= now, sa.and_(unanswered, unlocked)),
        ).returning(row.owner)
    )
    if taken.one_or_none() is not None:
        return None
    found = (
        await tx.connection.execute(sa.select(idempotency_key).where(*_is(named)))
    ).one_or_none()
    if found is None:  # let go of in between
        return await take_name(tx, named, fingerprint=fingerprint, owner=owner, lock_s=lock_s)
    return Earlier(
        fingerprint=found.fingerprint,
        locked=found.locked_until is not None and found.locked_until > now,
        job_id=found.job_id,
        status=found.status,
        headers=found.headers or {},
        body=found.body,
    )


async def prolong_name(tx: Tx, named: Named, *, owner: str, lock_s: float) -> bool:
    """Stay the one who answers for `lock_s` seconds more; False when somebody else is."""
    until = await tx.now() + timedelta(seconds=lock_s)
    return await _change(tx, named, owner, locked_until=until)


async def bind_job(tx: Tx, named: Named, *, owner: str, job_id: str, until: datetime) -> bool:
    """Let the name stand for a job at least `until` that moment; False when it is not ours.

    Belongs in the transaction that makes the job, to be rolled back together on False.
    """
    ends = sa.literal(until, idempotency_key.c.expires_at.type)
    later = sa.case((idempotency_key.c.expires_at < ends, ends), else_=idempotency_key.c.expires_at)
    return await _change(tx, named, owner, job_id=job_id, expires_at=later)


async def keep_answer(
    tx: Tx,
    named: Named,
    *,
    owner: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes | None,
) -> bool:
    """Let the name stand for this answer; False when the name is not ours and nothing is kept.

    In the transaction that does the work it is kept exactly when the work is done.
    """
    return await _change(tx, named, owner, status=status, headers=dict(headers), body=body)


async def let_go(tx: Tx, named: Named, *, owner: str) -> None:
    """Answer no longer: a name without answer or job is free again."""
    row = idempotency_key.c
    await tx.connection.execute(
        sa.delete(idempotency_key).where(
            *_is(named), row.owner == owner, row.status.is_(None), row.job_id.is_(None)
        )
    )
    await _change(tx, named, owner, owner=None, locked_until=None)


async def prune_names(tx: Tx, now: datetime) -> int:
    """Delete up to AT_ONCE names whose time is over; return how many."""
    row = idempotency_key.c
    over = sa.select(row.tenant_id, row.route, row.key).where(row.expires_at <= now)
    deleted = await tx.connection.execute(
        sa.delete(idempotency_key).where(
            sa.tuple_(row.tenant_id, row.route, row.key).in_(over.limit(AT_ONCE))
        )
    )
    return deleted.rowcount


async def _change(tx: Tx, named: Named, holder: str, **values: object) -> bool:
    changed = await tx.connection.execute(
        sa.update(idempotency_key)
        .where(*_is(named), idempotency_key.c.owner == holder)
        .values(values)
    )
    return changed.rowcount > 0


def _is(named: Named) -> tuple[sa.ColumnElement[bool], ...]:
    row = idempotency_key.c
    return row.tenant_id == named.tenant_id, row.route == named.route, row.key == named.key
