"""Days, weeks and months of spending: closed once, by midnights of a zone, right to the row."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa

from shared.ledger.drift import grant_differences, window_differences
from shared.ledger.periods import period_at
from shared.ledger.windows import WINDOWS, Calendar, close_windows
from shared.store.budgets import trade
from shared.store.columns import EPOCH
from shared.store.ledger import insert_ledger
from shared.store.records import BudgetRef
from shared.store.retention import kept_since, prune
from shared.store.windows import windows_of
from tests.contract.store.makers import HOUR, SECOND, START, make_row

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
FAR = timedelta(days=400)
BERLIN = Calendar(timezone="Europe/Berlin")

SQLITE = pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
"""For what is about calendars, and no different on the other database."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Scheduler:
    """Closes windows at given moments and remembers what it told."""

    def __init__(self, store, clock) -> None:
        self.store = store
        self.clock = clock
        self.calendar = Calendar()
        self.told: list[tuple[str, str, datetime, int]] = []

    async def tell(self, _tx, rows) -> None:
        self.told += [(one.scope, one.window, one.starts_at, one.sequence) for one in rows]

    async def tick(self, moment: datetime) -> int:
        self.clock.moment = moment
        return await close_windows(self.store, self.calendar, self.tell)

    async def insert(self, *rows, moment: datetime | None = None) -> None:
        self.clock.moment = moment or self.clock.moment
        async with self.store.write() as tx:
            await insert_ledger(tx, rows)

    async def every(self, step: timedelta, since: datetime, until: datetime, **values) -> None:
        """Spend a different sum in each step."""
        count = (until - since) // step
        rows = [
            make_row(
                f"{values.get('tenant_id')}{n}",
                ended_at=since + n * step,
                cost_nanousd=n + 1,
                **values,
            )
            for n in range(count)
        ]
        await self.insert(*rows, moment=since)

    async def windows(self, window: str, scope: str = "tenant:acme"):
        async with self.store.read() as tx:
            return await windows_of(tx, scope, START - FAR, START + FAR, window)

    async def sums(self, window: str, scope: str = "tenant:acme"):
        """Return what each window adds up to, with its end."""
        found = Counter[tuple[datetime, datetime]]()
        for row in await self.windows(window, scope):
            found[row.starts_at, row.ends_at] += row.cost_nanousd
        return dict(found)

    async def differences(self) -> list:
        async with self.store.read() as tx:
            return await window_differences(tx, EPOCH, START + FAR)


@pytest.fixture
def scheduler(store, clock):
    return Scheduler(store, clock)


async def test_a_day_is_closed_when_its_last_hour_is(scheduler):
    await scheduler.insert(
        make_row("a"), make_row("b", ended_at=START + 3 * HOUR), make_row("c", ended_at=START + DAY)
    )
    await scheduler.tick(at("2026-03-06T00:01:59"))
    assert {} == await scheduler.sums("day")

    await scheduler.tick(at("2026-03-06T00:02:00"))

    assert {(at("2026-03-05"), at("2026-03-06")): 2_000} == await scheduler.sums("day")


async def test_weeks_and_months_are_made_of_days(scheduler):
    await scheduler.every(6 * HOUR, at("2026-02-27"), at("2026-03-10"))
    await scheduler.tick(at("2026-04-02"))

    weeks = {
        (at("2026-02-23"), at("2026-03-02")): sum(range(1, 13)),
        (at("2026-03-02"), at("2026-03-09")): sum(range(13, 41)),
        (at("2026-03-09"), at("2026-03-16")): sum(range(41, 45)),
    }
    months = {
        (at("2026-02-01"), at("2026-03-01")): sum(range(1, 9)),
        (at("2026-03-01"), at("2026-04-01")): sum(range(9, 45)),
    }
    assert weeks == await scheduler.sums("week")
    assert months == await scheduler.sums("month")
    assert [] == await scheduler.differences()


