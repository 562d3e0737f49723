"""Answers that the cache has given: how many, and what they saved, by the hour."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from shared.store.engine import Tx
from shared.store.money_tables import cache_hit

HOUR = timedelta(hours=1)

_COUNTS = ("hits", "input_tokens", "output_tokens", "saved_nanousd")


class CacheHits(msgspec.Struct, frozen=True, kw_only=True):
    """Hits of one tenant in one hour on answers of one model; `starts_at` is the hour's start.

    The tokens and `saved_nanousd` are what asking again would have taken; what has no known price
    saves nothing.
    """

    tenant_id: str
    starts_at: datetime
    provider: str
    model: str
    hits: int
    input_tokens: int
    output_tokens: int
    saved_nanousd: int


class CacheTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of hits."""

    hits: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    saved_nanousd: int = 0


async def add_cache_hits(tx: Tx, rows: Sequence[CacheHits]) -> None:
    """Add to what is counted."""
    insert = tx.insert(cache_hit)
    statement = insert.on_conflict_do_update(
        index_elements=list(cache_hit.primary_key.columns.keys()),
        set_={name: cache_hit.c[name] + insert.excluded[name] for name in _COUNTS},
    )
    # In one order for all writers, so that none waits for another in a circle.
    ordered = sorted(rows, key=lambda row: (row.tenant_id, row.starts_at, row.provider, row.model))
    await tx.connection.execute(statement, [msgspec.structs.asdict(row) for row in ordered])


async def cache_totals(
    tx: Tx, tenant_id: str | None, since: datetime, until: datetime
) -> CacheTotals:
    """Return the sums of the hours that lie at least partly in `[since, until)`.

    Those of all tenants without a `tenant_id`.
    """
    sums = (sa.func.sum(cache_hit.c[name]).label(name) for name in _COUNTS)
    found = await tx.connection.execute(
        sa.select(*sums).where(
            sa.true() if tenant_id is None else cache_hit.c.tenant_id == tenant_id,
            cache_hit.c.starts_at > since - HOUR,
            cache_hit.c.starts_at < until,
        )
    )
    row = found.one()._asdict()
    return CacheTotals(**{name: int(row[name] or 0) for name in _COUNTS})
