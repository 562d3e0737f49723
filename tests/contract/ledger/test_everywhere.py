"""Budgets of users, routes, providers and tags; raises; and crowds at a wall."""

import asyncio
import random
from contextlib import AsyncExitStack
from datetime import timedelta

import msgspec
import pytest

from shared.clock import Deadline
from shared.config.model import Config
from shared.errors import BudgetExceeded
from shared.identity import Principal
from shared.ids import new_id
from shared.ledger.binding import Asked, Place
from shared.ledger.budgets import BudgetTable
from shared.ledger.holds import CHOICE_WAIT_S, ProcessHolds
from shared.ledger.spool import Spool
from shared.ledger.trader import HOLD_WAIT_S, Trader
from shared.store.budgets import release_expired, standings_of
from shared.store.engine import open_store
from shared.store.raises import end_raise, insert_raise, list_raises
from shared.store.records import BudgetRef, RaiseRow
from tests.contract.ledger.rig import (
    CENT,
    CLOCK,
    Process,
    a_month,
    make_config,
    running,
    until,
)

pytestmark = pytest.mark.anyio

WHO = Principal(tenant_id="acme", key_id="key_1", key_name="made")
P, Q = Place("m", "m", "p"), Place("m", "m", "q")
AT_P, AT_Q = ("m", "p"), ("m", "q")
WALL, EACH_CALL = 1_000, 30
ROOM = WALL // EACH_CALL


def config_of(*matched: dict[str, object], users: int | None = None) -> Config:
    """Return a config with monthly budgets: `{"match": …, "limit_usd": …}`."""
    template = {"budgets": [{"window": "month", "limit_usd": str(users)}]} if users else None
    tenant = {"id": "acme", "users": template}
    budgets = [{"window": "month", **one} for one in matched]
    return msgspec.convert({"tenants": [tenant], "budgets": budgets}, Config, strict=False)


def of_provider(name: str, limit: str, **more: object) -> dict[str, object]:
    return {"match": {"provider": name}, "limit_usd": limit, **more}


async def hold(process: Process, cents: int, *places: Place, within_s: float = 10.0, **asked):
    return await process.holds.hold(
        WHO,
        cents * CENT,
        deadline=Deadline.after(within_s, CLOCK),
        asked=Asked(places=lambda: places, **asked),
    )


