"""Watches budgets in one process, and has told what is worth it: once, whoever sees it first.

The books look on their way into SQL, in their own transaction; a task looks every second at what
calls hold and at who was refused; the scheduler sweeps all windows. Unique rows decide among them.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

from shared.clock import Clock
from shared.config.model import Config
from shared.errors import BudgetExceeded, StoreUnavailable
from shared.ids import IdMaker
from shared.ledger.alerts import FULL, Sums, due, news
from shared.ledger.budgets import BudgetRule, open_starts
from shared.ledger.telling import Tell, alerts_of, tell_once
from shared.store.alerts import apart, sums_of, told_of, used_windows
from shared.store.engine import Store, Tx
from shared.store.raises import raised
from shared.store.records import Alert, AlertKey, BudgetRef, BudgetStanding, Told
from shared.telemetry.log import get_logger

log = get_logger("alerts")

LOOK_S = 1.0
"""How often a process looks, and how long it leaves a window alone where nothing was due."""

AT_ONCE = 50
"""Windows of one transaction when all are swept."""

LATELY_H = 6
"""How long a window is swept after its end: a spool may be replayed late, a scheduler be away."""

MOST_REFUSED = 10_000
"""Windows with a first refusal that are kept while the database is away."""

_REFUSED: Told = ("exceeded", FULL)

Find = Callable[[str], BudgetRule | None]
"""Returns the budget of an id; None when the config has it no more."""


class Holding(Protocol):
    """What the running calls of a process hold."""

    def held(self, ref: BudgetRef) -> int:
        """Return what they hold in a window, in nano-dollars."""

    def holding(self) -> Iterable[tuple[BudgetRef, int, int]]:
        """Yield each window that they hold in, with what is settled of it, and what they hold."""


class _Known:
    """What a process remembers of a window, so that SQL is only asked for news."""

    __slots__ = ("ends_at", "quiet_until_s", "told")

    def __init__(self, ends_at: datetime) -> None:
        self.told: frozenset[Told] = frozenset()
        self.quiet_until_s = -math.inf
        self.ends_at = ends_at


class BudgetWatch:
    """The watch of one process. `holding` is set where calls hold from grants in memory."""

    def __init__(self, find: Find, tell: Tell, clock: Clock, ids: IdMaker) -> None:
        self.holding: Holding | None = None
        self._find = find
        self._tell = tell
        self._clock = clock
        self._ids = ids
        self._known: dict[BudgetRef, _Known] = {}
        self._later: set[BudgetRef] = set()
        self._refused: set[BudgetRef] = set()

    def refused(self, error: BudgetExceeded) -> None:
        """Hear that a budget has refused a call; told soon. Never waits, never fails."""
        rule = self._find(error.limit_source)
        if rule is None or len(self._refused) >= MOST_REFUSED:
            return
        # Rounded up to seconds; the call belongs to the window that ends then, whatever it is now.
        before = datetime.fromtimestamp(error.resets_at, UTC) - timedelta(seconds=1)
        ref = rule.ref_at(before)
        known = self._known.get(ref)
        if known is None or _REFUSED not in known.told:
            self._refused.add(ref)

    async def settled(
        self, tx: Tx, standings: Mapping[tuple[str, BudgetRef], BudgetStanding]
    ) -> None:
        """Tell what costs have brought about that this transaction has settled; never fails.

        Asks SQL only where a threshold may have been crossed. The books go on whatever happens.
        """
        newest: dict[BudgetRef, BudgetStanding] = {}
        for (_, ref), standing in standings.items():
            if ref not in newest or standing.version > newest[ref].version:
                newest[ref] = standing
        try:
            if suspects := self._suspects(newest):
                async with apart(tx):
                    await self.look(tx, suspects)
        except Exception:
            log.exception("alerts.failed")
            self._later.update(newest)

    def _suspects(self, standings: Mapping[BudgetRef, BudgetStanding]) -> list[BudgetRef]:
        """Return the windows to look at now; what was looked at just before is put off."""
        now_s, now = self._clock.monotonic(), self._clock.now()
        found = []
        for ref, standing in standings.items():
            if self._news(ref, standing.settled_nanousd, standing.granted_nanousd, now):
                if self._known_of(ref).quiet_until_s > now_s:
                    self._later.add(ref)
                else:
                    found.append(ref)
        return found

    async def look(
        self, tx: Tx, refs: Iterable[BudgetRef], refused: Iterable[BudgetRef] = ()
    ) -> int:
        """Tell all that is due of these windows and has not been told; return how much that was.

        In those of `refused` a call was refused.
        """
        refused = frozenset(refused)
        rules = {ref: rule for ref in {*refs, *refused} if (rule := self._find(ref.budget_id))}
        now = await tx.now()
        sums = await sums_of(tx, rules)
        more = await raised(tx, {ref.budget_id for ref in rules})
        told = await told_of(tx, rules)
        alerts: dict[AlertKey, Alert] = {}
        for ref, rule in rules.items():
            stands = Sums(
                settled_nanousd=sums[ref].settled_nanousd,
                held_nanousd=sums[ref].held_nanousd + self._held(ref),
                limit_nanousd=rule.limit_nanousd + more.get(ref.budget_id, 0),
            )
            found = due(rule, stands, rule.period_at(ref.starts_at), now)
            new = news(found | {_REFUSED} if ref in refused else found, told[ref])
            known = self._known_of(ref)
            if not new and known.told == told[ref]:  # nothing learnt: only a guess came near
                known.quiet_until_s = self._clock.monotonic() + LOOK_S
            known.told = told[ref]  # what was committed: what we tell may be rolled back
            alerts.update((one.key, one) for one in alerts_of(rule, ref, stands, new, now))
        return await tell_once(tx, alerts, self._tell, self._ids, now)

    async def sweep(self, store: Store, config: Config) -> int:
        """Look at every window that is open, or was lately; return how much was told.

        Raises:
            StoreUnavailable: the next sweep finds the rest.
        """
        count, after = 0, None
        while True:
            async with store.read() as tx:
                now = await tx.now()
                page = await used_windows(tx, _starts(config, now), after)
                # What is granted is the most that can be held.
                may = [
                    ref
                    for ref, one in page
                    if self._news(ref, one.settled_nanousd, one.granted_nanousd, now)
                ]
                sums = await sums_of(tx, may)
                for ref, told in (await told_of(tx, may)).items():
                    self._known_of(ref).told = told
            refs = [
                ref
                for ref, one in sums.items()
                if self._news(ref, one.settled_nanousd, one.held_nanousd, now)
            ]
            for start in range(0, len(refs), AT_ONCE):
                async with store.write() as tx:
                    count += await self.look(tx, refs[start : start + AT_ONCE])
            if not page:
                return count
            after = page[-1][0]

    async def turn(self, store: Store) -> None:
        """Look at what calls hold, who was refused, and what was put off.

        Raises:
            StoreUnavailable: the next turn finds it all again.
        """
        now = self._clock.now()
        self._known = {ref: one for ref, one in self._known.items() if now < one.ends_at}
        refs, refused = set(self._later), set(self._refused)
        if self.holding is not None:
            for ref, settled, held in self.holding.holding():
                if self._news(ref, settled, held, now):
                    refs.add(ref)
        if refs or refused:
            async with store.write() as tx:
                await self.look(tx, refs, refused)
            self._later -= refs
            self._refused -= refused

    async def run(self, store: Store) -> None:
        """Take turns for ever; an outage of the database delays what is told."""
        while True:
            await self._clock.sleep(LOOK_S)
            try:
                await self.turn(store)
            except StoreUnavailable as error:
                log.warning("alerts.store_unavailable", why=error.message)
            except Exception:
                log.exception("alerts.failed")

    def _news(self, ref: BudgetRef, settled: int, held: int, now: datetime) -> bool:
        """Whether anything is due that this process does not know to be told."""
        rule = self._find(ref.budget_id)
        if rule is None:
            return False
        stands = Sums(settled_nanousd=settled, held_nanousd=held, limit_nanousd=rule.limit_nanousd)
        found = due(rule, stands, rule.period_at(ref.starts_at), now)
        known = self._known.get(ref)
        return bool(found if known is None else news(found, known.told))

    def _known_of(self, ref: BudgetRef) -> _Known:
        known = self._known.get(ref)
        if known is None:
            rule = self._find(ref.budget_id)
            ends_at = ref.starts_at if rule is None else rule.period_at(ref.starts_at).ends_at
            known = self._known[ref] = _Known(ends_at)
        return known

    def _held(self, ref: BudgetRef) -> int:
        return 0 if self.holding is None else self.holding.held(ref)


def _starts(config: Config, now: datetime) -> frozenset[datetime]:
    """Return when the windows began that were open in the last hours."""
    moments = (now - timedelta(hours=back) for back in range(LATELY_H + 1))
    return frozenset[datetime]().union(*(open_starts(config, moment) for moment in moments))


@asynccontextmanager
async def open_watch(watch: BudgetWatch, store: Store) -> AsyncIterator[BudgetWatch]:
    """Let a process watch until the end of the block."""
    watching = asyncio.create_task(watch.run(store))
    try:
        yield watch
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
