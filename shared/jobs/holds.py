"""Money of a job: held in SQL under its lease, let go in the transaction that ends the run."""

from collections.abc import Callable, Mapping

from shared.clock import Clock, Deadline
from shared.config.model import Config
from shared.errors import BudgetExceeded, RateLimitExceeded
from shared.identity import Principal
from shared.jobs.books import grant_of
from shared.jobs.commits import Commits, Held
from shared.jobs.lease import LeaseLost
from shared.ledger.accounts import SLACK_S
from shared.ledger.binding import NOTHING_ASKED, Asked, Bound
from shared.ledger.budgets import BudgetTable, longest_call_s
from shared.ledger.envelopes import enclosures_of
from shared.ledger.grants import Need, Stock, limit_of, traded
from shared.ledger.holds import CHOICE_WAIT_S, Hold, Holds, hold_of, patience_of
from shared.ledger.rule import BudgetRule
from shared.ledger.trader import HOLD_WAIT_S
from shared.store.budgets import Trade
from shared.store.engine import Store
from shared.store.records import BudgetRef, BudgetStanding, JobRow

POLL_S = 0.5
"""The first wait before SQL is asked again for money that running calls hold; then it doubles."""

Windows = dict[BudgetRef, BudgetRule]


def job_holds(
    store: Store, config: Config, clock: Clock, commits: Commits | None = None
) -> Callable[[JobRow], Holds]:
    """Return what makes the holds of one run of a job, by the budgets of the config.

    Through `commits` runs share transactions; without it their holds share them only.
    """
    table, longest_s = BudgetTable(config), longest_call_s(config)
    shared = commits or Commits(store)

    def holds_of(job: JobRow) -> Holds:
        return JobHolds(shared, table, job, clock, longest_s=longest_s)

    return holds_of


class JobHolds:
    """Holds for one run of a job. What it holds is settled and released by the run's books.

    `longest_s` is how long a call may last: a hold that nobody ends counts so long and a little.
    """

    def __init__(
        self, commits: Commits, table: BudgetTable, job: JobRow, clock: Clock, *, longest_s: float
    ) -> None:
        self._commits = commits
        self._table = table
        self._job = job
        self._clock = clock
        self._lifetime_s = longest_s + SLACK_S

    async def hold(
        self,
        principal: Principal,
        amount_nanousd: int | None,
        *,
        deadline: Deadline,
        asked: Asked = NOTHING_ASKED,
    ) -> Hold | None:
        """Hold the amount in all budgets around the call, or in none; see `Holds`.

        Raises:
            BudgetExceeded: the settled sum leaves no room.
            RateLimitExceeded: the rest is held by calls that run; the job may try again later.
            LeaseLost: the job is somebody else's.
            StoreUnavailable: nothing was held.
        """
        bound = self._table.bound(principal, asked)
        if not bound.rules:
            return None
        now = self._clock.now()
        refs = {rule: rule.ref_at(now) for rule in bound.rules}
        bound = await self._taken(bound, refs, amount_nanousd or 0, deadline)
        everywhere, apart = enclosures_of(bound, refs)
        return hold_of(everywhere, apart, grant_of(self._job.id))

    async def _taken(
        self, bound: Bound, refs: Mapping[BudgetRule, BudgetRef], amount: int, deadline: Deadline
    ) -> Bound:
        """Return what the call is held in: without the places whose own budgets are spent."""
        patience_s = patience_of(bound)
        while True:
            windows = {refs[rule]: rule for rule in bound.rules if rule.rejects}
            until_s = min(self._clock.monotonic() + patience_s, deadline.at_s)
            try:
                missing = await self._take(windows, amount, until_s) if windows else None
            except BudgetExceeded as refused:
                left = bound.without(refused.limit_source)
                if left is None:
                    raise
                bound, patience_s = left, patience_of(left)
                continue
            if missing is None:
                return bound
            left = bound.without(missing.budget_id)
            if left is not None:
                bound, patience_s = left, patience_of(left)
            elif patience_s == CHOICE_WAIT_S:
                patience_s = HOLD_WAIT_S - CHOICE_WAIT_S  # to go elsewhere would not help
            else:
                raise RateLimitExceeded(
                    f"Calls that run hold the rest of the budget {missing.budget_id}.",
                    retry_after_s=HOLD_WAIT_S,
                )

    async def _take(self, windows: Windows, amount: int, until_s: float) -> BudgetRef | None:
        """Take the amount in all windows; return one whose money stays held by others."""
        pause_s = POLL_S
        while True:
            missing = await self._try(windows, amount)
            if missing is None or self._clock.monotonic() >= until_s:
                return missing
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

        trade = Trade(
            owner=grant_of(self._job.id),
            refs=tuple(windows),
            decide=decide,
            lifetime_s=self._lifetime_s,
        )
        lease = self._job.id, self._job.lease_token
        after = await self._commits.hold(Held(lease=lease, trade=trade))
        if after is None:
            raise LeaseLost(self._job.id)
        if all(after[ref].amount_nanousd == seen[ref].amount_nanousd + amount for ref in windows):
            return None
        lacking: BudgetRef | None = None
        for ref, rule in windows.items():
            limit = limit_of(rule.limit_nanousd, after[ref])
            if after[ref].settled_nanousd + amount > limit:
                raise rule.exceeded(rule.period_at(ref.starts_at).ends_at)
            left = limit - after[ref].settled_nanousd - after[ref].granted_nanousd
            if left < amount and lacking is None:
                lacking = ref
        return lacking
