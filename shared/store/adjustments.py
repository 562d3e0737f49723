"""Corrections of the ledger: rows beside the one they correct, and the sums made from both."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from shared.chat.usage import Usage
from shared.store.budgets import settle
from shared.store.engine import Tx
from shared.store.ledger import insert_ledger
from shared.store.money_tables import ledger
from shared.store.records import LedgerRow
from shared.store.side_tables import batch
from shared.store.tables import job

_OF_USAGE = frozenset(Usage.__struct_fields__)
_OF_ROW = frozenset(LedgerRow.__struct_fields__) - {"usage"}


async def rows_of(tx: Tx, attempt_id: str, *, to_correct: bool = False) -> list[LedgerRow]:
    """Return an attempt's row and then its corrections, oldest first; nothing for none.

    `to_correct` locks the row: corrections of one attempt come one after the other.
    """
    query = sa.select(ledger).where(ledger.c.attempt_id == attempt_id)
    found = await tx.connection.execute(query.with_for_update() if to_correct else query)
    row = found.one_or_none()
    if row is None:
        return []
    corrections = await tx.connection.execute(
        sa.select(ledger)
        .where(ledger.c.adjusts == attempt_id)
        .order_by(ledger.c.recorded_at, ledger.c.attempt_id)
    )
    return [row_of(one._asdict()) for one in (row, *corrections)]


async def insert_correction(tx: Tx, row: LedgerRow) -> bool:
    """Write a correction and add it to all that was summed up before; False when it is there.

    Those are the windows of its budgets, and the costs of its job and batch where these are over.
    Closed spend windows get it as what came late.
    """
    if not await insert_ledger(tx, [row]):
        return False
    cost = row.cost_nanousd or 0
    await settle(tx, {(None, ref): cost for ref in row.budgets})
    for table, name in ((job, row.job_id), (batch, row.batch_id)):
        if name is not None:
            await tx.connection.execute(
                sa.update(table)
                .where(table.c.id == name, table.c.cost_nanousd.is_not(None))
                .values(cost_nanousd=table.c.cost_nanousd + cost)
            )
    return True


def row_of(values: Mapping[str, Any]) -> LedgerRow:
    """Return a row of the ledger, by the names of its columns, as it was written."""
    usage = Usage(**{name: values[name] for name in _OF_USAGE})
    return LedgerRow(usage=usage, **{name: values[name] for name in _OF_ROW})
