"""What the ledger must agree with, as queries that find where it does not.

Each is one statement, so it sees one moment, however many processes write meanwhile.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.identity import FILE_KEYS
from shared.store.adjustments import row_of
from shared.store.columns import Document, moment_of
from shared.store.engine import Tx
from shared.store.money_tables import (
    budget_alert,
    budget_grant,
    budget_window,
    ledger,
    spend_window,
)
from shared.store.records import BudgetRef, LedgerRow
from shared.store.side_tables import batch
from shared.store.tables import LEASED, OPEN, api_key, attempt, in_status, job

MOST = 100
"""What a query finds at most; the rest is found once that is mended."""

AT_ONCE = 2_000
"""Rows of a page when all are read."""

JOBS = "job:"
"""How the owners of jobs' grants begin."""

Row = sa.Row[Any]

_cost = ledger.c.cost_nanousd
_first = ledger.c.adjusts.is_(None)
_names = sa.type_coerce(ledger.c.budgets, sa.Text)
_documents = {
    column.name: msgspec.json.Decoder(column.type.type_).decode
    for column in ledger.c
    if isinstance(column.type, Document)
}
_UNREAD: dict[str, Any] = {"tags": {}, "budgets": ()}
_READ = [
    sa.type_coerce(column, sa.Text).label(column.name) if column.name in _documents else column
    for column in ledger.c
]


class Sums(msgspec.Struct):
    """A budget's window by the ledger, and by its own row; None where it has none."""

    spent_nanousd: int = 0
    spent_before_nanousd: int = 0
    settled_nanousd: int | None = None


class Paged(msgspec.Struct, frozen=True):
    """A row without its documents, and the names of those that cannot be read."""

    row: LedgerRow
    unreadable: tuple[str, ...]


async def budget_sums(tx: Tx, since: datetime, before: datetime) -> dict[BudgetRef, Sums]:
    """Return the windows that began since then, by their rows and by those of the ledger.

    `spent_before_nanousd` is of what was written before that moment. Rows whose budgets cannot be
    read are in none.
    """
    nothing = sa.cast(sa.null(), sa.BigInteger)
    spent = (
        sa.select(
            _names.label("name"),
            nothing.label("starts_at"),
            sa.func.sum(_cost).label("amount"),
            sa.func.sum(_cost).filter(ledger.c.recorded_at < before).label("before"),
        )
        .where(ledger.c.ended_at >= since, _names != "[]")
        .group_by(_names)
    )
    settled = sa.select(
        budget_window.c.budget_id,
        sa.type_coerce(budget_window.c.starts_at, sa.BigInteger),
        budget_window.c.settled_nanousd,
        nothing,
    ).where(budget_window.c.starts_at >= since)
    found: dict[BudgetRef, Sums] = {}
    for row in await tx.connection.execute(sa.union_all(spent, settled)):
        if row.starts_at is not None:
            ref = BudgetRef(budget_id=row.name, starts_at=moment_of(row.starts_at))
            found.setdefault(ref, Sums()).settled_nanousd = int(row.amount)
            continue
        for ref in _read("budgets", row.name) or ():
            if ref.starts_at >= since:
                sums = found.setdefault(ref, Sums())
                sums.spent_nanousd += int(row.amount or 0)
                sums.spent_before_nanousd += int(row.before or 0)
    return found


async def told_thresholds(tx: Tx, since: datetime) -> set[tuple[BudgetRef, int]]:
    """Return the thresholds of spending that were told of windows that began since then."""
    rows = await tx.connection.execute(
        sa.select(budget_alert).where(
            budget_alert.c.kind == "spent", budget_alert.c.starts_at >= since
        )
    )
    return {(_ref(row), row.threshold) for row in rows}


async def unfounded_alerts(tx: Tx, since: datetime) -> list[Row]:
    """Return thresholds that were told of windows never used, or not yet begun."""
    used = sa.exists().where(
        budget_window.c.budget_id == budget_alert.c.budget_id,
        budget_window.c.starts_at == budget_alert.c.starts_at,
    )
    early = budget_alert.c.created_at < budget_alert.c.starts_at
    return await _found(
        tx,
        sa.select(budget_alert).where(
            budget_alert.c.kind.in_(("spent", "forecast")),
            budget_alert.c.starts_at >= since,
            sa.or_(~used, early),
        ),
    )


async def below_zero(tx: Tx) -> list[Row]:
    """Return budget windows, and grants, that have less than nothing; their owner is None."""
    nobody = sa.cast(sa.null(), sa.Text).label("owner")
    windows = sa.select(nobody, budget_window.c.budget_id, budget_window.c.starts_at).where(
        sa.or_(budget_window.c.settled_nanousd < 0, budget_window.c.granted_nanousd < 0)
    )
    grants = sa.select(
        budget_grant.c.owner, budget_grant.c.budget_id, budget_grant.c.starts_at
    ).where(budget_grant.c.amount_nanousd < 0)
    return await _found(tx, sa.union_all(windows, grants))