@SQLITE
@pytest.mark.parametrize(
    ("timezone", "since"),
    [
        ("Europe/Berlin", "2026-03-27"),  # a day of 23 hours
        ("Europe/Berlin", "2026-10-23"),  # and one of 25
        ("America/Havana", "2026-10-30"),  # midnight comes twice
        ("Asia/Beirut", "2026-03-27"),  # midnight is skipped
        ("Asia/Kolkata", "2026-03-03"),  # days begin at half past
        ("Pacific/Chatham", "2026-04-03"),  # at a quarter to, and one of 25 hours
        ("Australia/Lord_Howe", "2026-04-03"),  # half an hour of summer time
    ],
)
async def test_days_begin_at_midnight_whatever_the_clocks_do(scheduler, timezone, since):
    """Each attempt is in the day of its zone, to the quarter of an hour."""
    scheduler.calendar = Calendar(timezone=timezone)
    begins = at(since)
    await scheduler.every(15 * MINUTE, begins, begins + 3 * DAY)
    moment = begins
    while moment < begins + 5 * DAY:  # as it goes, not all at the end
        await scheduler.tick(moment)
        moment += 11 * HOUR

    expected = Counter[tuple[datetime, datetime]]()
    for n in range(3 * 96):
        period = period_at(begins + n * 15 * MINUTE, "day", timezone=timezone)
        expected[period.starts_at, period.ends_at] += n + 1
    assert dict(expected) == await scheduler.sums("day")
    assert len(scheduler.told) == len(set(scheduler.told))
    assert {0} == {sequence for *_, sequence in scheduler.told}
    assert [] == await scheduler.differences()


async def test_tenants_may_have_zones_of_their_own(scheduler):
    scheduler.calendar = Calendar(
        timezone="Europe/Berlin", others={"tenant:far": "America/New_York"}
    )
    late = at("2026-03-05T23:30")
    await scheduler.insert(
        make_row("a", ended_at=late), make_row("b", tenant_id="far", ended_at=late)
    )

    await scheduler.tick(late + 8 * HOUR)
    near = {(at("2026-03-05T23:00"), at("2026-03-06T23:00")): 1_000}
    far = {(at("2026-03-05T05:00"), at("2026-03-06T05:00")): 1_000}
    assert ({}, far) == (await scheduler.sums("day"), await scheduler.sums("day", "tenant:far"))
    await scheduler.tick(late + DAY)
    assert (near, far) == (await scheduler.sums("day"), await scheduler.sums("day", "tenant:far"))


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
async def test_what_comes_late_is_added_to_every_window_it_belongs_to(scheduler, timezone):
    scheduler.calendar = Calendar(timezone=timezone)
    await scheduler.insert(make_row("a", ended_at=at("2026-03-05T18:10")))
    await scheduler.tick(at("2026-04-05"))
    for n, minute in enumerate((20, 40)):  # on both sides of midnight in Kolkata
        late = make_row(f"late{n}", ended_at=at(f"2026-03-05T18:{minute}"), cost_nanousd=7 + n)
        await scheduler.insert(late, moment=at("2026-04-07") + n * HOUR)
        await scheduler.tick(at("2026-04-07") + n * HOUR)
    await scheduler.tick(at("2026-04-08"))

    for window in WINDOWS:
        rows = await scheduler.windows(window)
        assert 1_015 == sum(row.cost_nanousd for row in rows), window
        assert 3 == sum(row.attempts for row in rows), window
    firsts = 2 if timezone == "Asia/Kolkata" else 1
    assert firsts == len(await scheduler.sums("day"))
    assert len(scheduler.told) == len(set(scheduler.told))
    assert [] == await scheduler.differences()


async def test_what_comes_late_for_a_quiet_day_is_its_first_row(scheduler):
    await scheduler.insert(make_row("a", ended_at=START - 3 * DAY))
    await scheduler.tick(START + DAY)
    await scheduler.insert(make_row("late"), moment=START + DAY)
    await scheduler.tick(START + DAY)

    assert [0, 0] == [row.sequence for row in await scheduler.windows("day")]


