"""The rows of budgets' windows and of the grants in them, by statements for the drivers.

SQLAlchemy's own take 0.1 ms of the event loop each, and the books run four for every flush.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from shared.store.columns import Words, micros
from shared.store.engine import Run
from shared.store.records import BudgetRef

Owned = tuple[str, BudgetRef]
"""A grant's name: who has it, and of which window."""

AT_ONCE = 200
"""Rows of one statement."""

_LOCK = """
INSERT INTO budget_window (budget_id, starts_at, settled_nanousd, granted_nanousd, version)
VALUES {rows}
ON CONFLICT (budget_id, starts_at) DO UPDATE SET
  settled_nanousd = budget_window.settled_nanousd + excluded.settled_nanousd,
  version = budget_window.version + 1
RETURNING budget_id, starts_at, settled_nanousd, granted_nanousd, version"""

# The owner by itself: SQLite would not use the index for all three together.
_GRANTS = """
WITH named AS (VALUES {rows})
SELECT owner, budget_id, starts_at, amount_nanousd, expires_at FROM budget_grant
WHERE owner IN (SELECT column1 FROM named)
  AND (owner, budget_id, starts_at) IN (SELECT column1, column2, column3 FROM named)"""

_SET_GRANTED = """
UPDATE budget_window SET granted_nanousd = kept.column3 FROM (VALUES {rows}) AS kept
WHERE budget_id = kept.column1 AND starts_at = kept.column2"""

_SET_GRANTS = """
INSERT INTO budget_grant (owner, budget_id, starts_at, amount_nanousd, expires_at)
VALUES {rows}
ON CONFLICT (owner, budget_id, starts_at) DO UPDATE SET
  amount_nanousd = excluded.amount_nanousd, expires_at = excluded.expires_at"""

_DELETE = """
WITH named AS (VALUES {rows})
DELETE FROM budget_grant
WHERE owner IN (SELECT column1 FROM named)
  AND (owner, budget_id, starts_at) IN (SELECT column1, column2, column3 FROM named)"""

_DIALECT = sa.engine.default.DefaultDialect()


class WindowRow(msgspec.Struct):
    """A window whose row is locked; `was_granted` is what stands there still."""

    settled: int
    granted: int
    version: int
    was_granted: int
    raised: int | None = None


class GrantRow(msgspec.Struct):
    """A grant; it expires at a moment in microseconds since the epoch."""

    amount: int
    expires_us: int


def lock(run: Run, costs: Mapping[BudgetRef, int]) -> dict[BudgetRef, WindowRow]:
    """Lock the windows, made where they are missing, with the costs added to what is settled."""
    refs = {_key(ref): ref for ref in costs}
    rows = [(*key, costs[refs[key]], 0, 1) for key in sorted(refs)]
    return {
        refs[budget_id, starts_at]: WindowRow(settled, granted, version, granted)
        for budget_id, starts_at, settled, granted, version in _run(run, _LOCK, rows)
    }


def grants(run: Run, names: Collection[Owned]) -> dict[Owned, GrantRow]:
    """Return those of the grants that there are."""
    wanted = {_name(name): name for name in names}
    return {
        wanted[owner, budget_id, starts_at]: GrantRow(amount, expires_us)
        for owner, budget_id, starts_at, amount, expires_us in _run(run, _GRANTS, list(wanted))
    }


def keep(
    run: Run, windows: Mapping[BudgetRef, WindowRow], granted: Mapping[Owned, GrantRow]
) -> None:
    """Write what has changed of locked windows, and the grants."""
    changed = [
        (*_key(ref), window.granted)
        for ref, window in windows.items()
        if window.granted != window.was_granted
    ]
    _run(run, _SET_GRANTED, changed)
    kept = [(*_name(name), grant.amount, grant.expires_us) for name, grant in granted.items()]
    _run(run, _SET_GRANTS, kept)


def delete(run: Run, names: Collection[Owned]) -> None:
    """Delete the grants."""
    _run(run, _DELETE, [_name(name) for name in names])


def _run(run: Run, statement: str, rows: Sequence[tuple[object, ...]]) -> list[Any]:
    """Run a statement for all the rows, and return what it returns; for none it does not run."""
    found: list[Any] = []
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        marks = "(" + ", ".join("?" * len(some[0])) + ")"
        values = [value for row in some for value in row]
        found += run(statement.format(rows=", ".join([marks] * len(some))), values)
    return found


def _key(ref: BudgetRef) -> tuple[str, int]:
    return _said(ref.budget_id), micros(ref.starts_at)


def _name(name: Owned) -> tuple[str, str, int]:
    owner, ref = name
    return _said(owner), *_key(ref)


def _said(text: str) -> str:
    return Words().process_bind_param(text, _DIALECT) or ""
