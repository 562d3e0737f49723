"""Jobs as workers and caretakers see them: fair, fenced, never twice."""

import asyncio
from collections import Counter

import pytest

from shared.errors import StoreUnavailable
from shared.store.claims import (
    claim,
    close_attempts,
    end_lost,
    end_unleased,
    expired_leases,
    finish,
    open_attempt,
    open_attempts_of,
    past_deadline,
    release,
    release_owner,
    renew,
    request_cancel,
    requeue_lost,
    reschedule,
)
from shared.store.groups import finish_held, still_held
from shared.store.jobs import attempts_of, get_job, insert_job
from shared.store.ledger import insert_ledger, usage_totals
from shared.store.pauses import pause, resume
from shared.store.records import AttemptClosing, Renewed
from shared.store.turns import MOST_TENANTS, oldest_waits_s
from shared.store.webhooks import NewDelivery, due_deliveries, insert_event
from tests.contract.store.makers import (
    HOUR,
    SECOND,
    START,
    ended,
    ids,
    make_attempt,
    make_event,
    make_job,
    make_row,
)

CLASSES = ["interactive", "default", "batch"]


async def insert(store, *jobs, at=START):
    async with store.write() as tx:
        for new in jobs:
            await insert_job(tx, new, at)


async def take(store, owner="w1", limit=1, classes=CLASSES, lease_s=30):
    async with store.write() as tx:
        return await claim(tx, owner=owner, lease_s=lease_s, limit=limit, classes=classes)


async def get(store, job_id="job_1"):
    async with store.read() as tx:
        return await get_job(tx, "acme", job_id)


async def status(store, job_id="job_1"):
    return (await get(store, job_id)).status


# Claiming


async def test_a_claimed_job_is_running_under_a_lease(store, clock):
    await insert(store, make_job())
    clock.forward(5)

    (job,) = await take(store)

    now = START + 5 * SECOND
    assert ("running", "w1", 1, now + 30 * SECOND, now) == (
        job.status,
        job.lease_owner,
        job.lease_token,
        job.lease_until,
        job.started_at,
    )
    assert make_job().body == job.body
    assert job == await get(store)
    assert [] == await take(store, "w2")


async def test_nothing_to_claim(store):
    assert [] == await take(store)
    await insert(store, make_job(priority="batch"))
    assert [] == await take(store, classes=["interactive", "default"])
    assert [] == await take(store, limit=0)


async def test_classes_in_the_order_asked_for(store):
    await insert(
        store, make_job("b", priority="batch"), make_job("i", priority="interactive"), make_job("d")
    )

    assert ["d", "b"] == ids(await take(store, limit=2, classes=["default", "batch"]))
    assert ["i"] == ids(await take(store, limit=2))


async def test_a_tenants_jobs_go_by_deadline_then_age(store):
    await insert(store, make_job("late", deadline=START + 2 * HOUR), at=START)
    await insert(store, make_job("young"), at=START + SECOND)
    await insert(store, make_job("old"), at=START)

    assert ["old", "young", "late"] == ids(await take(store, limit=3))


async def test_a_scheduled_job_is_claimed_once_its_moment_has_come(store, clock):
    await insert(store, make_job(not_before=START + SECOND))
    assert [] == await take(store)
    clock.forward(1)
    assert ["job_1"] == ids(await take(store))


async def test_a_tenant_with_few_jobs_does_not_wait_behind_one_with_many(store, clock):
    """Tenants take turns, whoever came first and however many jobs they have."""
    await insert(store, *(make_job(f"many_{n:02}", tenant_id="many") for n in range(30)))
    claimed = ids(await take(store))
    await insert(store, make_job("few_0", tenant_id="few"), make_job("few_1", tenant_id="few"))
    for _ in range(5):
        clock.forward(1)
        claimed += ids(await take(store))

    assert ["many_00", "few_0", "many_01", "few_1", "many_02", "many_03"] == claimed


async def test_one_big_claim_is_shared_too(store):
    await insert(store, *(make_job(f"a{n}", tenant_id="a") for n in range(9)))
    await insert(store, *(make_job(f"b{n}", tenant_id="b") for n in range(9)))
    await insert(store, make_job("c0", tenant_id="c"))

    claimed = ids(await take(store, limit=9))

    assert {"a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3", "c0"} == set(claimed)
    assert ["a0", "b0", "c0"] == claimed[:3]


