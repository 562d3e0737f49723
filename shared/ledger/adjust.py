"""Adjustments: what the ledger has wrong is put right by a row of its own, never by an edit."""

import hashlib
from decimal import Decimal

import msgspec

from shared.chat.usage import Usage
from shared.errors import Conflict, IdempotencyMismatch, InvalidRequest, NotFound
from shared.ids import IdMaker
from shared.ledger.cost import NANOUSD_PER_USD
from shared.store.adjustments import insert_correction, rows_of
from shared.store.engine import Store
from shared.store.records import LedgerRow
from shared.telemetry.log import get_logger

log = get_logger("ledger")

ADJUSTED = "adjusted"
"""The outcome of such a row."""

MOST_USD = 1_000_000
LONGEST_REASON = 500


class Adjustment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to add to the cost of an attempt, in USD of either sign, and why."""

    attempt_id: str
    cost_usd: Decimal
    reason: str


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt's row and its corrections."""

    row: LedgerRow
    corrections: tuple[LedgerRow, ...] = ()

    @property
    def net_nanousd(self) -> int:
        """What the attempt cost with all its corrections; an unknown cost counts as 0."""
        return sum(one.cost_nanousd or 0 for one in (self.row, *self.corrections))


async def adjust(
    store: Store, ids: IdMaker, asked: Adjustment, *, key: str | None = None
) -> tuple[Account, LedgerRow]:
    """Write an adjustment; return the account of its attempt, and the new row.

    It has the moments of the row it corrects, so hours, days and budgets are corrected that the
    attempt belongs to. With a `key` it is written once, however often it is asked for.

    Raises:
        InvalidRequest: the amount is none, is finer than a nano-dollar or too large; no reason.
        NotFound: the ledger has no such attempt.
        Conflict: it is an adjustment itself, or the attempt would cost less than nothing.
        IdempotencyMismatch: the key stands for another adjustment.
        StoreUnavailable: try again, with a key.
    """
    cost_nanousd = _nanousd(asked.cost_usd)
    reason = asked.reason.strip()
    if not 0 < len(reason) <= LONGEST_REASON:
        why = f"reason must have 1 to {LONGEST_REASON} characters."
        raise InvalidRequest(why, param="reason")
    own_id = ids("adj") if key is None else _id_of(key)
    async with store.write() as tx:
        account = _account(asked.attempt_id, await rows_of(tx, asked.attempt_id, to_correct=True))
        new = _correction(account.row, own_id, cost_nanousd, reason)
        known = next((one for one in account.corrections if one.attempt_id == own_id), None)
        if known is not None:
            _check_same(known, new)
            return account, known
        if account.net_nanousd + cost_nanousd < 0:
            raise Conflict("The attempt would cost less than nothing.", param="cost_usd")
        if not await insert_correction(tx, new):
            raise IdempotencyMismatch("The key stands for an adjustment of another attempt.")
    log.info(
        "ledger.adjusted",
        adjustment_id=own_id,
        attempt_id=asked.attempt_id,
        tenant_id=new.tenant_id,
        cost_nanousd=cost_nanousd,
    )
    corrections = (*account.corrections, new)
    return msgspec.structs.replace(account, corrections=corrections), new


async def account_of(store: Store, attempt_id: str) -> Account:
    """Return an attempt's row and its corrections.

    Raises:
        NotFound: the ledger has no such attempt.
        Conflict: it is an adjustment itself.
    """
    async with store.read() as tx:
        return _account(attempt_id, await rows_of(tx, attempt_id))


def _account(attempt_id: str, rows: list[LedgerRow]) -> Account:
    if not rows:
        raise NotFound(f"The ledger has no attempt '{attempt_id}'.", param="attempt_id")
    row, *corrections = rows
    if row.adjusts is not None:
        raise Conflict(f"This is an adjustment of '{row.adjusts}': name that.", param="attempt_id")
    return Account(row=row, corrections=tuple(corrections))


def _correction(row: LedgerRow, own_id: str, cost_nanousd: int, reason: str) -> LedgerRow:
    return msgspec.structs.replace(
        row,
        attempt_id=own_id,
        adjusts=row.attempt_id,
        reason=reason,
        outcome=ADJUSTED,
        code=None,
        status_code=None,
        usage=Usage(),
        cost_nanousd=cost_nanousd,
        price_source=None,
        price_version=None,
        duration_ms=0,
        first_token_ms=None,
    )


def _check_same(known: LedgerRow, new: LedgerRow) -> None:
    if (known.cost_nanousd, known.reason) != (new.cost_nanousd, new.reason):
        raise IdempotencyMismatch("The key stands for another adjustment of this attempt.")


def _nanousd(cost_usd: Decimal) -> int:
    if not cost_usd.is_finite() or not 0 < abs(cost_usd) <= MOST_USD:
        why = f"cost_usd must be an amount other than 0, at most {MOST_USD} either way."
        raise InvalidRequest(why, param="cost_usd")
    amount = cost_usd * NANOUSD_PER_USD
    if amount != amount.to_integral_value():
        raise InvalidRequest("cost_usd must have at most 9 decimal places.", param="cost_usd")
    return int(amount)


def _id_of(key: str) -> str:
    return "adj_" + hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=16).hexdigest()
