"""Responses that callers asked to be kept: read again, gone on from, deleted, pruned.

Each row holds its own question and answer and names the one it goes on from. As long as one of
them is kept, so is all that it goes on from.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.records import JobRow
from shared.store.rows import JOBS, job_of
from shared.store.tables import job, response

MOST_TURNS = 10_000
"""No conversation is longer; it also ends a circle, should there ever be one."""

AT_ONCE = 500
"""Rows of one pruning: on SQLite a long transaction keeps all other writers waiting."""


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. `input` is its own items as a JSON list, `body` the response object.

    `context_bytes` is the size of both, with those of every turn before it.
    """

    id: str
    previous_id: str | None
    context_bytes: int
    input: bytes
    body: bytes


async def insert_response(
    tx: Tx, tenant_id: str, new: StoredResponse, *, at: datetime, expires_at: datetime
) -> bool:
    """Keep a response; False when the tenant has another of that id, which stays."""
    inserted = await tx.connection.execute(
        tx.insert(response)
        .values(
            tenant_id=tenant_id,
            created_at=at,
            expires_at=expires_at,
            **msgspec.structs.asdict(new),
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "id"])
        .returning(response.c.id)
    )
    return inserted.one_or_none() is not None


async def conclude_response(tx: Tx, tenant_id: str, response_id: str, body: bytes) -> None:
    """Give a response that was still to come what it has become; a deleted one stays so."""
    await tx.connection.execute(
        sa.update(response)
        .where(response.c.tenant_id == tenant_id, response.c.id == response_id)
        .values(body=body, context_bytes=response.c.context_bytes + len(body))
    )


async def stored_body(tx: Tx, tenant_id: str, response_id: str) -> bytes | None:
    """Return a response's body, also of one that its caller has deleted; None where none is."""
    found = await tx.connection.execute(
        sa.select(response.c.body).where(
            response.c.tenant_id == tenant_id, response.c.id == response_id
        )
    )
    return found.scalar_one_or_none()


async def job_of_response(tx: Tx, tenant_id: str, response_id: str) -> JobRow | None:
    """Return the job that makes the tenant's response, without its body; None without one."""
    found = await tx.connection.execute(
        JOBS.where(job.c.tenant_id == tenant_id, job.c.response_id == response_id)
    )
    row = found.one_or_none()
    return None if row is None else job_of(row)


async def keep_turns(tx: Tx, tenant_id: str, ids: Sequence[str], *, until: datetime) -> None:
    """Keep these at least until that moment, because a newer one goes on from them."""
    await tx.connection.execute(
        sa.update(response)
        .where(
            response.c.tenant_id == tenant_id,
            response.c.id.in_(ids),
            response.c.expires_at < until,
        )
        .values(expires_at=until)
    )


async def get_response(tx: Tx, tenant_id: str, response_id: str) -> StoredResponse | None:
    """Return the tenant's response; None for nobody's, somebody else's and a deleted one."""
    found = await tx.connection.execute(
        _TURNS.where(
            response.c.tenant_id == tenant_id,
            response.c.id == response_id,
            response.c.deleted_at.is_(None),
            response.c.expires_at > await tx.now(),
        )
    )
    row = found.one_or_none()
    return None if row is None else _turn_of(row)


async def turns_of(tx: Tx, tenant_id: str, response_id: str) -> list[StoredResponse]:
    """Return what leads up to the response and the response itself, oldest first.

    Turns that their caller has deleted are among them. Empty when there is no such response.
    """
    last = sa.select(response.c.id, response.c.previous_id, sa.literal(0).label("back")).where(
        response.c.tenant_id == tenant_id, response.c.id == response_id
    )
    chain = last.cte("chain", recursive=True)
    before = (
        sa.select(response.c.id, response.c.previous_id, chain.c.back + 1)
        .join(chain, response.c.id == chain.c.previous_id)
        .where(response.c.tenant_id == tenant_id, chain.c.back < MOST_TURNS)
    )
    chain = chain.union_all(before)
    rows = await tx.connection.execute(
        _TURNS.join(chain, response.c.id == chain.c.id)
        .where(response.c.tenant_id == tenant_id)
        .order_by(chain.c.back.desc())
    )
    return [_turn_of(row) for row in rows]


async def delete_response(tx: Tx, tenant_id: str, response_id: str) -> bool:
    """Delete a response; False when the tenant has none of that id.

    One that others go on from stays with them, unseen, and goes when they do.
    """
    own = (response.c.tenant_id == tenant_id, response.c.id == response_id)
    visible = response.c.deleted_at.is_(None)
    later = response.alias("later")
    gone_on_from = sa.exists().where(
        later.c.tenant_id == tenant_id, later.c.previous_id == response_id
    )
    deleted = await tx.connection.execute(
        sa.delete(response).where(*own, visible, sa.not_(gone_on_from))
    )
    if deleted.rowcount > 0:
        return True
    hidden = await tx.connection.execute(
        sa.update(response).where(*own, visible).values(deleted_at=await tx.now())
    )
    return hidden.rowcount > 0


async def prune_responses(tx: Tx, now: datetime) -> int:
    """Delete up to AT_ONCE responses whose time is over; return how many."""
    over = sa.select(response.c.tenant_id, response.c.id).where(response.c.expires_at <= now)
    deleted = await tx.connection.execute(
        sa.delete(response).where(
            sa.tuple_(response.c.tenant_id, response.c.id).in_(over.limit(AT_ONCE))
        )
    )
    return deleted.rowcount


_TURNS = sa.select(
    response.c.id,
    response.c.previous_id,
    response.c.context_bytes,
    response.c.input,
    response.c.body,
)


def _turn_of(row: sa.Row[*tuple[Any, ...]]) -> StoredResponse:
    return StoredResponse(
        id=row.id,
        previous_id=row.previous_id,
        context_bytes=row.context_bytes,
        input=row.input,
        body=row.body,
    )