async def test_more_tenants_than_one_claim_looks_at(store, clock):
    """Those left out are the first of the next claim."""
    await insert(store, *(make_job(f"job_{n}", tenant_id=f"t{n}") for n in range(10, 60)))
    await insert(store, *(make_job(f"more_{n}", tenant_id=f"t{n}") for n in range(10, 60)))

    first = ids(await take(store, limit=50))
    clock.forward(1)
    second = ids(await take(store, limit=50))

    left_out = [f"job_{n}" for n in range(10 + MOST_TENANTS, 60)]
    assert not set(left_out) & set(first)
    assert left_out == second[: len(left_out)]


async def test_turns_are_counted_per_class(store, clock):
    await insert(store, make_job("a_batch", tenant_id="a", priority="batch"))
    await take(store)
    clock.forward(1)
    await insert(store, make_job("b", tenant_id="b"), make_job("a", tenant_id="a"))

    assert ["a", "b"] == ids(await take(store, limit=2))


async def test_claimers_at_once_never_get_the_same_job(store):
    """Eight workers empty a queue together: each job once, and none is left."""
    jobs = [make_job(f"job_{n:03}", tenant_id=f"t{n % 5}") for n in range(120)]
    await insert(store, *jobs)

    async def work(owner):
        mine, misses = [], 0
        while misses < 3:
            rows = await take(store, owner, limit=7)
            mine += ids(rows)
            misses = 0 if rows else misses + 1
        return mine

    claimed = await asyncio.gather(*(work(f"w{n}") for n in range(8)))

    everything = [id_ for mine in claimed for id_ in mine]
    assert sorted(job.id for job in jobs) == sorted(everything)


async def test_each_class_has_its_share_and_the_rest_goes_by_order(store):
    names = ("interactive", "default", "batch")
    await insert(store, *(make_job(f"i{n}", priority="interactive") for n in range(20)))
    await insert(store, *(make_job(f"b{n}", priority="batch") for n in range(20)))

    async with store.write() as tx:
        shares = {"interactive": 6, "default": 3, "batch": 1}
        rows = await claim(tx, owner="w1", lease_s=30, limit=10, classes=names, shares=shares)

    assert {"interactive": 9, "batch": 1} == Counter(row.priority for row in rows)


async def test_what_is_paused_stays_in_place(store):
    await insert(
        store,
        make_job("a", tenant_id="a"),
        make_job("b", tenant_id="b"),
        make_job("c", tenant_id="c", priority="batch"),
    )
    async with store.write() as tx:
        await pause(tx, "class:batch", None)
        await pause(tx, "tenant:a", "they asked for it")

    assert ["b"] == ids(await take(store, limit=10))

    async with store.write() as tx:
        await resume(tx, "class:batch")
        await resume(tx, "tenant:a")
    assert {"a", "c"} == set(ids(await take(store, limit=10)))


async def take_without(store, *models, limit=10):
    async with store.write() as tx:
        return await claim(
            tx, owner="w1", lease_s=30, limit=limit, classes=CLASSES, without_models=models
        )


async def test_jobs_of_a_model_that_stands_still_are_left_where_they_are(store):
    """Others of the same tenant go, by deadline, and those that name none."""
    await insert(
        store,
        make_job("down_1", model="down"),
        make_job("late", model="up", deadline=START + 3 * HOUR),
        make_job("soon", model="also_up", deadline=START + 2 * HOUR),
        make_job("none"),
        make_job("down_2", model="gone", tenant_id="b"),
    )

    assert ["none", "soon", "late"] == ids(await take_without(store, "down", "gone"))
    assert [] == await take_without(store, "down", "gone")
    assert {"down_1", "down_2"} == set(ids(await take(store, limit=10)))


async def test_tenants_that_stand_still_hide_nobody(store):
    """More of them than one claim looks at, all served longer ago."""
    await insert(
        store, *(make_job(f"job_{n}", tenant_id=f"t{n}", model="down") for n in range(MOST_TENANTS))
    )
    await insert(store, make_job("job", tenant_id="z", model="up"))

    assert ["job"] == ids(await take_without(store, "down"))


