"""Holds: concurrent calls keep to a budget together, over processes and deaths."""

import asyncio
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from shared.chat.usage import Usage
from shared.clock import Deadline, SystemClock
from shared.config.model import Budget, Config, KeyConfig, TenantConfig
from shared.errors import BudgetExceeded, StoreUnavailable
from shared.identity import Principal, file_key_id
from shared.ids import new_id
from shared.ledger.books import Charge, Opening, Outcome
from shared.ledger.budgets import BudgetTable
from shared.ledger.holds import ProcessHolds, open_holds
from shared.ledger.keeper import Keeper, SpoolBooks, replay_orphans
from shared.ledger.spool import Spool
from shared.ledger.trader import Trader
from shared.store.budgets import release_expired, standing_of
from shared.store.engine import Store, open_store
from shared.store.records import BudgetStanding

pytestmark = pytest.mark.anyio

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

    async def spend(self, hold, cents: int) -> None:
        """Make an attempt under the hold that costs so much."""
        opening = make_opening(hold)
        await self.books.open(opening)
        charge = Charge(
            opening=opening,
            outcome=Outcome.SUCCEEDED,
            usage=Usage(),
            cost_nanousd=cents * CENT,
            ended_at=NOON,
        )
        hold.spend(cents * CENT)
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


async def until(condition, *, within_s: float = 10.0) -> None:
    give_up_at = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < give_up_at, "it did not come true in time"
        await asyncio.sleep(0.02)


# One process


async def test_without_a_budget_there_is_no_hold(store, folder):
    async with running(store, make_config(), folder) as process:
        assert await process.hold(5) is None


async def test_a_call_is_held_in_its_tenant_s_and_its_key_s_budget(store, folder):
    config = make_config(a_month(100), of_key=(a_month(5),))
    async with running(store, config, folder) as process:
        hold = await process.hold(5, principal=CI)
        with pytest.raises(BudgetExceeded) as refused:
            await process.hold(6, principal=CI)

        assert ["tenant:acme/month", "key:acme/ci/month"] == [ref.budget_id for ref in hold.refs]
        assert "key:acme/ci/month" == refused.value.limit_source
        assert refused.value.resets_at > time.time()
        assert await process.hold(6) is not None, "another key"


async def test_what_was_spent_is_settled_and_the_rest_is_free_again(store, folder):
    async with running(store, make_config(a_month(10)), folder) as process:
        hold = await process.hold(8)
        await process.spend(hold, 3)
        hold.release()
        hold.release()
        again = await process.hold(7)
        again.release()

        async def settled() -> bool:
            return 3 == (await process.standing(hold))[0]

        await until(settled)

    assert (3, 0) == await process.standing(hold), "a process that stops returns its grants"


async def test_what_is_settled_refuses_at_once_and_says_until_when(store, folder):
    async with running(store, make_config(a_month(10)), folder) as process:
        hold = await process.hold(8)
        await process.spend(hold, 8)
        hold.release()
        await process.keeper.flush()
        started_s = time.monotonic()
        with pytest.raises(BudgetExceeded):
            await process.hold(3)

        assert time.monotonic() - started_s < 1.0


async def test_money_that_is_only_held_is_waited_for(store, folder):
    async with running(store, make_config(a_month(10)), folder) as process:
        first = await process.hold(8)
        waiting = asyncio.create_task(process.hold(8))
        await asyncio.sleep(0.15)
        assert not waiting.done()
        await process.spend(first, 2)
        first.release()

        assert await waiting is not None


async def test_a_wait_ends_with_the_call_s_deadline(store, folder):
    async with running(store, make_config(a_month(10)), folder) as process:
        await process.hold(8)
        with pytest.raises(BudgetExceeded, match="held by calls that run"):
            await process.hold(8, within_s=0.2)


async def test_who_gives_up_waiting_holds_nothing(store, folder):
    async with running(store, make_config(a_month(10)), folder) as process:
        first = await process.hold(8)
        waiting = [asyncio.create_task(process.hold(8)) for _ in range(3)]
        await asyncio.sleep(0.05)
        first.release()
        for one in waiting:
            one.cancel()  # one of them is being served in this very moment
        await asyncio.gather(*waiting, return_exceptions=True)

        (await process.hold(10)).release()


