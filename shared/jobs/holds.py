"""Money of a job: held in SQL under its lease, let go in the transaction that ends the run."""

from collections.abc import Callable, Mapping

from shared.clock import Clock, Deadline
from shared.config.model import Config
from shared.errors import RateLimitExceeded
from shared.identity import Principal
from shared.jobs.books import grant_of
from shared.jobs.lease import LeaseLost
from shared.ledger.accounts import SLACK_S
from shared.ledger.budgets import BudgetRule, BudgetTable, longest_call_s
from shared.ledger.grants import Need, Stock, traded
from shared.ledger.holds import Hold, Holds
from shared.ledger.trader import HOLD_WAIT_S
from shared.store.budgets import trade
from shared.store.claims import is_held
from shared.store.engine import Store
from shared.store.records import BudgetRef, BudgetStanding, JobRow
from shared.telemetry.metrics import BUDGET_REFUSED

POLL_S = 0.5
"""The first wait before SQL is asked again for money that running calls hold; then it doubles."""

Windows = dict[BudgetRef, BudgetRule]


def job_holds(store: Store, config: Config, clock: Clock) -> Callable[[JobRow], Holds]:
    """Return what makes the holds of one run of a job, by the budgets of the config."""
    table, longest_s = BudgetTable(config), longest_call_s(config)

    def holds_of(job: JobRow) -> Holds:
        return JobHolds(store, table, job, clock, longest_s=longest_s)

    return holds_of


class JobHolds:
    """Holds for one run of a job. What it holds is settled and released by the run's books.

    `longest_s` is how long a call may last: a hold that nobody ends counts so long and a little.
    """

    def __init__(
        self, store: Store, table: BudgetTable, job: JobRow, clock: Clock, *, longest_s: float
    ) -> None:
        self._store = store
        self._table = table
        self._job = job
        self._clock = clock
        self._lifetime_s = longest_s + SLACK_S

    async def hold(
        self, principal: Principal, amount_nanousd: int | None, *, deadline: Deadline
    ) -> Hold | None:
        """Hold the amount in all budgets around the key's calls, or in none; see `Holds`.

        Raises:
            BudgetExceeded: the settled sum leaves no room.
            RateLimitExceeded: the rest is held by calls that run; the job may try again later.
            LeaseLost: the job is somebody else's.
            StoreUnavailable: nothing was held.
        """
        rules = self._table.of(principal)
        if not rules:
            return None
        now = self._clock.now()
        refs = tuple(rule.ref_at(now) for rule in rules)
        rejecting = {ref: rule for ref, rule in zip(refs, rules, strict=True) if rule.rejects}
        if rejecting:
            await self._take(rejecting, amount_nanousd or 0, deadline)
        return Hold(refs, grant_of(self._job.id), rejects=bool(rejecting))

    async def _take(self, windows: Windows, amount: int, deadline: Deadline) -> None:
        until_s = min(self._clock.monotonic() + HOLD_WAIT_S, deadline.at_s)
        pause_s = POLL_S
        while True:
            missing = await self._try(windows, amount)
            if missing is None:
                return
            if self._clock.monotonic() >= until_s:
                raise RateLimitExceeded(
                    f"Calls that run hold the rest of the budget {missing.budget_id}.",
                    retry_after_s=HOLD_WAIT_S,
                )
            await self._clock.sleep(pause_s)
            pause_s *= 2

    async def _try(self, windows: Windows, amount: int) -> BudgetRef | None:
        """Take the amount in all windows; else return one that lacks it now."""
        stocks = {ref: Stock(limit_nanousd=rule.limit_nanousd) for ref, rule in windows.items()}
        need = Need(refs=tuple(windows), amount_nanousd=amount)
        seen: dict[BudgetRef, BudgetStanding] = {}

        def decide(standings: Mapping[BudgetRef, BudgetStanding]) -> dict[BudgetRef, int]:
            seen.update(standings)
            return traded(stocks, standings, [need])

        async with self._store.write() as tx:
            if not await is_held(tx, job_id=self._job.id, token=self._job.lease_token):
                raise LeaseLost(self._job.id)
            after = await trade(
                tx,
                owner=grant_of(self._job.id),
                refs=windows,
                decide=decide,
                lifetime_s=self._lifetime_s,
            )
        if all(after[ref].amount_nanousd == seen[ref].amount_nanousd + amount for ref in windows):
            return None
        lacking: BudgetRef | None = None
        for ref, rule in windows.items():
            if after[ref].settled_nanousd + amount > rule.limit_nanousd:
                BUDGET_REFUSED.labels("reject").inc()
                raise rule.exceeded(rule.period_at(ref.starts_at).ends_at)
            left = rule.limit_nanousd - after[ref].settled_nanousd - after[ref].granted_nanousd
            if left < amount and lacking is None:
                lacking = ref
        return lacking