async def sums(store, config: Config) -> dict[str, tuple[int, int]]:
    """Return settled and granted in cents of each budget that has been used, by its id."""
    table = BudgetTable(config)
    async with store.read() as tx:
        refs = [one.rule.ref_at(CLOCK.now()) for one in table.bindings if not one.each_user]
        found = await standings_of(tx, refs)
    return {
        ref.budget_id: (one.settled_nanousd // CENT, one.granted_nanousd // CENT)
        for ref, one in found.items()
    }


# Users, routes, providers, tags


async def test_each_user_has_a_budget_of_his_own(store, folder):
    async with running(store, config_of(users=1), folder) as process:
        ann = await hold(process, 90, user="ann")
        assert await hold(process, 90, user="bob") is not None
        with pytest.raises(BudgetExceeded) as refused:
            await hold(process, 90, user="ann", within_s=0.2)

        assert "user:acme/ann/month" == refused.value.limit_source
        assert ("user:acme/ann/month",) == tuple(ref.budget_id for ref in ann.refs)
        assert await hold(process, 500) is None, "no user, no budget of one"


async def test_a_user_with_a_strange_name_is_bound_too(store, folder):
    async with running(store, config_of(users=1), folder) as process:
        (await hold(process, 90, user="\x00\ud800" * 200)).release()


async def test_a_tag_s_budget_binds_all_who_set_it(store, folder):
    config = config_of({"match": {"tag": "team=ads"}, "limit_usd": "1"})
    async with running(store, config, folder) as process:
        await hold(process, 90, tags={"team": "ads"})

        with pytest.raises(BudgetExceeded):
            await hold(process, 90, tags={"team": "ads"}, within_s=0.2)
        assert await hold(process, 90, tags={"team": "search"}) is None


async def test_what_is_spent_is_settled_where_the_attempt_went(store, folder):
    """Held against the budgets of both providers; the one that was not asked keeps its money."""
    config = config_of(of_provider("p", "1"), of_provider("q", "1"))
    async with running(store, config, folder) as process:
        held = await hold(process, 80, P, Q)
        with pytest.raises(BudgetExceeded):
            await hold(process, 80, Q, within_s=0.2)
        await process.spend(held, 70, *AT_P)
        held.release()

        assert await hold(process, 80, Q) is not None
        with pytest.raises(BudgetExceeded):
            await hold(process, 80, P, within_s=0.2)
        await process.keeper.flush()
        settled = {name: pair[0] for name, pair in (await sums(store, config)).items()}
        assert {"provider:p/month": 70, "provider:q/month": 0} == settled


async def test_a_call_goes_elsewhere_when_a_provider_s_money_is_spent(store, folder):
    config = config_of(of_provider("p", "5"), of_provider("q", "0.5"))
    async with running(store, config, folder) as process:
        first = await hold(process, 40, P, Q)
        assert first.is_good_everywhere or first.covers("m", "q")
        await process.spend(first, 40, *AT_Q)
        first.release()
        await process.keeper.flush()

        second = await hold(process, 40, P, Q)

        assert [True, False] == [second.covers("m", one) for one in "pq"]
        assert ["provider:p/month"] == [ref.budget_id for ref in second.refs]
        await process.spend(second, 40, *AT_P)
        second.release()
        with pytest.raises(BudgetExceeded, match="provider:q/month"):
            await hold(process, 40, Q)


async def test_the_budget_that_lacks_money_is_blamed_and_no_other(store, folder):
    """Where one lacks some, nothing comes from the others either."""
    config = config_of({"match": {"tenant": "acme"}, "limit_usd": "1"}, of_provider("p", "0.5"))
    async with running(store, config, folder) as process:
        await hold(process, 40, P)

        with pytest.raises(BudgetExceeded) as refused:
            await hold(process, 40, P, within_s=0.2)

        assert "provider:p/month" == refused.value.limit_source


async def test_who_could_not_go_without_waits_although_there_are_other_places(store, folder):
    config = config_of({"match": {"tenant": "acme"}, "limit_usd": "1"}, of_provider("p", "9"))
    async with running(store, config, folder) as process:
        first = await hold(process, 80, P, Q)
        began_s = CLOCK.monotonic()
        waiting = asyncio.create_task(hold(process, 80, P, Q))
        await asyncio.wait({waiting}, timeout=3 * CHOICE_WAIT_S)
        assert not waiting.done()
        first.release()

        second = await waiting
        assert second.covers("m", "p")
        assert CLOCK.monotonic() - began_s < HOLD_WAIT_S


async def test_a_budget_that_warns_counts_where_the_attempt_went(store, folder):
    config = config_of(of_provider("p", "0.01", action="warn"), of_provider("q", "9"))
    async with running(store, config, folder) as process:
        held = await hold(process, 50, P, Q)
        assert [False, True] == [held.at("m", one).rejects for one in "pq"]
        await process.spend(held, 50, *AT_P)
        held.release()

    assert {"provider:p/month": (50, 0), "provider:q/month": (0, 0)} == await sums(store, config)


async def test_several_windows_are_held_at_once(store, folder):
    windows = [{"match": {}, "limit_usd": "1", "window": one} for one in ("hour", "day", "week")]
    async with running(store, config_of(*windows), folder) as process:
        held = await hold(process, 60)
        assert 3 == len(held.refs)
        with pytest.raises(BudgetExceeded):
            await hold(process, 60, within_s=0.2)


# Raises


def make_raise(budget_id: str, cents: int, *, life_s: float = 3600.0) -> RaiseRow:
    now = CLOCK.now()
    return RaiseRow(
        id=new_id("raise"), budget_id=budget_id, amount_nanousd=cents * CENT,
        created_at=now, expires_at=now + timedelta(seconds=life_s),
    )  # fmt: skip


async def test_a_raise_is_heard_of_by_a_process_that_has_no_money_left(store, folder):
    """And when it is over, what was lent by it is not lent again."""
    config = config_of({"match": {}, "limit_usd": "1"})
    row = make_raise("all/month", 50)
    async with running(store, config, folder) as process:
        first = await hold(process, 100)
        await process.spend(first, 100, *AT_P)
        first.release()
        await process.keeper.flush()
        with pytest.raises(BudgetExceeded):
            await hold(process, 20)

        async with store.write() as tx:
            await insert_raise(tx, row)

        async def admitted() -> bool:
            try:
                (await hold(process, 20)).release()
            except BudgetExceeded:
                return False
            return True

        await until(admitted)
        with pytest.raises(BudgetExceeded):
            await hold(process, 60)
        async with store.write() as tx:
            assert await end_raise(tx, "all/month", row.id)
            assert not await end_raise(tx, "all/month", row.id)
            assert [] == await list_raises(tx)

        async def refused() -> bool:
            return not await admitted()

        await until(refused)


async def test_raises_add_up_and_expire(store):
    now = CLOCK.now()
    ref = BudgetRef(budget_id="all/month", starts_at=now)
    over = msgspec.structs.replace(make_raise("all/month", 5), expires_at=now)
    async with store.write() as tx:
        for row in (make_raise("all/month", 1), make_raise("all/month", 2), over):
            await insert_raise(tx, row)
        await insert_raise(tx, make_raise("all/day", 9))
        found = await standings_of(tx, [ref])

    assert 3 * CENT == found[ref].raised_nanousd


# Crowds


async def processes_on(opened: AsyncExitStack, url: str, config: Config, folder, count: int):
    found = []
    for number in range(count):
        store = await open_store(url)  # each process has connections of its own
        opened.push_async_callback(store.close)
        one = running(store, config, folder, name=f"api-{number}")
        found.append(await opened.enter_async_context(one))
    return found


async def let_in(process: Process, chance: random.Random) -> bool:
    """Make a call that holds and costs 30, unless the budget refuses it."""
    try:
        held = await hold(process, EACH_CALL)
    except BudgetExceeded:
        return False
    await asyncio.sleep(chance.uniform(0.005, 0.03))
    await process.spend(held, EACH_CALL, *AT_P)
    held.release()
    return True


@pytest.mark.behaviour(160)
@pytest.mark.parametrize("count", [1, 4])
async def test_200_calls_of_30_against_1000(store_url, folder, count):
    """Never over, at most one call's worth under; whatever process they come to."""
    config = make_config(a_month(WALL))
    chance = random.Random(11)
    async with AsyncExitStack() as opened:
        processes = await processes_on(opened, store_url, config, folder, count)
        done = asyncio.Event()

        async def watch() -> int:
            most = 0
            while not done.is_set():
                [(settled, granted)] = (await sums(processes[0].store, config)).values()
                most = max(most, settled + granted)
                await asyncio.sleep(0.02)
            return most

        watching = asyncio.create_task(watch())
        made = [let_in(processes[number % count], chance) for number in range(200)]
        admitted = sum(await asyncio.gather(*made))
        for process in processes:
            await process.keeper.flush()
        done.set()

        assert WALL >= await watching
        assert ROOM == admitted
        [(settled, _)] = (await sums(processes[0].store, config)).values()
        assert ROOM * EACH_CALL == settled


async def test_holds_of_callers_that_were_killed_are_free_after_their_expiry(store, folder):
    """Ten callers die with their process, whose spool is gone with its disk."""
    config = make_config(a_month(WALL))
    table = BudgetTable(config)
    trader = Trader(store, CLOCK, owner="dead:1", lifetime_s=1.0)
    trading = asyncio.create_task(trader.run())
    dead = Process(store, ProcessHolds(table, trader, CLOCK), Spool(folder, "dead"))
    await asyncio.gather(*(hold(dead, EACH_CALL) for _ in range(10)))
    trading.cancel()
    await asyncio.gather(trading, return_exceptions=True)
    chance = random.Random(5)

    async with running(store, config, folder.with_name("alive")) as process:
        before = sum(await asyncio.gather(*(let_in(process, chance) for _ in range(20))))
        [(settled, granted)] = (await sums(store, config)).values()
        assert WALL >= settled + granted >= 300

        async def freed() -> bool:
            async with store.write() as tx:
                return 1 == await release_expired(tx)

        await until(freed)
        after = sum(await asyncio.gather(*(let_in(process, chance) for _ in range(40))))

    assert ROOM == before + after
    dead.spool.close()