async def test_a_call_that_costs_more_than_it_held_leaves_less_for_the_next(store, folder):
    async with running(store, make_config(a_month(10)), folder) as process:
        hold = await process.hold(2)
        await process.spend(hold, 9)
        hold.release()

        with pytest.raises(BudgetExceeded):
            await process.hold(2)
        assert await process.hold(1) is not None


async def test_a_budget_that_warns_counts_and_never_refuses(store, folder):
    config = make_config(a_month(1, action="warn"))
    async with running(store, config, folder) as process:
        hold = await process.hold(50)
        await process.spend(hold, 50)
        hold.release()
        assert await process.hold(50) is not None

    assert (50, 0) == await process.standing(hold)


async def test_a_price_that_is_not_known_holds_nothing(store, folder):
    async with running(store, make_config(a_month(10)), folder) as process:
        hold = await process.holds.hold(WEB, None, deadline=Deadline.after(5, CLOCK))

        assert ("tenant:acme/month",) == tuple(ref.budget_id for ref in hold.refs)
        assert await process.hold(10) is not None


async def test_far_from_the_limit_calls_need_no_transaction(store, folder):
    """An eighth of what is left lies in stock, and is filled up in the background."""
    async with running(store, make_config(a_month(10_000)), folder) as process:
        (await process.hold(1)).release()
        for _ in range(200):
            coroutine = process.hold(1)
            with pytest.raises(StopIteration):
                coroutine.send(None)  # it ends without waiting for anything


# The database away


async def test_with_the_database_away_calls_go_on_within_the_grant(store_url, folder):
    store = await open_store(store_url)
    async with open_holds(store, make_config(a_month(800)), "api", CLOCK) as holds:
        process = Process(store, holds, Spool(folder, "api"))
        await process.hold(10)
        await store.close()

        assert await process.hold(50) is not None
        with pytest.raises(StoreUnavailable):
            await process.hold(200)


# Several processes


async def test_an_idle_process_returns_what_it_does_not_use(store, folder):
    config = make_config(a_month(100))
    async with (
        running(store, config, folder, name="a") as one,
        running(store, config, folder, name="b") as other,
    ):
        hold = await one.hold(10)

        assert await other.hold(85, within_s=10.0) is not None, "10 are held, the rest came back"
        assert (0, 95) == await one.standing(hold)


async def test_a_busy_process_keeps_no_more_in_stock_than_its_share(store, folder):
    """Its stock shrinks as another takes what is left, though it is never idle."""
    config = make_config(a_month(100))
    async with (
        running(store, config, folder, name="a") as one,
        running(store, config, folder, name="b") as other,
    ):
        (await one.hold(1)).release()
        kept = await other.hold(85)

        async def takes_more() -> bool:
            hold = await one.hold(1)
            await one.spend(hold, 0)
            hold.release()
            return 90 >= (await other.standing(kept))[1]

        await until(takes_more, within_s=4.0)


async def killed(process: Process) -> None:
    """Drop a process's lock on its spool, as its death does."""
    import os

    os.close(process.spool._file)


async def test_a_dead_process_s_grant_counts_until_its_spool_is_replayed(store, folder):
    config = make_config(a_month(100))
    table = BudgetTable(config)
    trader = Trader(store, CLOCK, owner="dead:1", lifetime_s=600.0)
    trading = asyncio.create_task(trader.run())
    dead = Process(store, ProcessHolds(table, trader, CLOCK), Spool(folder, "dead"))
    hold = await dead.hold(60)
    await dead.spend(hold, 5)
    await dead.books.open(make_opening(hold))
    trading.cancel()
    await asyncio.gather(trading, return_exceptions=True)
    settled, granted = await dead.standing(hold)
    assert settled == 0
    assert granted >= 60

    await killed(dead)
    await replay_orphans(folder, store, CLOCK)
    await replay_orphans(folder, store, CLOCK)

    assert (5 + 2, 0) == await dead.standing(hold), "what it spent, and the lost call's estimate"