async def orphan_grants(tx: Tx, expired_before: datetime) -> list[Row]:
    """Return what is held for jobs that do not run, and what should have been taken back."""
    runs = sa.exists().where(sa.literal(JOBS).concat(job.c.id) == budget_grant.c.owner, LEASED)
    held = budget_grant.c.owner.startswith(JOBS) & ~runs
    expired = budget_grant.c.expires_at < expired_before
    return await _found(
        tx,
        sa.select(budget_grant).where(budget_grant.c.amount_nanousd != 0, sa.or_(held, expired)),
    )


async def unbooked_attempts(tx: Tx, since: datetime) -> list[Row]:
    """Return jobs' calls that have ended and are not in the ledger.

    One that was cancelled in no time was never made.
    """
    made = sa.or_(attempt.c.outcome != "cancelled", attempt.c.duration_ms > 0)
    booked = sa.exists().where(ledger.c.attempt_id == attempt.c.id)
    return await _found(
        tx,
        sa.select(attempt.c.id, attempt.c.job_id, attempt.c.outcome).where(
            attempt.c.outcome.is_not(None), made, ~booked, attempt.c.started_at >= since
        ),
    )


async def unmade_rows(tx: Tx, since: datetime) -> list[Row]:
    """Return rows for calls that their job, which is still known, has not made."""
    made = sa.exists().where(attempt.c.id == ledger.c.attempt_id)
    return await _found(
        tx,
        sa.select(ledger.c.attempt_id, ledger.c.job_id)
        .join(job, job.c.id == ledger.c.job_id)
        .where(_first, ~made, ledger.c.ended_at >= since),
    )


async def other_outcomes(tx: Tx, since: datetime) -> list[Row]:
    """Return calls whose row says that they ended otherwise than the job does."""
    return await _found(
        tx,
        sa.select(attempt.c.id, attempt.c.outcome, ledger.c.outcome.label("booked"))
        .join(ledger, ledger.c.attempt_id == attempt.c.id)
        .where(
            ledger.c.ended_at >= since,
            sa.func.coalesce(attempt.c.outcome, "") != ledger.c.outcome,
        ),
    )


async def wrong_jobs(tx: Tx, since: datetime) -> list[Row]:
    """Return jobs that are over and did not cost what their rows say.

    A cost may be unknown where that of the answer is.
    """
    paid = sa.func.sum(_cost)
    unpriced = sa.func.count().filter(_cost.is_(None), ledger.c.outcome == "succeeded")
    return await _found(
        tx,
        sa.select(job.c.id, job.c.cost_nanousd, paid.label("paid"))
        .outerjoin(ledger, ledger.c.job_id == job.c.id)
        .where(~OPEN, job.c.created_at >= since)
        .group_by(job.c.id, job.c.cost_nanousd)
        .having(
            sa.or_(
                sa.and_(job.c.cost_nanousd.is_not(None), job.c.cost_nanousd != _zero(paid)),
                sa.and_(job.c.cost_nanousd.is_(None), paid.is_not(None), unpriced == 0),
            )
        ),
    )


async def paid_otherwise_than_once(tx: Tx, since: datetime) -> list[Row]:
    """Return jobs that succeeded by no call in the ledger, or by several."""
    calls = sa.func.count(ledger.c.attempt_id)
    won = sa.and_(ledger.c.job_id == job.c.id, ledger.c.outcome == "succeeded")
    return await _found(
        tx,
        sa.select(job.c.id, calls.label("calls"))
        .outerjoin(ledger, won)
        .where(in_status(job, "succeeded"), job.c.created_at >= since)
        .group_by(job.c.id)
        .having(calls != 1),
    )


async def wrong_batches(tx: Tx, since: datetime) -> list[Row]:
    """Return batches that are over and did not cost what the rows of their lines say."""
    paid = sa.func.sum(_cost)
    return await _found(
        tx,
        sa.select(batch.c.id, batch.c.cost_nanousd, paid.label("paid"))
        .outerjoin(ledger, ledger.c.batch_id == batch.c.id)
        .where(batch.c.cost_nanousd.is_not(None), batch.c.created_at >= since)
        .group_by(batch.c.id, batch.c.cost_nanousd)
        .having(batch.c.cost_nanousd != _zero(paid)),
    )


COUNTED = ("_tokens", "_characters", "_searches", "_ms", "reported_nanousd")
"""How the columns end that are never below zero, beside the cost."""


