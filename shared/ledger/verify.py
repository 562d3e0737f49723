"""Proves that the books agree: each check compares two records of the same money."""

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from typing_extensions import override

from shared.config.model import Config
from shared.ledger.alerts import crossed
from shared.ledger.books import Charge, Outcome
from shared.ledger.budgets import BudgetTable
from shared.ledger.cost import cost_of, usd_text
from shared.ledger.drift import Difference, grant_differences, window_differences
from shared.ledger.keeper import REFUSED
from shared.ledger.rates import CONFIG, CompiledPrice
from shared.store import verify as ask
from shared.store.columns import EPOCH
from shared.store.engine import Store, Tx
from shared.store.raises import raised
from shared.store.records import BudgetRef, LedgerRow
from shared.store.windows import mark_of

GRACE = timedelta(minutes=10)
"""What is younger may still be on its way: caretakers and alerts come by every few seconds."""

CLOSED_WITHIN = timedelta(hours=3)
"""How long after its end an hour may stay open before that is a fault: the scheduler is away."""

OUTCOMES = tuple(outcome.value for outcome in Outcome)

Priced = Callable[[str, str, str], CompiledPrice | None]
"""Returns the config's price of that version for a provider's model; None when it is another."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Where the books do not agree: a kind, whom it is about, and both sides."""

    kind: str
    subject: str
    says: str

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.subject}: {self.says}"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared, from when on, and what was found."""

    since: datetime
    rows: int
    faults: tuple[Fault, ...]


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks go by. `windows_since`: younger windows of budgets have not been pruned."""

    config: Config
    now: datetime
    since: datetime
    windows_since: datetime


async def verify(
    store: Store,
    config: Config,
    *,
    since: datetime | None = None,
    priced: Priced | None = None,
    spool_dir: Path | None = None,
) -> Report:
    """Compare the ledger with all that is made from it, and with what it was made from.

    Looks at attempts that ended since then, and at windows that began since then. With `priced`
    the costs of the config's own prices are computed again; with `spool_dir` what the database
    refused is found. May run beside everything else, at any time; each check sees one moment.

    Raises:
        StoreUnavailable: the database is away, or a check took longer than a transaction may.
    """
    async with store.read() as tx:
        now = await tx.now()
    begin = since or EPOCH
    kept = timedelta(days=config.billing.keep_days)
    scope = Scope(config=config, now=now, since=begin, windows_since=max(begin, now - kept))
    faults: list[Fault] = [] if spool_dir is None else list(_refused(spool_dir / REFUSED))
    for check in CHECKS:
        async with store.read() as tx:
            faults += [fault async for fault in check(tx, scope)]
    rows = 0
    async for page in _pages(store, begin):
        rows += sum(one.row.adjusts is None for one in page)
        faults += _unreadable(page)
        if priced is not None:
            faults += _mispriced((one.row for one in page), priced)
    return Report(since=begin, rows=rows, faults=tuple(faults))


async def budget_differences(tx: Tx, since: datetime) -> list[Difference]:
    """Return the windows of budgets that have settled another sum than the ledger says.

    Of those that began since then; older ones may have been pruned.
    """
    sums = await ask.budget_sums(tx, since, since)
    return [
        Difference(
            what="settled",
            subject=ref.budget_id,
            starts_at=ref.starts_at,
            name="settled_nanousd",
            expected=one.spent_nanousd,
            found=one.settled_nanousd or 0,
        )
        for ref, one in sorted(
            sums.items(), key=lambda item: (item[0].budget_id, item[0].starts_at)
        )
        if one.spent_nanousd != (one.settled_nanousd or 0)
    ]


async def _windows(tx: Tx, scope: Scope) -> AsyncIterator[Fault]:
    for one in await window_differences(tx, scope.since, scope.now):
        yield _differs("window_off", one)
    for row in await ask.missing_sequences(tx, scope.since):
        where = f"{row.scope}/{row.window}"
        yield _fault("window_gap", where, f"{row.starts_at:%Y-%m-%dT%H:%MZ} lacks one of its rows")


async def _closing(tx: Tx, scope: Scope) -> AsyncIterator[Fault]:
    mark = await mark_of(tx, "hour")
    since = scope.since if mark is None else max(scope.since, mark.closed_until)
    waiting = await ask.waiting_since(tx, since, scope.now - CLOSED_WITHIN)
    if waiting:
        until = "ever" if mark is None else f"{mark.closed_until:%Y-%m-%dT%H:%MZ}"
        yield _fault("closing_late", "hour", f"{waiting} rows wait, no hour closed since {until}")


async def _settled(tx: Tx, scope: Scope) -> AsyncIterator[Fault]:
    for one in await budget_differences(tx, scope.windows_since):
        yield _differs("settled_off", one)


async def _granted(tx: Tx, scope: Scope) -> AsyncIterator[Fault]:
    for one in await grant_differences(tx):
        yield _differs("granted_off", one)
    for row in await ask.below_zero(tx):
        whose = "the window" if row.owner is None else f"the grant of {row.owner}"
        yield _fault("budget_negative", _window(row), f"{whose} has less than nothing")
    for row in await ask.orphan_grants(tx, scope.now - GRACE):
        says = f"{row.owner} has {_usd(row.amount_nanousd)} of it and does not run"
        yield _fault("grant_orphan", _window(row), says)


async def _attempts(tx: Tx, scope: Scope) -> AsyncIterator[Fault]:
    for row in await ask.unmade_rows(tx, scope.since):
        yield _fault("row_unmade", row.attempt_id, f"{row.job_id} has not made this call")
    for row in await ask.other_outcomes(tx, scope.since):
        says = f"the job says {row.outcome}, the ledger {row.booked}"
        yield _fault("outcome_off", row.id, says)
    if scope.config.ledger.enabled:
        for row in await ask.unbooked_attempts(tx, scope.since):
            says = f"{row.outcome} call of {row.job_id} is not in the ledger"
            yield _fault("row_missing", row.id, says)


async def _jobs(tx: Tx, scope: Scope) -> AsyncIterator[Fault]:
    for row in await ask.wrong_jobs(tx, scope.since):
        yield _fault("job_cost_off", row.id, _both(row.cost_nanousd, row.paid))
    for row in await ask.wrong_batches(tx, scope.since):
        yield _fault("batch_cost_off", row.id, _both(row.cost_nanousd, row.paid))
    if scope.config.ledger.enabled:
        for row in await ask.paid_otherwise_than_once(tx, scope.since):
            yield _fault("job_calls_off", row.id, f"succeeded by {row.calls} calls")


async def _rows(tx: Tx, scope: Scope) -> AsyncIterator[Fault]:
    for row in await ask.wrong_rows(tx, scope.since, OUTCOMES):
        says = f"cannot be: {row.outcome}, {_usd(row.cost_nanousd)}, by its counts, price and flag"
        yield _fault("row_impossible", row.attempt_id, says)
    for row in await ask.moved_rows(tx, scope.since):
        says = f"is of {row.tenant_id}; its key {row.key_id} or its job {row.job_id} is not"
        yield _fault("row_moved", row.attempt_id, says)
    for row in await ask.wrong_corrections(tx, scope.since):
        says = f"adjusts {row.adjusts}, which is not there, or is another's"
        yield _fault("adjustment_off", row.attempt_id, says)
    for row in await ask.overcorrected(tx, scope.since):
        says = f"costs {_usd(int(row.net))} with its adjustments"
        yield _fault("adjustment_off", row.attempt_id, says)


async def _alerts(tx: Tx, scope: Scope) -> AsyncIterator[Fault]:
    for row in await ask.unfounded_alerts(tx, scope.windows_since):
        says = f"{row.threshold} % was told and nothing was spent"
        yield _fault("alert_unfounded", _window(row), says)
    table = BudgetTable(scope.config)
    sums = await ask.budget_sums(tx, scope.windows_since, scope.now - GRACE)
    told = await ask.told_thresholds(tx, scope.windows_since)
    more = await raised(tx, {ref.budget_id for ref in sums})
    for ref, one in sums.items():
        rule = table.rule(ref.budget_id)
        if rule is None or rule.period_at(scope.now).starts_at != ref.starts_at:
            continue
        limit = rule.limit_nanousd + more.get(ref.budget_id, 0)
        for threshold in rule.thresholds:
            spent = one.spent_before_nanousd
            if (ref, threshold) not in told and crossed(0, spent, limit, (threshold,)):
                says = f"{threshold} % is spent and was not told"
                yield _fault("alert_missing", _name(ref), says)


Check = Callable[[Tx, Scope], AsyncIterator[Fault]]

CHECKS: tuple[Check, ...] = (
    _rows,
    _attempts,
    _jobs,
    _windows,
    _closing,
    _settled,
    _granted,
    _alerts,
)
"""Each in a transaction of its own."""


async def _pages(store: Store, since: datetime) -> AsyncIterator[list[ask.Paged]]:
    after = ""
    while True:
        async with store.read() as tx:
            page = await ask.page_of(tx, since, after)
        if not page:
            return
        yield page
        after = page[-1].row.attempt_id


def _unreadable(page: Iterable[ask.Paged]) -> Iterable[Fault]:
    """Yield the rows with something in them that can be no such thing."""
    for one in page:
        if one.unreadable:
            says = f"cannot be read: {', '.join(one.unreadable)}"
            yield _fault("row_unreadable", one.row.attempt_id, says)


def _mispriced(rows: Iterable[LedgerRow], priced: Priced) -> Iterable[Fault]:
    """Yield the rows whose cost is not what their counts cost at the config's price."""
    for row in rows:
        if row.adjusts is not None or row.price_source != CONFIG:
            continue
        if row.price_version is None or row.cost_nanousd is None:
            continue
        # A lost call costs what it held, one that was refused nothing.
        if row.outcome == "lost" or (row.outcome == "failed" and not row.cost_nanousd):
            continue
        price = priced(row.provider, row.model, row.price_version)
        if price is None:
            continue
        expected = cost_of(row.usage, price.at(row.started_at))
        if expected != row.cost_nanousd:
            yield _fault("cost_off", row.attempt_id, _both(row.cost_nanousd, expected))


