"""Spend windows: closed once, corrected by what comes late, harmless to close twice."""

import asyncio
from datetime import timedelta

import pytest

from shared.ledger.windows import AT_ONCE, close_hours
from shared.store.ledger import insert_ledger
from shared.store.windows import windows_of
from tests.contract.store.makers import HOUR, SECOND, START, make_row

NINE = START.replace(minute=0, second=0, microsecond=0)
TEN = NINE + HOUR
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ledger(store, clock):
    async def insert(*rows):
        async with store.write() as tx:
            await insert_ledger(tx, rows)

    return insert


@pytest.fixture
def tick(store, clock):
    """Close what is due, as a scheduler does, at a moment."""

    async def close(moment):
        clock.moment = moment
        count, done = 0, False
        while not done:
            async with store.write() as tx:
                closed = await close_hours(tx, await tx.now())
            count, done = count + len(closed.rows), closed.done
        return count

    return close


async def windows(store, scope="tenant:acme"):
    async with store.read() as tx:
        found = await windows_of(tx, scope, NINE - 100 * HOUR, NINE + 100 * HOUR)
    return [(row.starts_at, row.sequence, row.attempts, row.cost_nanousd) for row in found]


async def test_an_hour_closes_when_its_grace_is_over(store, ledger, tick):
    await ledger(make_row("a"), make_row("b"), make_row("c", ended_at=TEN))

    assert 0 == await tick(TEN + 119 * SECOND)
    assert 1 == await tick(TEN + 120 * SECOND)
    assert [(NINE, 0, 2, 2_000)] == await windows(store)


async def test_every_tenant_has_its_own_and_quiet_hours_have_none(store, ledger, tick):
    await ledger(make_row("a"), make_row("b", tenant_id="other", ended_at=NINE))

    assert 2 == await tick(TEN + 5 * HOUR)
    assert [(NINE, 0, 1, 1_000)] == await windows(store)
    assert [(NINE, 0, 1, 1_000)] == await windows(store, "tenant:other")


async def test_traffic_that_cost_nothing_is_recorded(store, ledger, tick):
    await ledger(make_row("a", cost_nanousd=None))

    assert 1 == await tick(TEN + HOUR)
    assert [(NINE, 0, 1, 0)] == await windows(store)


async def test_closing_again_changes_nothing(store, ledger, tick):
    await ledger(make_row("a"))
    await tick(TEN + HOUR)

    assert [0, 0] == [await tick(TEN + HOUR), await tick(TEN + HOUR + MINUTE)]


async def test_late_rows_become_adjustments(store, ledger, tick, clock):
    """However often and however late: the sum over an hour's rows is what the ledger says."""
    await ledger(make_row("a"))
    await tick(TEN + 3 * MINUTE)
    clock.moment = TEN + 4 * MINUTE
    await ledger(make_row("b", cost_nanousd=5), make_row("c", ended_at=TEN + MINUTE))
    assert 1 == await tick(TEN + 5 * MINUTE)
    clock.moment = TEN + 70 * HOUR
    await ledger(make_row("d", cost_nanousd=7))
    assert 2 == await tick(TEN + 71 * HOUR)

    expected = [(NINE, 0, 1, 1_000), (NINE, 1, 1, 5), (NINE, 2, 1, 7), (TEN, 0, 1, 1_000)]
    assert expected == await windows(store)


async def test_a_row_that_was_committed_after_the_look_is_not_forgotten(store, ledger, tick, clock):
    """It says it was recorded before the last tick, but that tick could not see it."""
    await ledger(make_row("a"))
    await tick(TEN + 3 * MINUTE)
    clock.moment = TEN + 3 * MINUTE - SECOND
    await ledger(make_row("b", cost_nanousd=5))

    assert 1 == await tick(TEN + 4 * MINUTE)
    assert [(NINE, 0, 1, 1_000), (NINE, 1, 1, 5)] == await windows(store)


async def test_a_late_row_for_an_hour_without_traffic_is_its_first(store, ledger, tick, clock):
    await tick(TEN + 3 * MINUTE)
    clock.moment = TEN + 4 * MINUTE
    await ledger(make_row("a"))

    assert 1 == await tick(TEN + 5 * MINUTE)
    assert [(NINE, 0, 1, 1_000)] == await windows(store)


async def test_after_a_long_stop_every_missed_hour_is_closed(store, ledger, tick):
    await tick(NINE + 3 * MINUTE)
    await ledger(*(make_row(f"a{n}", ended_at=START + n * HOUR) for n in range(60)))

    assert 60 == await tick(START + 61 * HOUR)


async def test_two_schedulers_at_once_close_once(store, ledger, clock):
    await ledger(*(make_row(f"a{n}", tenant_id=f"t{n}") for n in range(20)))
    clock.moment = TEN + HOUR

    async def close():
        async with store.write() as tx:
            return len((await close_hours(tx, await tx.now())).rows)

    written = await asyncio.gather(*(close() for _ in range(5)))

    assert 20 == sum(written)
    assert [(NINE, 0, 1, 1_000)] == await windows(store, "tenant:t7")


async def test_the_first_run_closes_all_there_is_however_long_ago(store, ledger, tick):
    """Empty hours take no time: an attempt of a host without a clock is no reason to give up."""
    long_ago = START.replace(year=1971)
    await ledger(make_row("old", ended_at=long_ago), make_row("new"))

    assert 2 == await tick(TEN + HOUR)
    assert [(NINE, 0, 1, 1_000)] == await windows(store)


async def test_a_long_stop_is_made_up_for_in_short_transactions(store, ledger, clock):
    await ledger(*(make_row(f"a{n}", ended_at=START + n * HOUR) for n in range(AT_ONCE + 5)))
    clock.moment = START + 100 * HOUR
    async with store.write() as tx:
        first = await close_hours(tx, await tx.now())
    async with store.write() as tx:
        second = await close_hours(tx, await tx.now())

    assert [(AT_ONCE, False), (5, True)] == [(len(one.rows), one.done) for one in (first, second)]
