"""A batch goes from its file to its files, whatever happens on the way."""

from datetime import timedelta

import pytest

from shared.chat.usage import Usage
from shared.errors import Conflict, InvalidRequest, NotFound, StoreUnavailable
from shared.jobs.batch.advance import advance
from shared.jobs.batch.held import BatchLost, Held
from shared.jobs.batch.submit import BatchOrder, submit_batch
from shared.jobs.batch.terms import Expiry
from shared.queue.tasks import BATCHES
from shared.store.batches import claim_batches, list_batches
from shared.store.files import get_file
from shared.store.jobs import get_job, list_jobs
from shared.store.ledger import insert_ledger
from tests.contract.batches.rig import (
    CHAT,
    LEASE_S,
    PRINCIPAL,
    Failing,
    Rig,
    good,
    names,
    request,
    text,
)
from tests.contract.store.makers import START, make_row

pytestmark = pytest.mark.anyio


async def test_every_line_becomes_a_job_and_its_answer_a_line_of_the_output(rig: Rig):
    """In the input's order; the jobs are of the batch's key, class and deadline."""
    batch = await rig.submit(good(7), metadata={"a": "b"}, tags={"team": "x"}, user="u1")
    assert ("validating", [BATCHES]) == (batch.status, rig.bell.rung)

    await rig.look()
    jobs = await rig.claimed(1)

    assert [(batch.id, 1, "line-1", "m", "batch", {"team": "x"}, "u1", START + timedelta(days=1))] \
        == [
            (
                job.batch_id, job.line_no, job.custom_id, job.model, job.priority, job.tags,
                job.user, job.deadline,
            )
            for job in jobs
        ]  # fmt: skip
    await rig.end(jobs[0])
    done = await rig.until_over(batch)
    assert ("completed", 7, 7, 0, "m") == (
        done.status, done.lines_total, done.completed, done.failed, done.model,
    )  # fmt: skip
    assert (names(7), {}) == await rig.results(batch)
    line, *_ = await rig.lines(done.output_file_id)
    assert {"status_code": 200, "body": {"choices": []}} == {
        name: value for name, value in line["response"].items() if name != "request_id"
    }


async def test_only_so_many_lines_are_jobs_at_a_time(rig: Rig):
    """The others stay in the file: tables stay small and a cancel is quick."""
    batch = await rig.submit(good(20))

    await rig.look()

    assert 5 == len(await rig.jobs(batch))
    await rig.work(2)
    rig.clock.forward(1)
    await rig.look()
    assert 5 == len(await rig.jobs(batch))  # more than half of them are still open
    await rig.work(2)
    rig.clock.forward(1)
    await rig.look()
    assert 9 == len(await rig.jobs(batch))


async def test_progress_is_seen_while_it_runs(rig: Rig):
    batch = await rig.submit(good(4))
    await rig.look()
    first, second, *_ = await rig.claimed()
    await rig.end(first, cost_nanousd=5)
    await rig.end(second, "failed", error={"code": "overloaded", "message": "full"}, cost_nanousd=2)

    counts = await rig.counts(batch)

    assert (1, 1, 7) == (counts.completed, counts.failed, counts.cost_nanousd)


async def test_calls_without_an_answer_stand_in_the_error_file(rig: Rig):
    """A provider's refusal with its status, as it answered; everything else by its code."""
    batch = await rig.submit(good(3))
    await rig.look()
    first, second, third = await rig.claimed()
    refusal = {"code": "too_long", "message": "no", "type": "t", "param": None}
    await rig.end(first, "failed", error={**refusal, "upstream_status": 400, "attempts": []})
    await rig.end(second, "failed", error={"code": "worker_lost", "message": "gone"})
    await rig.end(third)

    done = await rig.until_over(batch)

    assert ("completed", 1, 2) == (done.status, done.completed, done.failed)
    refused, lost = await rig.lines(done.error_file_id)
    assert (400, {"error": refusal}, None) == (
        refused["response"]["status_code"], refused["response"]["body"], refused["error"],
    )  # fmt: skip
    assert (None, {"code": "worker_lost", "message": "gone"}) == (lost["response"], lost["error"])


