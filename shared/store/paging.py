"""Pages of what is listed by its age: where one goes on."""

import re

import sqlalchemy as sa

from shared.store.engine import Tx

_CHANCE_AND_TIME = re.compile(r"[0-9a-f]{32}")


async def beyond(
    tx: Tx, table: sa.Table, after: str, *, tenant_id: str | None, newest_first: bool = True
) -> sa.ColumnElement[bool]:
    """Return the condition of the rows that are listed behind the one with the id `after`.

    Rows are listed by `created_at` and id. When that row is not there, or not the tenant's (any
    tenant's: None), its id says where it was, because ids sort by creation; behind what is no id of
    such a row there is nothing. The ids of a table begin with its name.
    """
    row = table.c
    mine = () if tenant_id is None else (row.tenant_id == tenant_id,)
    found = await tx.connection.execute(sa.select(row.created_at).where(row.id == after, *mine))
    created_at = found.scalar_one_or_none()
    if created_at is not None:
        place = sa.tuple_(row.created_at, row.id)
        last = sa.tuple_(sa.literal(created_at, row.created_at.type), sa.literal(after))
        return place < last if newest_first else place > last
    name, _, rest = after.partition("_")
    if name != table.name or not _CHANCE_AND_TIME.fullmatch(rest):
        return sa.false()
    return row.id < after if newest_first else row.id > after