async def test_a_tenant_with_two_models_has_one_turn(store):
    """No more than its share of a claim, however many models it asks for."""
    for model in ("m1", "m2", "m3"):
        await insert(store, *(make_job(f"{model}_{n}", tenant_id="a", model=model) for n in "123"))
    await insert(store, *(make_job(f"b_{n}", tenant_id="b", model="m1") for n in "123"))

    rows = await take_without(store, "down", limit=6)

    assert {"a": 3, "b": 3} == Counter(row.tenant_id for row in rows)


async def take_bounded(store, most, owner="w1", limit=10):
    async with store.write() as tx:
        return await claim(
            tx, owner=owner, lease_s=30, limit=limit, classes=CLASSES, most_running=most
        )


async def test_a_tenant_runs_no_more_than_it_may(store):
    """Counted from rows: what has ended makes room. Those at their bound hide nobody."""
    await insert(store, *(make_job(f"a{n}", tenant_id="a") for n in range(9)))
    await insert(store, *(make_job(f"b{n}", tenant_id="b", priority="batch") for n in range(2)))

    rows = await take_bounded(store, 3)

    assert {"a": 3, "b": 2} == Counter(row.tenant_id for row in rows)
    assert [] == await take_bounded(store, 3)
    async with store.write() as tx:
        await finish(tx, job_id="a0", token=1, end=ended())
    assert ["a3"] == ids(await take_bounded(store, 3))


async def test_claimers_at_once_do_not_pass_a_tenants_bound_together(store):
    await insert(store, *(make_job(f"job_{n:02}", tenant_id=f"t{n % 2}") for n in range(40)))

    await asyncio.gather(*(take_bounded(store, 5, f"w{n}", limit=4) for n in range(12)))

    async with store.read() as tx:
        running = [await get_job(tx, f"t{n % 2}", f"job_{n:02}") for n in range(40)]
    counted = Counter(job.tenant_id for job in running if job.status == "running")
    assert max(counted.values()) <= 5


async def test_how_long_the_oldest_of_a_class_have_waited(store, clock):
    await insert(store, make_job("old"), make_job("b", priority="batch"))
    clock.forward(90)
    await insert(store, make_job("young"), at=clock.now())
    await take(store, classes=["batch"])

    async with store.read() as tx:
        waits_s = await oldest_waits_s(tx, CLASSES)

    assert {"interactive": 0.0, "default": 90.0, "batch": 0.0} == waits_s


# Holding


async def test_a_heartbeat_of_a_thousand_jobs(store):
    """One process may hold so many; the heartbeat crosses runs that end in groups."""
    await insert(store, *(make_job(f"job_{n:04}") for n in range(1000)))
    rows = [row for _ in range(10) for row in await take(store, limit=100)]
    held = {row.id: row.lease_token for row in rows}

    async def end(some):
        async with store.write() as tx:
            leases = [(row.id, row.lease_token) for row in some]
            kept = await still_held(tx, reversed(leases), to_change=True)
            await finish_held(tx, {job_id: ended() for job_id, _ in kept})

    async def beat():
        async with store.write() as tx:
            return await renew(tx, owner="w1", held=held, lease_s=30)

    first, *_ = await asyncio.gather(beat(), *(end(rows[n::8]) for n in range(4)))
    again = await beat()

    assert 1000 == len(first.kept | first.lost)
    assert {row.id for n in range(4, 8) for row in rows[n::8]} == again.kept


async def test_a_heartbeat_tells_what_is_still_ours(store, clock):
    await insert(store, *(make_job(f"job_{n}") for n in range(5)))
    await take(store, limit=3)
    await take(store, "w2", limit=1)
    async with store.write() as tx:
        await request_cancel(tx, "acme", "job_1", START)
    clock.forward(20)

    held = {"job_0": 1, "job_1": 1, "job_2": 7, "job_3": 1, "job_4": 1}
    async with store.write() as tx:
        renewed = await renew(tx, owner="w1", held=held, lease_s=30)

    expected = Renewed(
        kept=frozenset({"job_0", "job_1"}),
        lost=frozenset({"job_2", "job_3", "job_4"}),
        cancelling=frozenset({"job_1"}),
    )
    assert expected == renewed
    assert START + 50 * SECOND == (await get(store, "job_0")).lease_until
    assert START + 30 * SECOND == (await get(store, "job_2")).lease_until