@pytest.mark.behaviour(190)
async def test_a_file_with_mistakes_fails_and_says_where(rig: Rig):
    """No line of it is run."""
    batch = await rig.submit(text([request("a"), request("b", "unknown"), request("a")]))

    done = await rig.until_over(batch)

    assert done.errors is not None
    assert ("failed", [("model_not_found", 2), ("duplicate_custom_id", 3)]) == (
        done.status, [(error["code"], error["line"]) for error in done.errors],
    )  # fmt: skip
    assert [] == await rig.jobs(batch)


async def test_usage_is_of_the_answers_and_cost_of_all_calls(rig: Rig):
    """What a lost call may have used is a guess: it costs money, but is nobody's tokens."""
    batch = await rig.submit(good(3))
    await rig.look()
    first, second, third = await rig.claimed()
    usage = Usage(input_tokens=10, cache_read_tokens=4, output_tokens=3, reasoning_tokens=1)
    async with rig.store.write() as tx:
        for number, (job, outcome) in enumerate(
            [(first, "lost"), (first, "succeeded"), (second, "succeeded"), (third, "lost")]
        ):
            await insert_ledger(
                tx,
                [make_row(f"att_{number}", job_id=job.id, outcome=outcome, batch_id=batch.id)],
            )
    await rig.end(first, usage=usage)
    await rig.end(second, usage=usage)
    await rig.end(third, "cancelled", error={"code": "cancelled", "message": "no"})

    done = await rig.until_over(batch)

    expected = {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 26,
    }
    assert (expected, 4_000) == (done.usage, done.cost_nanousd)


@pytest.mark.behaviour(191)
async def test_a_cancelled_batch_keeps_what_is_done(rig: Rig):
    """Lines that wait, run or were never begun stand in the error file; each line once."""
    batch = await rig.submit(good(8))
    await rig.look()
    await rig.work(2)
    [running] = await rig.claimed(1)

    asked = await rig.cancel(batch)
    await rig.look()
    again = await rig.cancel(batch)
    assert ["cancelling"] * 2 == [asked.status, again.status]
    assert "cancelling" == next(job.status for job in await rig.jobs(batch) if job.id == running.id)
    await rig.end(running, "cancelled", error={"code": "cancelled", "message": "so"})
    done = await rig.until_over(batch)

    assert "cancelled" == done.status
    assert "cancelled" == (await rig.cancel(batch)).status
    cancelled = dict.fromkeys(names(8)[2:], "batch_cancelled")
    assert (names(2), cancelled) == await rig.results(batch)


async def test_a_list_goes_on_after_a_batch_that_is_gone(rig: Rig):
    batch = await rig.submit(good(1))

    async def page(after):
        async with rig.store.read() as tx:
            return [row.id for row in await list_batches(tx, "acme", limit=2, after=after)]

    assert [batch.id] == await page(f"batch_{2**40:012x}{'f' * 20}")
    assert [] == await page(batch.id)
    assert [] == await page("batch_unknown")


async def test_a_batch_cancelled_before_it_is_read_has_no_files(rig: Rig):
    batch = await rig.submit(good(2))
    await rig.cancel(batch)

    done = await rig.until_over(batch)

    assert ("cancelled", None, None, 0) == (
        done.status, done.output_file_id, done.error_file_id, done.lines_total,
    )  # fmt: skip


@pytest.mark.behaviour(191)
async def test_an_expired_batch_keeps_what_is_done(rig: Rig):
    batch = await rig.submit(good(8), completion_window="1h")
    await rig.look()
    await rig.work(3)
    rig.clock.forward(3600)
    await rig.expire()

    done = await rig.until_over(batch)

    assert "expired" == done.status
    expired = dict.fromkeys(names(8)[3:], "batch_expired")
    assert (names(3), expired) == await rig.results(batch)


async def test_a_batch_that_is_over_is_not_cancelled(rig: Rig):
    batch = await rig.submit(good(1))
    await rig.until_over(batch)

    with pytest.raises(Conflict):
        await rig.cancel(batch)


async def test_contents_stay_only_in_the_files(rig: Rig):
    """The rows go on telling what became of each line."""
    batch = await rig.submit(good(4))
    await rig.until_over(batch)

    async with rig.store.read() as tx:
        jobs = [await get_job(tx, "acme", job.id) for job in await rig.jobs(batch)]

    assert [("succeeded", b"", None)] * 4 == [
        (job.status, job.body, job.response_body) for job in jobs if job is not None
    ]