async def wrong_rows(tx: Tx, since: datetime, outcomes: Collection[str]) -> list[Row]:
    """Return rows that cannot be.

    That is a cost or count below zero, a cost without a price, a price without a cost, an end that
    is none of the `outcomes`, a lost call that is not flagged.
    """
    counts = [column for column in ledger.c if column.name.endswith(COUNTED)]
    priced = ledger.c.price_source.is_not(None)
    return await _found(
        tx,
        sa.select(ledger.c.attempt_id, _cost, ledger.c.outcome).where(
            ledger.c.ended_at >= since,
            _first,
            sa.or_(
                _cost < 0,
                *(column < 0 for column in counts),
                sa.and_(priced, _cost.is_(None)),
                sa.and_(~priced, _cost > 0),
                ledger.c.outcome.not_in(outcomes),
                sa.and_(ledger.c.outcome == "lost", ~ledger.c.estimated),
            ),
        ),
    )


async def moved_rows(tx: Tx, since: datetime) -> list[Row]:
    """Return rows of another tenant than their job or their key, as far as these are known."""
    whose = ledger.c.tenant_id
    of_file = sa.literal(FILE_KEYS).concat(whose).concat("/")
    begin = sa.func.substr(ledger.c.key_id, 1, sa.func.length(of_file))
    return await _found(
        tx,
        sa.select(ledger.c.attempt_id, whose, ledger.c.job_id, ledger.c.key_id)
        .outerjoin(job, job.c.id == ledger.c.job_id)
        .outerjoin(api_key, api_key.c.id == ledger.c.key_id)
        .where(
            ledger.c.ended_at >= since,
            sa.or_(
                job.c.tenant_id != whose,
                api_key.c.tenant_id != whose,
                sa.and_(ledger.c.key_id.startswith(FILE_KEYS), begin != of_file),
            ),
        ),
    )


async def wrong_corrections(tx: Tx, since: datetime) -> list[Row]:
    """Return adjustments of nothing, of another tenant's call or of each other."""
    right = sa.alias(ledger, "corrected")
    exists = sa.exists().where(
        right.c.attempt_id == ledger.c.adjusts,
        right.c.adjusts.is_(None),
        right.c.tenant_id == ledger.c.tenant_id,
        right.c.budgets == ledger.c.budgets,
    )
    return await _found(
        tx,
        sa.select(ledger.c.attempt_id, ledger.c.adjusts).where(
            ledger.c.adjusts.is_not(None),
            ledger.c.ended_at >= since,
            sa.or_(~exists, ledger.c.reason.is_(None), _cost.is_(None)),
        ),
    )


async def overcorrected(tx: Tx, since: datetime) -> list[Row]:
    """Return calls that cost less than nothing with all their adjustments."""
    own_id = sa.func.coalesce(ledger.c.adjusts, ledger.c.attempt_id)
    net = sa.func.sum(_cost)
    corrected = sa.func.count(ledger.c.adjusts)
    return await _found(
        tx,
        sa.select(own_id.label("attempt_id"), net.label("net"))
        .where(ledger.c.ended_at >= since)
        .group_by(own_id)
        .having(net < 0, corrected > 0),
    )


async def missing_sequences(tx: Tx, since: datetime) -> list[Row]:
    """Return closed windows of which a part is gone: their rows are numbered from 0."""
    columns = spend_window.c
    key = (columns.scope, columns.window, columns.starts_at)
    return await _found(
        tx,
        sa.select(*key)
        .where(columns.starts_at >= since)
        .group_by(*key)
        .having(sa.func.count() != sa.func.max(columns.sequence) + 1),
    )


async def waiting_since(tx: Tx, closed_until: datetime, recorded_before: datetime) -> int:
    """Return how many rows, written before a moment, no window has yet though theirs is over."""
    waiting = sa.select(sa.func.count()).where(
        ledger.c.ended_at >= closed_until,
        ledger.c.ended_at < recorded_before,
        ledger.c.recorded_at < recorded_before,
    )
    return (await tx.connection.execute(waiting)).scalar_one()


async def page_of(tx: Tx, since: datetime, after: str) -> list[Paged]:
    """Return the next 2,000 rows, corrections too, that ended since then, by id; after `after`."""
    rows = await tx.connection.execute(
        sa.select(*_READ)
        .where(ledger.c.attempt_id > after, ledger.c.ended_at >= since)
        .order_by(ledger.c.attempt_id)
        .limit(AT_ONCE)
    )
    return [_paged(row._asdict()) for row in rows]


def _paged(values: dict[str, Any]) -> Paged:
    unreadable = tuple(name for name in _documents if _read(name, values[name]) is None)
    return Paged(row_of(values | _UNREAD), unreadable)


def _read(name: str, text: str) -> Any:  # noqa: ANN401 (as the column is declared)
    """Return a document of a row; None where somebody has written one that is none."""
    try:
        return _documents[name](text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


async def _found(tx: Tx, query: "sa.Select[Any] | sa.CompoundSelect[Any]") -> list[Row]:
    return list(await tx.connection.execute(query.limit(MOST)))


def _zero(total: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(total, 0)


def _ref(row: Row) -> BudgetRef:
    return BudgetRef(budget_id=row.budget_id, starts_at=row.starts_at)