async def test_a_dead_process_without_a_spool_gives_its_grant_back_in_time(store_url, folder):
    store = await open_store(store_url)
    trader = Trader(store, CLOCK, owner="dead:1", lifetime_s=0.05)
    grants = (trader.grant(BudgetTable(make_config(a_month(10))).of(WEB)[0], NOON),)
    waiting = asyncio.create_task(trader.wait(grants, 5 * CENT, Deadline.after(5, CLOCK)))
    await asyncio.sleep(0)
    await trader.turn()
    await waiting
    await asyncio.sleep(0.06)

    async with store.write() as tx:
        assert 1 == await release_expired(tx)
    async with store.read() as tx:
        assert 0 == (await standing_of(tx, grants[0].ref)).granted_nanousd
    await store.close()


async def admitted_of(processes: list[Process], calls: int, chance: random.Random) -> int:
    """Make concurrent calls that cost a cent and hold two; return how many were let in."""

    async def call(process: Process) -> bool:
        try:
            hold = await process.hold(2)
        except BudgetExceeded:
            return False
        await asyncio.sleep(chance.uniform(0.005, 0.03))
        await process.spend(hold, 1)
        hold.release()
        return True

    made = [call(processes[number % len(processes)]) for number in range(calls)]
    return sum(await asyncio.gather(*made))


async def test_a_call_may_wait_in_a_window_that_ends_meanwhile(store):
    trader = Trader(store, CLOCK, owner="api:1", lifetime_s=600.0)
    [rule] = BudgetTable(make_config(a_month(10))).of(WEB)
    trading = asyncio.create_task(trader.run())

    await trader.wait((trader.grant(rule, NOON),), 5 * CENT, Deadline.after(5, CLOCK))

    trading.cancel()
    await asyncio.gather(trading, return_exceptions=True)


@pytest.mark.behaviour(160)
@pytest.mark.parametrize("count", [1, 2])
async def test_200_calls_at_once_find_the_room_for_50(store_url, folder, count):
    """The wall stands, and nobody is refused for money that others merely hold."""
    config = make_config(a_month(50))
    async with AsyncExitStack() as opened:
        processes = []
        for number in range(count):
            store = await open_store(store_url)  # each process has connections of its own
            opened.push_async_callback(store.close)
            name = f"api-{number}"
            processes.append(
                await opened.enter_async_context(running(store, config, folder, name=name))
            )
        hold = await processes[0].hold(0)
        hold.release()

        admitted = await admitted_of(processes, 200, random.Random(7))
        for process in processes:
            await process.keeper.flush()
        standing = await standing_of_hold(processes[0].store, hold)

    assert 45 <= admitted <= 50
    assert admitted * CENT == standing.settled_nanousd


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_processes_that_come_go_and_die_never_pass_the_limit_together(store, folder, seed):
    """Settled + granted <= limit after every step, and in the end all that was spent is settled."""
    chance = random.Random(seed)
    config = make_config(a_month(60))
    spent: list[int] = []
    refs: list[object] = []
    done = asyncio.Event()

    async def call(process: Process) -> None:
        try:
            hold = await process.hold(chance.randint(1, 4), within_s=0.5)
        except BudgetExceeded:
            return
        refs.append(hold)
        await asyncio.sleep(chance.uniform(0, 0.02))
        cost = chance.randint(0, 1)
        await process.spend(hold, cost)
        spent.append(cost)
        hold.release()

    async def life(number: int) -> None:
        for turn in range(2):
            async with running(store, config, folder, name=f"p{number}-{turn}") as process:
                for _ in range(4):
                    await asyncio.gather(*(call(process) for _ in range(chance.randint(1, 8))))

    async def watch() -> None:
        while not done.is_set():
            if refs:
                now = await standing_of_hold(store, refs[0])
                assert now.settled_nanousd + now.granted_nanousd <= 60 * CENT
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(life(number) for number in range(3)))
    done.set()
    await watching

    now = await standing_of_hold(store, refs[0])
    assert (sum(spent) * CENT, 0) == (now.settled_nanousd, now.granted_nanousd)
