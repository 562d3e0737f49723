"""Jobs as callers see them."""

from datetime import timedelta

import msgspec
import pytest

from shared.chat.usage import Usage
from shared.store.backlog import Backlog, backlogs, count_open, count_queued, queue_position
from shared.store.claims import (
    claim,
    end_unleased,
    finish,
    open_attempt,
    release_due,
    reschedule,
)
from shared.store.jobs import (
    attempts_of,
    count_attempts,
    delete_job,
    get_job,
    insert_job,
    list_jobs,
)
from shared.store.records import JobRow
from tests.contract.store.makers import HOUR, SECOND, START, ended, ids, make_attempt, make_job


async def insert(store, *jobs, at=START):
    async with store.write() as tx:
        for new in jobs:
            await insert_job(tx, new, at)


async def get(store, job_id="job_1", tenant_id="acme"):
    async with store.read() as tx:
        return await get_job(tx, tenant_id, job_id)


async def page(store, *, limit=10, after=None, status=None, tenant_id="acme"):
    async with store.read() as tx:
        return await list_jobs(tx, tenant_id, limit=limit, after=after, status=status)


async def test_a_job_comes_back_as_it_went_in(store):
    new = make_job(
        body=b"\x00\xff{}",
        priority="batch",
        metadata={"a": "ü"},
        tags={"t": "1"},
        user="zoe",
        webhook_url="https://a/",
        not_before=START - SECOND,
        batch_id="batch_1",
    )
    await insert(store, new)

    fields = msgspec.structs.asdict(new)
    expected = JobRow(**fields, status="queued", created_at=START, queued_at=START)
    assert expected == await get(store)


async def test_a_job_is_its_tenants_own(store):
    await insert(store, make_job())

    assert await get(store, tenant_id="other") is None
    assert await get(store, "job_2") is None
    assert [] == await page(store, tenant_id="other")
    async with store.write() as tx:
        await end_unleased(tx, "job_1", ended())
        assert not await delete_job(tx, "other", "job_1")


async def test_a_job_for_later_is_scheduled_until_its_moment(store):
    await insert(
        store,
        make_job(not_before=START + SECOND, priority="batch"),
        make_job("job_2", not_before=START + HOUR),
    )

    found = await get(store)
    assert "scheduled" == found.status
    async with store.write() as tx:
        assert set() == await release_due(tx, START)
        assert {"batch"} == await release_due(tx, START + SECOND)
        assert set() == await release_due(tx, START + SECOND)
    found = await get(store)
    assert ("queued", START + SECOND) == (found.status, found.queued_at)


async def test_pages_newest_first(store):
    for number in range(5):
        await insert(store, make_job(f"job_{number}"), at=START + number * SECOND)
    await insert(store, make_job("job_5"), at=START + 4 * SECOND)

    assert ["job_5", "job_4", "job_3"] == ids(await page(store, limit=3))
    assert ["job_2", "job_1", "job_0"] == ids(await page(store, limit=3, after="job_3"))
    assert [] == await page(store, after="job_0")
    assert [] == await page(store, after="nothing")


async def test_pages_go_on_after_a_job_that_was_deleted(store):
    """Its id says when it was made; it is so, too, with the id of somebody else's."""
    made = [f"job_{number:012x}{0:020x}" for number in range(4)]
    for number, one in enumerate(made):
        tenant_id = "other" if number == 2 else "acme"
        await insert(store, make_job(one, tenant_id=tenant_id), at=START + number * SECOND)

    assert made[1::-1] == ids(await page(store, after=made[2]))
    async with store.write() as tx:
        await end_unleased(tx, made[1], ended())
        await delete_job(tx, "acme", made[1])
    assert made[:1] == ids(await page(store, after=made[1]))
    assert [] == await page(store, after=made[3].replace("job", "batch"))


async def test_lines_are_listed_by_their_batch_only(store):
    lines = [make_job(f"line_{n}", batch_id="batch_1", line_no=n) for n in (1, 2)]
    await insert(store, make_job(), *lines)

    assert ["job_1"] == ids(await page(store))
    async with store.read() as tx:
        found = await list_jobs(tx, "acme", limit=10, after=None, batch_id="batch_1")
    assert {"line_1", "line_2"} == set(ids(found))


async def test_a_list_by_status_leaves_the_bodies_out(store):
    await insert(store, make_job("job_1"), make_job("job_2"))
    async with store.write() as tx:
        await end_unleased(tx, "job_2", ended("cancelled", response_body=b"so far"))

    (found,) = await page(store, status="cancelled")
    assert ("job_2", b"", b"so far") == (found.id, found.body, found.response_body)


