"""The ledger: every attempt once, and what a tenant used."""

import asyncio

import msgspec
import pytest
import sqlalchemy as sa

from shared.chat.usage import Usage
from shared.store.ledger import insert_ledger, job_cost, usage_totals
from shared.store.records import ModelTotals, UsageTotals
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
