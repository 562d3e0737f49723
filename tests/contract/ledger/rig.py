"""Processes with budgets, in one test: holds, a spool, and what flushes it."""

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from shared.chat.usage import Usage
from shared.clock import Deadline, SystemClock
from shared.config.model import Budget, Config, KeyConfig, TenantConfig
from shared.identity import Principal, file_key_id
from shared.ids import new_id
from shared.ledger.books import Charge, Opening, Outcome
from shared.ledger.holds import ProcessHolds, open_holds
from shared.ledger.keeper import Keeper, SpoolBooks
from shared.ledger.spool import Spool
from shared.store.budgets import standing_of
from shared.store.engine import Store
from shared.store.records import BudgetStanding

CLOCK = SystemClock()
CENT = 10_000_000
NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
CI = Principal(tenant_id="acme", key_id=file_key_id("acme", "ci"), key_name="ci")
WEB = Principal(tenant_id="acme", key_id=file_key_id("acme", "web"), key_name="web")


def make_config(*budgets: Budget, of_key: tuple[Budget, ...] = ()) -> Config:
    key = KeyConfig(name="ci", key="k1", budgets=of_key)
    return Config(tenants=(TenantConfig(id="acme", keys=(key,), budgets=budgets),))


def a_month(cents: int, **changes: object) -> Budget:
    budget = Budget(window="month", limit_usd=str(cents / 100))
    return msgspec.structs.replace(budget, **changes)


def make_opening(hold) -> Opening:
    return Opening(
        attempt_id=new_id("att"),
        request_id="req_1",
        number=1,
        tenant_id="acme",
        key_id="key_1",
        endpoint="/v1/chat/completions",
        route="m",
        provider="p",
        model="p-1",
        started_at=NOON,
        estimate_nanousd=2 * CENT,
        budgets=hold.refs,
        grant=hold.owner,
    )


class Process:
    """What an API process has: holds, a spool, and the task that flushes it."""

    def __init__(self, store: Store, holds: ProcessHolds, spool: Spool) -> None:
        self.store = store
        self.holds = holds
        self.spool = spool
        self.books = SpoolBooks(spool)
        self.keeper = Keeper(spool, store, CLOCK, holds)

    async def hold(self, cents: int, *, principal=WEB, within_s: float = 10.0):
        return await self.holds.hold(
            principal, cents * CENT, deadline=Deadline.after(within_s, CLOCK)
        )

    async def spend(self, hold, cents: int, route: str = "m", provider: str = "p") -> None:
        """Make an attempt under the hold that costs so much."""
        refs = hold.at(route, provider).refs
        opening = msgspec.structs.replace(make_opening(hold), budgets=refs, provider=provider)
        await self.books.open(opening)
        charge = Charge(
            opening=opening,
            outcome=Outcome.SUCCEEDED,
            usage=Usage(),
            cost_nanousd=cents * CENT,
            ended_at=NOON,
        )
        hold.spend(cents * CENT, opening.budgets)
        self.books.close(charge)

    async def standing(self, hold) -> tuple[int, int]:
        """Return what is settled and granted in the first window of a hold, in cents."""
        found = await standing_of_hold(self.store, hold)
        return found.settled_nanousd // CENT, found.granted_nanousd // CENT


async def standing_of_hold(store: Store, hold) -> BudgetStanding:
    async with store.read() as tx:
        return await standing_of(tx, hold.refs[0], hold.owner)


@asynccontextmanager
async def running(store: Store, config: Config, folder: Path, *, name: str = "api"):
    """A process that stops in order."""
    spool = Spool(folder, name)
    async with open_holds(store, config, name, CLOCK) as holds:
        process = Process(store, holds, spool)
        flushing = asyncio.create_task(process.keeper.run())
        yield process
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        await process.keeper.flush()
    spool.close()


async def until(condition, *, within_s: float = 10.0) -> None:
    give_up_at = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < give_up_at, "it did not come true in time"
        await asyncio.sleep(0.02)