async def test_the_last_attempts_of_many(store):
    """They tell by their numbers how many there were."""
    await insert(store, make_job())
    async with store.write() as tx:
        await claim(tx, owner="w1", lease_s=30, limit=1, classes=["default"])
        for number in range(1, 8):
            row = make_attempt(f"att_{number}", number=number, started_at=START + number * SECOND)
            await open_attempt(tx, token=1, row=row)

        assert 7 == len(await attempts_of(tx, "job_1"))
        assert [6, 7] == [row.number for row in await attempts_of(tx, "job_1", last=2)]
        assert 7 == await count_attempts(tx, "job_1")
        assert 0 == await count_attempts(tx, "job_2")


async def test_only_a_final_job_can_be_deleted_and_its_attempts_go_too(store):
    await insert(store, make_job())
    async with store.write() as tx:
        assert not await delete_job(tx, "acme", "job_1")
        (job,) = await claim(tx, owner="w1", lease_s=30, limit=1, classes=["default"])
        await open_attempt(tx, token=1, row=make_attempt())
        assert not await delete_job(tx, "acme", "job_1")
        await finish(tx, job_id="job_1", token=job.lease_token, end=ended())
        assert await delete_job(tx, "acme", "job_1")
        assert [] == await attempts_of(tx, "job_1")

    assert await get(store) is None


async def test_what_is_open_and_what_is_queued(store):
    await insert(
        store,
        *(make_job(f"job_{number}") for number in range(4)),
        make_job("job_4", not_before=START + HOUR),
        make_job("job_5", priority="batch"),
        make_job("job_6", tenant_id="other", priority="batch"),
        make_job("line", priority="batch", batch_id="batch_1"),
    )
    async with store.write() as tx:
        await claim(tx, owner="w1", lease_s=30, limit=1, classes=["default"])
        await end_unleased(tx, "job_3", ended("cancelled"))
        await end_unleased(tx, "line", ended("cancelled", at=START - HOUR))

    async with store.read() as tx:
        assert 5 == await count_open(tx, "acme")
        assert 1 == await count_open(tx, "other")
        assert [2, 2, 0] == [
            await count_queued(tx, name) for name in ("default", "batch", "interactive")
        ]
        found = await backlogs(tx, START + SECOND)
    assert found == {
        "default": Backlog(queued=2, oldest_at=START, drained_per_s=1 / 60),
        "batch": Backlog(queued=2, oldest_at=START),
    }


@pytest.mark.parametrize(
    ("job_id", "position"),
    [
        ("a0", 1),
        ("a1", 3),  # after a0 and b0
        ("a2", 5),
        ("a3", 6),  # the other tenant has no third
        ("b0", 1),
        ("b1", 3),
        ("batch", 1),
        ("later", None),
    ],
)
async def test_the_position_counts_turns(store, job_id, position):
    await insert(
        store,
        *(make_job(f"a{n}", deadline=START + n * SECOND) for n in range(4)),
        *(make_job(f"b{n}", tenant_id="other", deadline=START + n * SECOND) for n in range(2)),
        make_job("batch", priority="batch"),
        make_job("later", not_before=START + HOUR),
    )
    row = await get(store, job_id) or await get(store, job_id, "other")

    async with store.read() as tx:
        assert position == await queue_position(tx, row)


async def test_a_finished_job_shows_everything(store, clock):
    await insert(store, make_job())
    usage = Usage(input_tokens=3, output_tokens=4, estimated=True)
    end = ended(
        "failed",
        response_status=502,
        response_body=b"\x00",
        error={"code": "upstream_timeout", "attempts": [{"id": "att_1"}], "param": None},
        usage=usage,
        cost_nanousd=2**40,
    )
    async with store.write() as tx:
        (job,) = await claim(tx, owner="w1", lease_s=30, limit=1, classes=["default"])
        until = START + timedelta(seconds=2)
        await reschedule(tx, job_id="job_1", token=1, not_before=until, spent=True)
        clock.forward(2)
        (job,) = await claim(tx, owner="w2", lease_s=30, limit=1, classes=["default"])
        assert await finish(tx, job_id="job_1", token=job.lease_token, end=end)

    expected = JobRow(
        **msgspec.structs.asdict(make_job(not_before=until)),
        status="failed",
        created_at=START,
        queued_at=until,
        started_at=START,
        finished_at=START + SECOND,
        attempts_spent=1,
        lease_token=2,
        response_status=502,
        response_body=b"\x00",
        error=end.error,
        usage=usage,
        cost_nanousd=2**40,
    )
    assert expected == await get(store)