async def test_large_answers_come_from_the_object_store_and_are_gone_then(rig: Rig):
    batch = await rig.submit(good(1))
    await rig.look()
    [job] = await rig.claimed()

    async def pieces():
        yield b'{"big": '
        yield b"1}"

    await rig.desk.objects.put("results/job/1", pieces())
    await rig.end(job, response_body=None, result_key="results/job/1")

    done = await rig.until_over(batch)

    [line] = await rig.lines(done.output_file_id)
    assert {"big": 1} == line["response"]["body"]
    with pytest.raises(Exception, match="no object"):
        _ = [piece async for piece in rig.desk.objects.get("results/job/1")]


async def test_lines_are_no_jobs_of_the_tenants_own_list(rig: Rig):
    await rig.submit(good(3))
    await rig.look()

    async with rig.store.read() as tx:
        assert [] == await list_jobs(tx, "acme", limit=10, after=None)


async def test_output_files_expire(rig: Rig):
    batch = await rig.submit(
        good(1), output_expires_after=Expiry(anchor="created_at", seconds=3600)
    )
    done = await rig.until_over(batch)

    async with rig.store.read() as tx:
        file = await get_file(tx, "acme", str(done.output_file_id))

    assert file is not None
    assert done.completed_at is not None
    assert timedelta(hours=1) == file.expires_at - done.completed_at


async def test_an_input_that_is_gone_ends_the_batch_with_what_was_begun(rig: Rig):
    batch = await rig.submit(good(8))
    await rig.look()
    async with rig.store.read() as tx:
        file = await get_file(tx, "acme", batch.input_file_id)
    assert file is not None
    await rig.desk.objects.delete(file.object_key)

    done = await rig.until_over(batch)

    assert done.errors is not None
    assert ("failed", ["invalid_input_file"], 5) == (
        done.status, [error["code"] for error in done.errors], done.completed,
    )  # fmt: skip


async def test_wrong_terms_are_refused_by_name(rig: Rig):
    known = {
        "endpoint": CHAT,
        "completion_window": "24h",
        "request_id": "req_1",
        "input_file_id": await rig.file(good(1)),
    }
    for terms, error, param in (
        ({"endpoint": "/v1/nothing"}, InvalidRequest, "endpoint"),
        ({"completion_window": "8d"}, InvalidRequest, "completion_window"),
        ({"metadata": {"a": 1}}, InvalidRequest, "metadata"),
        (kept_for(1), InvalidRequest, "output_expires_after.seconds"),
        (kept_for(7200, "now"), InvalidRequest, "output_expires_after.anchor"),
        ({"input_file_id": "file_none"}, NotFound, "input_file_id"),
        ({"input_file_id": await rig.file(b"x", "evals")}, InvalidRequest, "input_file_id"),
    ):
        order = BatchOrder(**{**known, **terms})
        with pytest.raises(error) as caught:
            await submit_batch(rig.store, rig.bell, rig.desk.ids, principal=PRINCIPAL, order=order)
        assert param == caught.value.param


def kept_for(seconds: int, anchor="created_at") -> dict[str, Expiry]:
    return {"output_expires_after": Expiry(anchor=anchor, seconds=seconds)}


async def test_a_stale_worker_writes_nothing(rig: Rig):
    """Its lease ran out and another has gone on: lines are not made twice."""
    batch = await rig.submit(good(4))
    async with rig.store.write() as tx:
        [stale] = await claim_batches(tx, owner="w0", lease_s=LEASE_S, limit=1)
    assert 0 == await rig.look()
    rig.clock.forward(LEASE_S)
    assert 1 == await rig.look()

    with pytest.raises(BatchLost):
        await advance(Held(rig.desk, stale))

    assert 4 == len(await rig.jobs(batch))


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
async def test_a_crash_at_any_write_changes_no_result(rig: Rig, committed):
    """Whoever comes next goes on from what was committed; each line is made and told of once."""
    at = 0
    while True:
        at += 1
        failing = Failing(rig.store, at=at, committed=committed)
        batch = await rig.submit(good(7))
        desk = rig.desk_with(failing)
        for _ in range(4):
            try:
                await rig.look(desk)
            except StoreUnavailable:
                break
            await rig.work()
            rig.clock.forward(1)
        rig.clock.forward(LEASE_S)

        done = await rig.until_over(batch)

        assert ("completed", (names(7), {})) == (done.status, await rig.results(batch))
        assert 7 == len(await rig.jobs(batch))
        if failing.writes < at:
            return