def _refused(path: Path) -> Iterable[Fault]:
    """Yield the charges that the database could not take."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            charge = msgspec.json.decode(line, type=Charge)
        except (msgspec.DecodeError, UnicodeDecodeError):
            where = f"{path.name}:{number}"
            yield _fault("row_refused", where, "the database refused a row that cannot be read")
            continue
        says = f"{_usd(charge.cost_nanousd)} lie in {path.name}: the database refused the row"
        yield _fault("row_refused", charge.opening.attempt_id, says)


def _differs(kind: str, one: Difference) -> Fault:
    money = one.name.endswith("_nanousd")
    expected, found = (
        _usd(value) if money else f"{value} {one.name}" for value in (one.expected, one.found)
    )
    where = f"{one.subject} {one.what} {one.starts_at:%Y-%m-%dT%H:%MZ}"
    return _fault(kind, where, f"is {found}, should be {expected}")


def _both(found: int | None, expected: int | None) -> str:
    return f"cost {_usd(found)}, its rows say {_usd(None if expected is None else int(expected))}"


def _usd(nanousd: int | None) -> str:
    return "an unknown sum" if nanousd is None else f"{usd_text(int(nanousd))} USD"


def _window(row: Any) -> str:  # noqa: ANN401 (a row of a query)
    return _name(BudgetRef(budget_id=row.budget_id, starts_at=row.starts_at))


def _name(ref: BudgetRef) -> str:
    return f"{ref.budget_id} {ref.starts_at:%Y-%m-%dT%H:%MZ}"


def _fault(kind: str, subject: str, says: str) -> Fault:
    return Fault(kind=kind, subject=subject, says=says)