async def test_holding_nothing_is_nothing(store):
    async with store.write() as tx:
        assert Renewed() == await renew(tx, owner="w1", held={}, lease_s=30)


async def test_a_lease_that_ran_out_unnoticed_can_still_be_renewed(store, clock):
    await insert(store, make_job())
    await take(store)
    clock.forward(100)

    async with store.write() as tx:
        renewed = await renew(tx, owner="w1", held={"job_1": 1}, lease_s=30)

    assert frozenset({"job_1"}) == renewed.kept


async def test_a_thousand_jobs_in_one_heartbeat(store):
    await insert(store, *(make_job(f"job_{n}") for n in range(300)))
    held = {}
    while rows := await take(store, limit=1000):
        held |= {row.id: row.lease_token for row in rows}
    held |= {f"gone_{n}": n for n in range(700)}

    async with store.write() as tx:
        renewed = await renew(tx, owner="w1", held=held, lease_s=30)

    assert (300, 700) == (len(renewed.kept), len(renewed.lost))


async def test_attempts_are_written_before_and_closed_after(store):
    await insert(store, make_job())
    await take(store)
    first = make_attempt("att_1")
    second = make_attempt("att_2", number=2, started_at=START + SECOND)
    async with store.write() as tx:
        assert await open_attempt(tx, token=1, row=first)
        assert await open_attempt(tx, token=1, row=second)
        closing = AttemptClosing(
            id="att_1",
            outcome="failed",
            code="upstream_timeout",
            status_code=504,
            message="slow",
            duration_ms=9,
        )
        await close_attempts(tx, [closing])
        await close_attempts(tx, [AttemptClosing(id="att_1", outcome="lost")])  # too late

    async with store.read() as tx:
        found = await attempts_of(tx, "job_1")
        still_open = await open_attempts_of(tx, "job_1")
    assert second == found[1]
    assert ("failed", "upstream_timeout", 504, "slow", 9, first.opening) == (
        found[0].outcome,
        found[0].code,
        found[0].status_code,
        found[0].message,
        found[0].duration_ms,
        found[0].opening,
    )
    assert [second] == still_open


async def test_finish_takes_everything_or_nothing_with_it(store):
    """Result, ledger, closings and event are one transaction under the token."""
    await insert(store, make_job())
    await take(store)

    class LeaseLostError(Exception):
        pass

    async def commit(token):
        async with store.write() as tx:
            await insert_ledger(tx, [make_row(job_id="job_1")])
            await insert_event(tx, make_event(), [NewDelivery(id="del_1", url="https://a/")], START)
            if not await finish(tx, job_id="job_1", token=token, end=ended(response_body=b"ok")):
                raise LeaseLostError

    async def written():
        async with store.read() as tx:
            totals = await usage_totals(tx, "acme", START - HOUR, START + HOUR)
            return totals.attempts, await due_deliveries(tx, START), await status(store)

    with pytest.raises(LeaseLostError):
        await commit(token=2)
    assert (0, 0, "running") == await written()
    await commit(token=1)
    assert (1, 1, "succeeded") == await written()


# Fencing


async def _finish(tx, job):
    return await finish(tx, job_id=job.id, token=job.lease_token, end=ended(response_body=b"x"))


async def _reschedule(tx, job):
    return await reschedule(tx, job_id=job.id, token=job.lease_token, not_before=START, spent=True)


async def _release(tx, job):
    return await release(tx, job_id=job.id, token=job.lease_token)


async def _open_attempt(tx, job):
    return await open_attempt(tx, token=job.lease_token, row=make_attempt())


async def _end_lost(tx, job):
    return await end_lost(tx, job, ended("failed"))


async def _requeue_lost(tx, job):
    return await requeue_lost(tx, job, START)


WRITES = [_finish, _reschedule, _release, _open_attempt, _end_lost, _requeue_lost]


