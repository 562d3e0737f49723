"""The ledger: every attempt once, and what a tenant used."""

import asyncio
from datetime import datetime
from itertools import chain, combinations

import msgspec
import pytest
import sqlalchemy as sa

from shared.chat.usage import Usage
from shared.store.columns import Words
from shared.store.ledger import REFUSALS, insert_ledger, job_cost, usage_totals
from shared.store.money_tables import ledger
from shared.store.records import BudgetRef, ModelTotals, UsageTotals
from tests.contract.store.makers import HOUR, SECOND, START, make_row


async def insert(store, *rows):
    async with store.write() as tx:
        return await insert_ledger(tx, rows)


async def totals(store, tenant_id="acme", since=START - HOUR, until=START + HOUR):
    async with store.read() as tx:
        return await usage_totals(tx, tenant_id, since, until)


@pytest.mark.behaviour(155)
async def test_every_field_is_kept(store):
    usage = Usage(
        input_tokens=1,
        output_tokens=2,
        cache_read_tokens=3,
        cache_write_tokens=4,
        reasoning_tokens=5,
        input_audio_tokens=6,
        output_audio_tokens=7,
        cache_write_1h_tokens=8,
        input_image_tokens=9,
        output_image_tokens=10,
        input_characters=11,
        input_audio_ms=12,
        estimated=True,
        service_tier="flex",
        reported_nanousd=13,
    )
    row = make_row(
        job_id="job_1",
        user="Zoë \x00 \ud800",
        tags={"team": "ω", "nul": "\x00"},
        reported_model="pm-2026",
        stream=True,
        code="upstream_timeout",
        status_code=504,
        usage=usage,
        price_source="file",
        duration_ms=12,
        first_token_ms=3,
        cost_nanousd=2**53 + 1,
    )
    await insert(store, row)

    async with store.read() as tx:
        found = (await tx.connection.execute(sa.text("SELECT * FROM ledger"))).one()._asdict()
    for name, value in msgspec.structs.asdict(usage).items():
        assert value == found[name]
    assert 2**53 + 1 == found["cost_nanousd"]
    assert "Zoë \ufffd \ufffd" == found["user"]
    assert {"team": "ω", "nul": "\x00"} == msgspec.json.decode(found["tags"])
    assert 1_772_703_000_123_456 == found["ended_at"]


def rows_of_all_sorts():
    """Many that are alike, some of another caller, and some that are each of their own sort."""
    day = BudgetRef(budget_id="day", starts_at=START)
    tags = {"team": "search"}
    alike = [
        make_row(
            f"att_a{number:03}",
            user=f"Zoë {number} \x00" if number == 7 else None,
            budgets=(day,),
            cost_nanousd=number or None,
            ended_at=START + number * SECOND,
            usage=Usage(input_tokens=number, reasoning_tokens=2 * number),
        )
        for number in range(300)
    ]
    others = [make_row(f"att_b{number:03}", key_id="other", tags=tags) for number in range(40)]
    odd = [
        make_row(
            f"att_c{number:03}",
            code=f"\ud800{number}",
            reported_model=f"m\x00{number}",
            stream=number % 2 == 0,
            tags=dict(tags, number=str(number)),
            usage=Usage(web_searches=number, estimated=number % 2 == 1),
        )
        for number in range(20)
    ]
    return [*odd[::2], *alike, *others, *odd[1::2]]


async def test_rows_are_kept_as_given_however_many_are_alike(store):
    rows = rows_of_all_sorts()
    assert {row.attempt_id for row in rows} == await insert(store, *rows)

    async with store.read() as tx:
        kept = (await tx.connection.execute(sa.select(ledger))).all()
    found = {row.attempt_id: row._asdict() for row in kept}
    assert len(rows) == len(found)
    for row in rows:
        expected = msgspec.structs.asdict(row) | msgspec.structs.asdict(row.usage)
        del expected["usage"]
        for name in ("user", "code", "reported_model"):
            expected[name] = Words().process_bind_param(expected[name], None)
        recorded_at = found[row.attempt_id].pop("recorded_at")
        assert isinstance(recorded_at, datetime)
        assert expected == found[row.attempt_id]


async def test_rows_are_kept_as_given_whatever_they_happen_to_share(store):
    """One odd value among many that are the same is no other's."""
    usual = {"user": None, "first_token_ms": None, "cache_read_tokens": 0, "reasoning_tokens": 0}
    odd = {"user": "", "first_token_ms": 0, "cache_read_tokens": 3, "reasoning_tokens": 4}
    given = {}
    for number, names in enumerate(chain.from_iterable(combinations(odd, n) for n in range(5))):
        for place in range(20):
            values = usual | ({name: odd[name] for name in names} if place == number else {})
            given[f"att_{number:02}{place:02}"] = f"key_{number}", *values.values()
    rows = [
        make_row(
            name,
            key_id=key_id,
            user=user,
            first_token_ms=first_token_ms,
            usage=Usage(cache_read_tokens=cached, reasoning_tokens=reasoning),
        )
        for name, (key_id, user, first_token_ms, cached, reasoning) in given.items()
    ]
    await insert(store, *rows)

    async with store.read() as tx:
        kept = await tx.connection.execute(
            sa.select(ledger.c.attempt_id, ledger.c.key_id, *(ledger.c[name] for name in usual))
        )
    assert given == {name: tuple(values) for name, *values in kept}


