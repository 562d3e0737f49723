"""Budgets in SQL: settled and granted together stay under the limit, whoever comes when."""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from shared.ledger.grants import Need, Stock, traded
from shared.store import budget_rows
from shared.store.budgets import release_expired, settle, standing_of, trade
from shared.store.engine import Run, open_store
from shared.store.records import BudgetRef
from shared.store.schema import migrate
from tests.contract.store.makers import HOUR, START

LIMIT = 1_000
DAY = BudgetRef(budget_id="tenant:acme/day", starts_at=START)
MONTH = BudgetRef(budget_id="tenant:acme/month", starts_at=START - 24 * HOUR)


async def ask(store, owner, amount, *refs, returned=0, lifetime_s=60.0):
    """Ask for an amount in all windows or none; return what the owner then has of each."""
    refs = refs or (DAY,)
    stocks = {ref: Stock(limit_nanousd=LIMIT, returned_nanousd=returned) for ref in refs}
    needs = [Need(refs=refs, amount_nanousd=amount)] if amount else []
    async with store.write() as tx:
        standings = await trade(
            tx,
            owner=owner,
            refs=refs,
            decide=lambda found: traded(stocks, found, needs),
            lifetime_s=lifetime_s,
        )
    return [standings[ref].amount_nanousd for ref in refs]


async def settled(store, costs, **how):
    async with store.write() as tx:
        return await settle(tx, costs, **how)


async def sums(store, ref=DAY, owner=""):
    """Return settled, granted and what the owner has."""
    async with store.read() as tx:
        found = await standing_of(tx, ref, owner)
    return found.settled_nanousd, found.granted_nanousd, found.amount_nanousd


async def test_a_window_is_empty_before_its_first_call(store):
    assert (0, 0, 0) == await sums(store)


async def test_grants_of_all_owners_stay_under_the_limit(store):
    assert [600] == await ask(store, "p1", 600)
    assert [0] == await ask(store, "p2", 600)
    assert [400] == await ask(store, "p2", 400)

    assert (0, 1_000, 600) == await sums(store, owner="p1")


async def test_several_windows_are_taken_all_or_none(store):
    await ask(store, "p1", 900, MONTH)

    assert [0, 0] == await ask(store, "p2", 200, DAY, MONTH)
    assert [100, 100] == await ask(store, "p2", 100, DAY, MONTH)


async def test_a_cost_is_settled_out_of_its_grant(store):
    await ask(store, "p1", 600)

    standings = await settled(store, {("p1", DAY): 250})

    assert (250, 350, 350) == await sums(store, owner="p1")
    [(name, standing)] = standings.items()
    assert ("p1", DAY) == name
    assert (350, 250, 350) == (
        standing.amount_nanousd,
        standing.settled_nanousd,
        standing.granted_nanousd,
    )


async def test_a_cost_above_its_grant_and_one_without_are_settled_whole(store):
    await ask(store, "p1", 100)

    await settled(store, {("p1", DAY): 250, ("gone", DAY): 30, (None, DAY): 7})

    assert (287, 0, 0) == await sums(store, owner="p1")


async def test_an_owner_s_grants_are_taken_back_in_the_transaction_that_settles(store):
    await ask(store, "job:1", 600, DAY, MONTH)
    await ask(store, "p1", 100)

    await settled(store, {("job:1", DAY): 50}, release=["job:1", "never seen"])

    assert (50, 100, 0) == await sums(store, owner="job:1")
    assert (0, 0, 0) == await sums(store, MONTH, owner="job:1")
    assert {} == await settled(store, {}, release=["job:1"])


async def test_every_change_is_newer_than_the_one_before(store):
    versions = []
    for change in ({("p1", DAY): 0}, {("p1", DAY): 5}, {("p1", DAY): 0}):
        standings = await settled(store, change)
        versions.append(standings["p1", DAY].version)

    assert sorted(set(versions)) == versions