async def test_a_scheduler_that_was_away_for_three_hours_closes_each_window_once(scheduler):
    scheduler.calendar = BERLIN
    await scheduler.every(15 * MINUTE, at("2026-03-28T20:00"), at("2026-03-29T04:00"))
    await scheduler.tick(at("2026-03-28T21:30"))
    await scheduler.tick(at("2026-03-29T00:30"))
    await scheduler.tick(at("2026-03-29T23:30"))

    assert 8 == len(await scheduler.windows("hour"))
    assert [(12 * 13 // 2, 12), (sum(range(13, 33)), 20)] == [
        (row.cost_nanousd, row.attempts) for row in await scheduler.windows("day")
    ]
    assert len(scheduler.told) == len(set(scheduler.told)) == 8 + 2 + 1


async def test_schedulers_at_once_close_once_and_tell_once(store, clock):
    """Rows decide: also while late rows come in, and with their marks in each other's way."""
    some = [Scheduler(store, clock) for _ in range(3)]
    for one in some:
        one.calendar = Calendar(timezone="Asia/Kolkata", others={"tenant:t1": "Europe/Berlin"})
    for n in range(3):
        await some[0].every(HOUR, START, START + 2 * DAY, tenant_id=f"t{n}", request_id=f"r{n}")
        await some[0].insert(*(make_row(f"x{n}{m}", tenant_id=f"t{n}") for m in range(3)))
    clock.moment = START + 40 * DAY

    async def late(n: int) -> None:
        await some[0].insert(make_row(f"late{n}", tenant_id=f"t{n}", ended_at=START + n * HOUR))

    for _ in range(2):
        await asyncio.gather(
            *(close_windows(store, one.calendar, one.tell) for one in some),
            *(late(n) for n in range(3)),
        )
        clock.forward(60)
    await some[0].tick(clock.moment + HOUR)

    told = [row for one in some for row in one.told]
    assert len(told) == len(set(told))
    assert [] == await some[0].differences()
    for n in range(3):
        for window in WINDOWS:
            sums = (await some[0].sums(window, f"tenant:t{n}")).values()
            assert sum(range(1, 49)) + 4_000 == sum(sums)


@SQLITE
@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("UTC", "America/New_York", "2026-03-31T23:10"),
        ("UTC", "America/New_York", "2026-04-01T05:10"),
        ("UTC", "Asia/Tokyo", "2026-03-31T23:10"),
        ("UTC", "Asia/Tokyo", "2026-04-01T05:10"),
        ("Asia/Tokyo", "America/Los_Angeles", "2026-04-01T05:10"),
        ("America/Los_Angeles", "Pacific/Kiritimati", "2026-04-01T05:10"),
        ("Asia/Kolkata", "Asia/Kathmandu", "2026-04-10T12:10"),
    ],
)
async def test_a_change_of_the_zone_leaves_nothing_out_and_counts_nothing_twice(
    scheduler, before, after, changed
):
    scheduler.calendar = Calendar(timezone=before)
    await scheduler.every(3 * HOUR, at("2026-03-29"), at("2026-04-12"))
    moment = at("2026-03-30T00:10")
    while moment < at("2026-05-10"):
        if moment >= at(changed):
            scheduler.calendar = Calendar(timezone=after)
        await scheduler.tick(moment)
        moment += 19 * HOUR if moment < at("2026-04-13") else 9 * DAY
    late = make_row("late", ended_at=at("2026-04-01T01:30"), cost_nanousd=1)
    await scheduler.insert(late, moment=moment)
    await scheduler.tick(moment)
    await scheduler.tick(moment + HOUR)

    for window in WINDOWS:
        sums = await scheduler.sums(window)
        assert sum(range(1, 113)) + 1 == sum(sums.values()), window
        spans = sorted(sums)
        assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert [] == await scheduler.differences()


async def test_what_comes_late_finds_its_day_right_after_the_zone_has_changed(scheduler):
    """It lies in a day that is closed by the old zone and open by the new one."""
    await scheduler.insert(make_row("a", ended_at=at("2026-04-01T10:30")))
    await scheduler.tick(at("2026-04-02T00:10"))
    scheduler.calendar = Calendar(timezone="America/New_York")
    late = make_row("late", ended_at=at("2026-04-01T12:30"))
    await scheduler.insert(late, moment=at("2026-04-02T01:00"))
    await scheduler.tick(at("2026-04-02T01:01"))
    await scheduler.tick(at("2026-04-02T05:00"))

    assert {(at("2026-04-01"), at("2026-04-02")): 2_000} == await scheduler.sums("day")
    assert [] == await scheduler.differences()


# Forgetting


async def pruned(scheduler, moment, days=62) -> int:
    scheduler.clock.moment = moment
    async with scheduler.store.write() as tx:
        return await prune(tx, moment, timedelta(days=days))


async def test_hours_are_forgotten_and_days_stay(scheduler):
    await scheduler.every(HOUR, START, START + 2 * DAY)
    await scheduler.tick(START + 5 * DAY)
    day = await scheduler.sums("day")
    later = START + 64 * DAY
    await scheduler.tick(later)

    assert 48 == await pruned(scheduler, later)
    await scheduler.insert(make_row("late"), moment=later)
    assert 0 == await scheduler.tick(later + HOUR)

    assert [] == await scheduler.windows("hour")
    assert day == await scheduler.sums("day")
    assert [] == await scheduler.differences()