async def taken_by_another(store, clock):
    """Claim, lose the lease, let another claim; return the job as the first holder knows it."""
    await insert(store, make_job())
    (job,) = await take(store)
    clock.forward(31)
    async with store.write() as tx:
        (expired,) = await expired_leases(tx, clock.now(), 10)
        await requeue_lost(tx, expired, clock.now())
    await take(store, "w2")
    return job


async def waiting_again(store, clock):
    await insert(store, make_job())
    (job,) = await take(store)
    async with store.write() as tx:
        await _release(tx, job)
    return job


async def already_final(store, clock):
    await insert(store, make_job())
    (job,) = await take(store)
    async with store.write() as tx:
        await _finish(tx, job)
    return job


async def never_there(store, clock):
    await insert(store, make_job("other"))
    (job,) = await take(store)
    async with store.write() as tx:
        await _finish(tx, job)
    return job


@pytest.mark.parametrize("lose", [taken_by_another, waiting_again, already_final])
@pytest.mark.parametrize("write", WRITES)
async def test_a_stale_token_writes_nothing(store, clock, write, lose):
    job = await lose(store, clock)
    before = await get(store)

    async with store.write() as tx:
        assert not await write(tx, job)

    assert before == await get(store)
    async with store.read() as tx:
        assert [] == await attempts_of(tx, "job_1")


@pytest.mark.parametrize("write", WRITES)
async def test_a_good_token_writes(store, clock, write):
    await insert(store, make_job())
    (job,) = await take(store)

    async with store.write() as tx:
        assert await write(tx, job)


async def test_a_final_job_never_changes_again(store, clock):
    job = await already_final(store, clock)
    before = await get(store)

    async with store.write() as tx:
        assert not await end_unleased(tx, job.id, ended("expired"))
        assert before.status == (await request_cancel(tx, "acme", job.id, START)).status
        assert (
            frozenset({job.id}) == (await renew(tx, owner="w1", held={job.id: 1}, lease_s=30)).lost
        )
        assert [] == await expired_leases(tx, START + 9 * HOUR, 10)
        assert [] == await past_deadline(tx, START + 9 * HOUR, 10)
        assert 0 == await release_owner(tx, "w1")
    assert before == await get(store)


# Letting go


@pytest.mark.parametrize(("spent", "counters"), [(True, (1, 0)), (False, (0, 1))])
async def test_a_rescheduled_job_waits_for_its_moment(store, clock, spent, counters):
    await insert(store, make_job())
    await take(store)
    async with store.write() as tx:
        await reschedule(tx, job_id="job_1", token=1, not_before=START + 5 * SECOND, spent=spent)

    job = await get(store)
    assert ("scheduled", None, None, 1) == (
        job.status,
        job.lease_owner,
        job.lease_until,
        job.lease_token,
    )
    assert counters == (job.attempts_spent, job.deferrals)
    assert [] == await take(store)
    clock.forward(5)
    (again,) = await take(store)
    assert (2, START) == (again.lease_token, again.started_at)


async def test_a_released_job_is_there_for_the_next_at_no_cost(store):
    await insert(store, make_job())
    await take(store)
    async with store.write() as tx:
        await release(tx, job_id="job_1", token=1)

    (job,) = await take(store, "w2")
    assert (2, 0, 0, 0) == (job.lease_token, job.attempts_spent, job.deferrals, job.recoveries)


@pytest.mark.parametrize("let_go", [_release, _reschedule])
async def test_letting_go_of_a_job_that_is_being_cancelled_does_not_revive_it(store, clock, let_go):
    """It stays `cancelling` and goes to the caretaker at once."""
    await insert(store, make_job())
    (job,) = await take(store)
    async with store.write() as tx:
        await request_cancel(tx, "acme", "job_1", START)
        assert await let_go(tx, job)

    assert "cancelling" == await status(store)
    async with store.write() as tx:
        (found,) = await expired_leases(tx, clock.now(), 10)
        assert not await requeue_lost(tx, found, clock.now())
        assert await end_lost(tx, found, ended("cancelled"))
    assert "cancelled" == await status(store)


# Caretakers


async def test_a_lease_counts_until_its_moment(store, clock):
    await insert(store, make_job())
    await take(store)
    async with store.write() as tx:
        assert [] == await expired_leases(tx, START + 30 * SECOND - SECOND, 10)
        (found,) = await expired_leases(tx, START + 30 * SECOND, 10)
        assert "job_1" == found.id
        assert b"" == found.body