async def test_a_grant_that_nobody_renews_is_taken_back_when_its_time_is_over(store, clock):
    await ask(store, "dead", 300, DAY, MONTH, lifetime_s=60.0)
    await ask(store, "alive", 300, lifetime_s=60.0)
    clock.forward(50.0)
    await ask(store, "alive", 0, lifetime_s=60.0)
    clock.forward(10.0)

    async with store.write() as tx:
        assert 2 == await release_expired(tx)
    async with store.write() as tx:
        assert 0 == await release_expired(tx)

    assert (0, 300, 300) == await sums(store, owner="alive")
    assert (0, 0, 0) == await sums(store, MONTH, owner="dead")


async def test_windows_that_start_apart_are_counted_apart(store):
    later = BudgetRef(budget_id=DAY.budget_id, starts_at=START + timedelta(days=1))

    await settled(store, {(None, DAY): 5})

    assert (5, 0, 0) == await sums(store)
    assert (0, 0, 0) == await sums(store, later)


@pytest.mark.parametrize("seed", [1, 2])
async def test_owners_at_once_never_pass_the_limit_together(store, seed):
    """Asking, settling, returning and dying at random: settled + granted <= limit all the time."""
    chance = random.Random(seed)
    had = dict.fromkeys(("p1", "p2", "p3", "p4"), 0)

    async def act(owner: str) -> None:
        for _ in range(15):
            match chance.choice(("ask", "ask", "settle", "return", "die")):
                case "ask":
                    refs = chance.choice(((DAY,), (DAY, MONTH), (MONTH, DAY)))
                    await ask(store, owner, chance.randrange(300), *refs)
                case "settle":
                    _, _, amount = await sums(store, owner=owner)
                    cost = chance.randint(0, amount)
                    await settled(store, {(owner, DAY): cost, (owner, MONTH): 0})
                    had[owner] += cost
                case "return":
                    await ask(store, owner, 0, returned=chance.randrange(300))
                case "die":
                    await settled(store, {}, release=[owner])
            for ref in (DAY, MONTH):
                spent, granted, _ = await sums(store, ref)
                assert spent + granted <= LIMIT
                assert granted >= 0

    await asyncio.gather(*(act(owner) for owner in had))

    spent, granted, _ = await sums(store)
    amounts = [(await sums(store, owner=owner))[2] for owner in had]
    assert (sum(had.values()), sum(amounts)) == (spent, granted)


async def test_hundreds_of_windows_are_settled_at_once(store):
    """Each user of a tenant may have a budget of his own."""
    refs = [BudgetRef(budget_id=f"user:{number:03}", starts_at=START) for number in range(450)]
    for ref in refs[:3]:
        await ask(store, "p1", 100, ref)

    standings = await settled(store, {("p1", ref): place for place, ref in enumerate(refs)})

    assert {("p1", ref): place for place, ref in enumerate(refs)} == {
        name: standing.settled_nanousd for name, standing in standings.items()
    }
    assert [100, 99, 98, 0] == [standings["p1", ref].amount_nanousd for ref in refs[:4]]
    await settled(store, {}, release=["p1"])
    assert (2, 0, 0) == await sums(store, refs[2], owner="p1")


async def test_grants_are_found_without_reading_all_of_them(tmp_path):
    """SQLite goes by the index, however many grants other processes have."""
    url = f"sqlite:///{tmp_path}/plan.db"
    migrate(url)
    store = await open_store(url)
    plans: list[str] = []

    def work(run: Run) -> None:
        def explained(statement: str, values: Sequence[object]) -> Sequence[Any]:
            plans.extend(row[3] for row in run(f"EXPLAIN QUERY PLAN {statement}", values))
            return ()

        names = [("p1", DAY), ("p1", MONTH)]
        budget_rows.grants(explained, names)
        budget_rows.delete(explained, names)
        windows = {DAY: budget_rows.WindowRow(0, 1, 1, 0)}
        budget_rows.keep(explained, windows, {})

    async with store.write() as tx:
        await tx.together(work)
    await store.close()

    assert 3 == sum(plan.startswith("SEARCH budget_") for plan in plans)
    assert not [plan for plan in plans if plan.startswith("SCAN budget_")]