async def test_what_days_will_be_made_of_is_kept(scheduler):
    """A scheduler that was away for months still closes every day."""
    await scheduler.every(HOUR, START, START + 2 * DAY)
    await scheduler.tick(START + HOUR)

    assert 0 == await pruned(scheduler, START + 100 * DAY)
    await scheduler.tick(START + 100 * DAY)
    async with scheduler.store.read() as tx:
        assert await kept_since(tx) < START
    assert sum(range(1, 49)) == sum((await scheduler.sums("month")).values())


async def test_budgets_windows_are_forgotten_with_what_was_told(scheduler, store, clock):
    async def used(budget_id, amount, moment):
        ref = BudgetRef(budget_id=budget_id, starts_at=moment)
        async with store.write() as tx:
            await trade(tx, owner="one", refs=[ref], decide=lambda _: {ref: amount}, lifetime_s=60)

    await used("old", 0, START)
    await used("granted", 5, START)
    await used("young", 0, START + 60 * DAY)

    assert 1 == await pruned(scheduler, START + 95 * DAY)
    async with store.read() as tx:
        left = await tx.connection.scalars(sa.text("SELECT budget_id FROM budget_window"))
        assert {"granted", "young"} == set(left)


# Differences


async def faults(scheduler) -> set[tuple[str, str]]:
    return {(one.what, one.name) for one in await scheduler.differences()}


@SQLITE
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            "UPDATE spend_window SET cost_nanousd = cost_nanousd + 1 WHERE \"window\" = 'hour'",
            {("hour", "cost_nanousd"), ("day", "cost_nanousd")},
        ),
        (
            "UPDATE spend_window SET attempts = 0 WHERE \"window\" = 'week'",
            {("week", "attempts")},
        ),
        (
            "DELETE FROM spend_window WHERE \"window\" = 'day' AND cost_nanousd = 1000",
            {("day", "cost_nanousd")},
        ),
        ("DELETE FROM spend_window WHERE \"window\" = 'month'", {("month", "cost_nanousd")}),
        (
            "UPDATE spend_window SET cost_nanousd = -1 WHERE \"window\" = 'month'",
            {("month", "cost_nanousd")},
        ),
        ("DELETE FROM ledger WHERE attempt_id = 'b'", {("hour", "cost_nanousd")}),
        ("UPDATE ledger SET cost_nanousd = NULL WHERE attempt_id = 'a'",
         {("hour", "cost_nanousd"), ("hour", "unpriced_attempts")}),
    ],
)  # fmt: skip
async def test_faults_are_found(scheduler, store, fault, expected):
    """Whatever is no longer the sum of what it was made of."""
    await scheduler.insert(make_row("a"), make_row("b", ended_at=START + DAY, cost_nanousd=5))
    await scheduler.tick(START + 70 * DAY)
    await scheduler.tick(START + 70 * DAY + HOUR)
    assert [] == await scheduler.differences()

    async with store.write() as tx:
        await tx.connection.execute(sa.text(fault))

    found = await faults(scheduler)
    assert expected <= found
    assert {what for what, _ in expected} >= {what for what, _ in found} - {"week", "month"}


async def test_what_has_just_come_in_is_no_fault(scheduler):
    await scheduler.insert(make_row("a"))
    await scheduler.tick(START + DAY)
    await scheduler.insert(make_row("b"), moment=START + DAY + SECOND)

    assert [] == await scheduler.differences()


async def test_grants_that_do_not_add_up_are_found(store):
    refs = [BudgetRef(budget_id=name, starts_at=START) for name in ("a", "b", "c")]
    async with store.write() as tx:
        for ref in refs:
            await trade(tx, owner="one", refs=[ref], decide=lambda _, r=ref: {r: 30}, lifetime_s=60)
        assert [] == await grant_differences(tx)
        for fault in (
            "DELETE FROM budget_grant WHERE budget_id = 'a'",
            "UPDATE budget_grant SET amount_nanousd = 31 WHERE budget_id = 'b'",
            "DELETE FROM budget_window WHERE budget_id = 'c'",
        ):
            await tx.connection.execute(sa.text(fault))
        found = await grant_differences(tx)

    assert [("a", 0, 30), ("b", 31, 30), ("c", 30, 0)] == [
        (one.subject, one.expected, one.found) for one in found
    ]
