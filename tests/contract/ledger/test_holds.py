"""Holds: concurrent calls keep to a budget together, over processes and deaths."""

import asyncio
import random
import time
from contextlib import AsyncExitStack

import pytest

from shared.clock import Deadline
from shared.errors import BudgetExceeded, StoreUnavailable
from shared.ledger.budgets import BudgetTable
from shared.ledger.holds import ProcessHolds, open_holds
from shared.ledger.keeper import replay_orphans
from shared.ledger.spool import Spool
from shared.ledger.trader import Trader
from shared.store.budgets import release_expired, standing_of
from shared.store.engine import open_store
from tests.contract.ledger.rig import (
    CENT,
    CI,
    CLOCK,
    NOON,
    WEB,
    Process,
    a_month,
    make_config,
    make_opening,
    running,
    standing_of_hold,
    until,
)

pytestmark = pytest.mark.anyio


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
            assert coroutine.send(None) is None  # it lets those catch up that came with it
            with pytest.raises(StopIteration):
                coroutine.send(None)  # it ends without waiting for anything else


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


async def test_calls_that_are_refused_do_not_count_as_use(store, folder):
    """A key whose budget is spent may keep asking: its tenant's stock goes back all the same."""
    config = make_config(a_month(100), of_key=(a_month(10),))
    async with running(store, config, folder) as process:
        hold = await process.hold(9, principal=CI)
        for grant in hold.grants:
            grant.used = False

        with pytest.raises(BudgetExceeded):
            await process.hold(5, principal=CI, within_s=0.0)

        assert [False, False] == [grant.used for grant in hold.grants]


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