@pytest.mark.parametrize(
    "known", [("att_a000",), ("att_a299", "att_c003"), ("att_b001", "att_b039")]
)
async def test_only_what_is_new_of_many_is_written(store, known):
    """Wherever among them those stand that are known."""
    rows = rows_of_all_sorts()
    names = {row.attempt_id for row in rows}
    await insert(store, *(make_row(name, cost_nanousd=77) for name in known))

    assert names - set(known) == await insert(store, *rows)

    async with store.read() as tx:
        found = (await tx.connection.execute(sa.select(ledger))).all()
    assert names == {row.attempt_id for row in found}
    assert len(known) == sum(row.cost_nanousd == 77 for row in found if row.attempt_id in known)


async def test_a_row_that_the_database_never_takes_is_told(store):
    """Nothing of the others is written with it."""
    rows = [make_row(f"att_{number:03}", cost_nanousd=number) for number in range(40)]

    with pytest.raises(REFUSALS):
        await insert(store, *rows, make_row("huge", cost_nanousd=2**63))

    assert 0 == (await totals(store)).attempts


async def test_an_attempt_stands_once(store):
    """The second of two equal ids changes nothing, in one call or over several."""
    assert set() == await insert(store)
    new = await insert(store, make_row("a"), make_row("b"), make_row("a", cost_nanousd=9))
    assert {"a", "b"} == new
    assert {"c"} == await insert(store, make_row("b"), make_row("c"))

    assert 3_000 == (await totals(store)).cost_nanousd


async def test_writers_at_once_count_each_row_as_new_only_once(store):
    rows = [make_row(f"att_{number:03}") for number in range(600)]

    counted = await asyncio.gather(*(insert(store, *rows[n * 50 :]) for n in range(6)))

    assert 600 == sum(len(new) for new in counted)
    assert 600 == (await totals(store)).attempts


async def test_totals(store):
    await insert(
        store,
        make_row("a", request_id="r1", outcome="failed", provider="p1", cost_nanousd=None),
        make_row("b", request_id="r1", provider="p2"),
        make_row(
            "c",
            provider="p2",
            usage=Usage(
                input_tokens=5,
                cache_read_tokens=3,
                output_tokens=7,
                reasoning_tokens=4,
                estimated=True,
            ),
        ),
        make_row("d", tenant_id="other"),
        make_row("e", ended_at=START + HOUR),
        make_row("f", ended_at=START - HOUR - SECOND),
    )
    first = ModelTotals(
        provider="p1",
        model="pm",
        requests=1,
        attempts=1,
        input_tokens=10,
        output_tokens=2,
        cache_read_tokens=0,
        reasoning_tokens=0,
        cost_nanousd=0,
        unpriced_attempts=1,
        estimated_attempts=0,
    )
    second = ModelTotals(
        provider="p2",
        model="pm",
        requests=2,
        attempts=2,
        input_tokens=15,
        output_tokens=9,
        cache_read_tokens=3,
        reasoning_tokens=4,
        cost_nanousd=2_000,
        unpriced_attempts=0,
        estimated_attempts=1,
    )

    expected = UsageTotals(
        requests=2,
        attempts=3,
        input_tokens=25,
        output_tokens=11,
        cache_read_tokens=3,
        reasoning_tokens=4,
        cost_nanousd=2_000,
        unpriced_attempts=1,
        estimated_attempts=1,
        by_model=(first, second),
    )
    assert expected == await totals(store)


async def test_nothing_used_is_nothing(store):
    assert UsageTotals() == await totals(store, "nobody")


async def test_a_jobs_cost_is_that_of_all_its_attempts(store):
    """Earlier runs and lost attempts included; unknown as long as no cost is known."""
    await insert(
        store,
        make_row(attempt_id="att_1", job_id="job_1", cost_nanousd=5),
        make_row(attempt_id="att_2", job_id="job_1", cost_nanousd=7, outcome="lost"),
        make_row(attempt_id="att_3", job_id="job_2", cost_nanousd=None),
        make_row(attempt_id="att_4", cost_nanousd=11),
    )

    async with store.read() as tx:
        found = [await job_cost(tx, job_id) for job_id in ("job_1", "job_2", "job_3")]
    assert [12, None, None] == found
