"""What was used, in groups, on both databases."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shared.chat.usage import Usage
from shared.ledger.usage_report import shifts_of
from shared.store.cache_hits import CacheHits, add_cache_hits
from shared.store.ledger import insert_ledger
from shared.store.usage import Asked, grouped, late_costs
from tests.contract.store.makers import HOUR, SECOND, START, make_row

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ROWS = (
    make_row("a", request_id="r1", provider="p1", cost_nanousd=None, user="bob"),
    make_row("b", request_id="r1", provider="p2", tags={"team": "search", "env": "prod"}),
    make_row("c", request_id="r2", batch_id="batch_1", route="n", tags={"team": "search"}),
    make_row("d", request_id="r3", key_id="key_2", user="ann", ended_at=START + DAY),
    make_row("e", request_id="r4", tenant_id="other", cost_nanousd=7),
)


@pytest.fixture
async def used(store):
    async with store.write() as tx:
        await insert_ledger(tx, ROWS)
    return store


async def look(store, *groups, zone="UTC", since=START - DAY, until=START + 2 * DAY, **more):
    only = more.pop("only", {})
    async with store.read() as tx:
        shifts = shifts_of(ZoneInfo(zone), since, until)
        asked = Asked(since=since, until=until, only=only)
        return await grouped(tx, asked, groups, shifts, **more)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ((), {(): (4, 5, 3_007)}),
        (("tenant",), {("acme",): (3, 4, 3_000), ("other",): (1, 1, 7)}),
        (("key",), {("key_1",): (3, 4, 2_007), ("key_2",): (1, 1, 1_000)}),
        (("user",), {("",): (3, 3, 2_007), ("ann",): (1, 1, 1_000), ("bob",): (1, 1, 0)}),
        (("route",), {("m",): (3, 4, 2_007), ("n",): (1, 1, 1_000)}),
        (("batch",), {("",): (3, 4, 2_007), ("batch_1",): (1, 1, 1_000)}),
        (
            ("provider", "model"),
            {("p", "pm"): (3, 3, 2_007), ("p1", "pm"): (1, 1, 0), ("p2", "pm"): (1, 1, 1_000)},
        ),
        (
            ("tag",),
            {
                ("",): (3, 3, 1_007),
                ("env=prod",): (1, 1, 1_000),
                ("team=search",): (2, 2, 2_000),
            },
        ),
        (("tag:team",), {("",): (3, 3, 1_007), ("search",): (2, 2, 2_000)}),
    ],
)
async def test_groups(used, groups, expected):
    """A request counts once in each group it has an attempt in; by tag an attempt in each."""
    found = await look(used, *groups)

    assert expected == {one.key: (one.requests, one.attempts, one.cost_nanousd) for one in found}
    assert sorted(expected) == [one.key for one in found]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ({"tenant": "acme"}, 3_000),
        ({"key": "key_2"}, 1_000),
        ({"user": "bob"}, 0),
        ({"user": "o'x\x00"}, 0),
        ({"provider": "p2", "model": "pm", "route": "m"}, 1_000),
        ({"batch": "batch_1"}, 1_000),
        ({"tag:team": "search"}, 2_000),
        ({"tag:team": "search", "tag:env": "prod"}, 1_000),
        ({"tag:it's": 'a"b'}, 0),
    ],
)
async def test_filters(used, only, expected):
    [found] = await look(used, only=only)

    assert expected == found.cost_nanousd


async def test_pages_follow_each_other(used):
    """Also where a part of the key is nothing."""
    groups = ("day", "user", "tag")
    whole = await look(used, *groups)
    found, after = [], None
    while page := await look(used, *groups, after=after, limit=1):
        found += page
        after = page[-1].key

    assert 5 == len(whole)
    assert whole == found


async def test_hours_are_utcs_and_days_the_zones(store):
    moments = [NOON + offset for offset in (timedelta(), HOUR - SECOND, HOUR, 12 * HOUR - SECOND)]
    async with store.write() as tx:
        rows = [make_row(f"a{n}", ended_at=moment) for n, moment in enumerate(moments)]
        await insert_ledger(tx, rows)

    hours = await look(store, "hour")
    utc = await look(store, "day")
    kolkata = await look(store, "day", zone="Asia/Kolkata")

    assert [(12, 2), (13, 1), (23, 1)] == [(at(one).hour, one.attempts) for one in hours]
    assert [(5, 4)] == [(at(one).day, one.attempts) for one in utc]
    assert [(5, 3), (6, 1)] == [(at(one).day, one.attempts) for one in kolkata]


@pytest.mark.parametrize(
    ("day", "hours"),
    [(datetime(2026, 3, 29, tzinfo=UTC), 23), (datetime(2026, 10, 25, tzinfo=UTC), 25)],
)
async def test_a_day_on_which_clocks_change(store, day, hours):
    """Its attempts are those between its own midnights, every quarter of an hour looked at."""
    quarter = HOUR / 4
    async with store.write() as tx:
        moments = [day - 6 * HOUR + n * quarter for n in range(36 * 4)]
        await insert_ledger(
            tx, [make_row(f"a{n:03}", ended_at=moment) for n, moment in enumerate(moments)]
        )
    zone = "Europe/Berlin"

    found = await look(store, "day", zone=zone, since=day - 9 * DAY, until=day + 9 * DAY)

    by_day = {at(one).day: one.attempts for one in found}
    assert hours * 4 == by_day[day.day]
    expected: dict[int, int] = {}
    for moment in moments:
        local = moment.astimezone(ZoneInfo(zone)).day
        expected[local] = expected.get(local, 0) + 1
    assert expected == by_day


async def test_what_the_cache_saved_stands_beside_what_was_spent(used):
    """Where nothing else was used, too; where it is not known it is not made up."""
    hour = START.replace(minute=0, second=0, microsecond=0)
    async with used.write() as tx:
        await add_cache_hits(tx, [hits("acme", hour), hits("other", hour + DAY, model="x")])

    tenants = await look(used, "tenant")
    models = await look(used, "day", "model")
    [only] = await look(used, only={"tenant": "acme"})

    assert [("acme", 2, 50), ("other", 2, 50)] == [
        (one.key[0], one.cache_hits, one.saved_nanousd) for one in tenants
    ]
    assert [("pm", 4, 2), ("pm", 1, 0), ("x", 0, 2)] == [
        (one.key[1], one.attempts, one.cache_hits) for one in models
    ]
    assert 50 == only.saved_nanousd
    assert {None} == {one.saved_nanousd for one in await look(used, "user")}
    assert [None] == [one.cache_hits for one in await look(used, only={"user": "ann"})]


def hits(tenant_id, starts_at, model="pm"):
    return CacheHits(
        tenant_id=tenant_id,
        starts_at=starts_at,
        provider="p",
        model=model,
        hits=2,
        input_tokens=3,
        output_tokens=4,
        saved_nanousd=50,
    )


async def test_corrections_are_in_the_cost(used):
    """Of an attempt in the group that it is in, and are no attempts themselves."""
    correction = make_row(
        "adj_1", request_id="r2", adjusts="c", route="n", cost_nanousd=-400, usage=Usage()
    )
    async with used.write() as tx:
        await insert_ledger(tx, [correction])

    [_, found] = await look(used, "route")

    assert (1, 1, 600) == (found.requests, found.attempts, found.cost_nanousd)


async def test_tags_of_any_text(store):
    tags = {"nul": "a\x00b", "a=b": '"', "ω": "\\u0000"}
    async with store.write() as tx:
        await insert_ledger(tx, [make_row(tags=tags)])

    found = await look(store, "tag")

    assert 3 == len(found)
    assert {'a=b="'} < {one.key[0] for one in found}


async def test_late_costs_are_the_last_ones(used):
    async with used.read() as tx:
        found = await late_costs(tx, "acme", START - DAY, limit=2)

    assert ("key_2", "r3", 1_000) == found[0]
    assert 2 == len(found)


def at(one):
    return datetime.fromtimestamp(one.key[0] / 1_000_000, UTC)