async def test_a_lost_job_is_queued_and_counted(store, clock):
    await insert(store, make_job())
    (job,) = await take(store)
    clock.forward(30)
    async with store.write() as tx:
        (found,) = await expired_leases(tx, clock.now(), 10)
        assert await requeue_lost(tx, found, clock.now())

    (again,) = await take(store, "w2")
    assert (1, job.lease_token + 2, "w2") == (
        again.recoveries,
        again.lease_token,
        again.lease_owner,
    )


async def test_a_dead_owners_jobs_are_lost_at_once(store, clock):
    await insert(store, *(make_job(f"job_{n}") for n in range(3)))
    await take(store, "dead", limit=2)
    await take(store, "alive")
    async with store.write() as tx:
        assert 2 == await release_owner(tx, "dead")
        assert 0 == await release_owner(tx, "nobody")
        assert ["job_0", "job_1"] == ids(await expired_leases(tx, clock.now(), 10))


async def test_two_caretakers_share_the_work(store, clock):
    await insert(store, *(make_job(f"job_{n:02}") for n in range(20)))
    await take(store, limit=20)
    clock.forward(31)

    async def rescue():
        rescued = []
        async with store.write() as tx:
            for row in await expired_leases(tx, clock.now(), 5):
                await asyncio.sleep(0)
                assert await requeue_lost(tx, row, clock.now())
                rescued.append(row.id)
        return rescued

    rescued = [id_ for mine in await asyncio.gather(*(rescue() for _ in range(4))) for id_ in mine]

    assert 20 == len(set(rescued)) == len(rescued)


async def test_waiting_jobs_past_their_deadline(store):
    await insert(
        store,
        make_job("queued", deadline=START + SECOND),
        make_job("scheduled", deadline=START, not_before=START + HOUR),
        make_job("running", deadline=START),
        make_job("in_time", deadline=START + 2 * SECOND),
    )
    await take(store)
    async with store.write() as tx:
        now = START + SECOND
        assert ["scheduled", "queued"] == ids(await past_deadline(tx, now, 10))
        assert ["scheduled"] == ids(await past_deadline(tx, now, 1))
        assert await end_unleased(tx, "queued", ended("expired"))
        assert not await end_unleased(tx, "running", ended("expired"))
        assert not await end_unleased(tx, "scheduled", ended("expired"), expect=("queued",))
    assert "expired" == await status(store, "queued")


# Cancelling


async def test_cancelling(store):
    await insert(store, make_job("job_1"), make_job("job_2"))
    await take(store)
    async with store.write() as tx:
        running = await request_cancel(tx, "acme", "job_1", START + SECOND)
        waiting = await request_cancel(tx, "acme", "job_2", START + SECOND)
        assert await end_unleased(tx, "job_2", ended("cancelled"))
        assert await request_cancel(tx, "other", "job_1", START) is None
        assert await request_cancel(tx, "acme", "nothing", START) is None
        again = await request_cancel(tx, "acme", "job_1", START + HOUR)

    assert ("cancelling", START + SECOND) == (running.status, running.cancelling_at)
    assert running == again
    assert "queued" == waiting.status
    assert "cancelled" == await status(store, "job_2")
    async with store.write() as tx:
        assert await finish(tx, job_id="job_1", token=1, end=ended("cancelled"))


async def test_a_job_that_is_being_cancelled_is_not_claimed_by_another(store):
    """The wish to cancel and a claim at the same moment: one of them sees the other."""
    for number in range(10):
        await insert(store, make_job(f"job_{number}"))

        async def cancel(job_id):
            async with store.write() as tx:
                row = await request_cancel(tx, "acme", job_id, START)
                await asyncio.sleep(0)
                return row.status, await end_unleased(tx, job_id, ended("cancelled"))

        (seen, ended_here), claimed = await asyncio.gather(
            cancel(f"job_{number}"), take(store, f"w{number}")
        )
        expected = ("cancelling", False) if claimed else ("queued", True)
        assert expected == (seen, ended_here)


async def test_a_reader_may_not_claim(store):
    with pytest.raises(StoreUnavailable):
        async with store.read() as tx:
            await release_owner(tx, "w1")
