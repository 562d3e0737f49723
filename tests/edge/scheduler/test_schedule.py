"""The timetable, and its ticks: two schedulers at once are as good as one."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent

from scheduler.lease import Leadership
from scheduler.main import Ticker, _note_trouble, build_scheduler
from scheduler.schedule import SCHEDULE, Row
from shared.clock import SystemClock
from shared.errors import StoreUnavailable
from shared.ids import new_id
from shared.store.budgets import standing_of, trade
from shared.store.idempotency import Named, bind_job, take_name
from shared.store.jobs import get_job, insert_job
from shared.store.keys import ensure_tenant
from shared.store.pauses import pause
from shared.store.records import BudgetRef, DeliveryAttempt, NewJob
from shared.store.responses import StoredResponse, insert_response, turns_of
from shared.store.webhooks import claim_deliveries, deliveries_of, record_delivery
from shared.telemetry.metrics import REGISTRY, SCHEDULER_TICKS
from shared.webhooks.emit import emit
from shared.webhooks.event import job_event
from shared.webhooks.signature import new_secret
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


class RecordingBell:
    """Remembers what was rung."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, topic: str) -> None:
        self.rung.append(topic)

    async def aclose(self) -> None:
        pass


@pytest.fixture
def bell():
    return RecordingBell()


@pytest.fixture
async def tenant(store):
    async with store.write() as tx:
        return await ensure_tenant(tx, "acme", new_secret(os.urandom), await tx.now())


def make_ticker(store, bell, owner, clock=None) -> Ticker:
    return Ticker(store, bell, new_id, Leadership(store, clock or SystemClock(), owner=owner))


def row(id_) -> Row:
    [found] = [one for one in SCHEDULE if one.id == id_]
    return found


async def inserted(store, **values) -> str:
    job_id = new_id("job")
    known = {
        "tenant_id": "acme",
        "key_id": "key_1",
        "request_id": new_id("req"),
        "endpoint": "/v1/chat/completions",
        "body": b"{}",
    }
    async with store.write() as tx:
        now = await tx.now()
        terms = {"deadline": now + HOUR}
        await insert_job(tx, NewJob(id=job_id, **{**known, **terms, **values}), now)
    return job_id


async def postponed(store, **values) -> str:
    """Insert a job whose moment has just come."""
    job_id = await inserted(store, not_before=datetime.now(UTC) + HOUR / 2, **values)
    async with store.write() as tx:
        await tx.connection.execute(
            sa.text("UPDATE job SET not_before = 0 WHERE id = :id"), {"id": job_id}
        )
    return job_id


async def status(store, job_id) -> str:
    async with store.read() as tx:
        job = await get_job(tx, "acme", job_id)
    assert job is not None
    return job.status


def ticks(task, outcome) -> float:
    return SCHEDULER_TICKS.labels(task, outcome)._value.get()


# The timetable


def test_every_row_names_a_task():
    """Ids are unique and are their tasks' names; each task comes around often enough."""
    assert [one.task.__name__ for one in SCHEDULE] == [one.id for one in SCHEDULE]
    assert len(SCHEDULE) == len({one.id for one in SCHEDULE})
    assert all(asyncio.iscoroutinefunction(one.task) for one in SCHEDULE)
    assert all(0 < one.every_s <= 60 for one in SCHEDULE)


async def test_apscheduler_runs_what_is_late_once_and_never_beside_itself():
    scheduler = build_scheduler(asyncio.sleep)
    scheduler.start(paused=True)

    jobs = scheduler.get_jobs()

    assert {one.id for one in SCHEDULE} == {job.id for job in jobs}
    assert {(True, None, 1)} == {
        (job.coalesce, job.misfire_grace_time, job.max_instances) for job in jobs
    }
    assert {"UTC"} == {str(job.trigger.timezone) for job in jobs}
    scheduler.shutdown(wait=False)


async def test_the_timetable_ticks():
    ticked = asyncio.Event()

    async def tick(one: Row) -> None:
        assert "soon" == one.id
        ticked.set()

    async def nothing(*_) -> int:
        return 0

    scheduler = build_scheduler(tick, (Row(id="soon", every_s=0.05, task=nothing),))
    scheduler.start()
    async with asyncio.timeout(10):
        await ticked.wait()
    scheduler.shutdown(wait=False)


@pytest.mark.parametrize("code", [EVENT_JOB_MISSED, EVENT_JOB_MAX_INSTANCES])
def test_skipped_ticks_are_counted(code):
    before = ticks("expire_jobs", "skipped")

    _note_trouble(JobEvent(code, "expire_jobs", "default"))

    assert before + 1 == ticks("expire_jobs", "skipped")


# Ticks, by two schedulers on one database


async def both(store, bell, id_) -> int:
    """Run a task in two schedulers at once, past the lease; return what they did together."""
    done = await asyncio.gather(*(row(id_).task(store, bell, new_id) for _ in range(2)))
    return sum(done)


async def test_due_jobs_are_queued_and_rung_for(store, bell, tenant):
    due = await postponed(store, priority="batch")
    later = await inserted(store, not_before=datetime.now(UTC) + HOUR / 2)

    assert 1 == await both(store, bell, "ring_due_jobs")

    assert ("queued", "scheduled") == (await status(store, due), await status(store, later))
    assert ["jobs:batch"] == bell.rung


async def test_jobs_whose_ring_was_lost_are_rung_for_again(store, bell, tenant):
    await inserted(store)

    await both(store, bell, "ring_waiting_jobs")

    assert {"jobs:default"} == set(bell.rung)
    assert 1 == REGISTRY.get_sample_value("sluiceway_queue_depth", {"priority": "default"})
    waited_s = REGISTRY.get_sample_value("sluiceway_queue_oldest_seconds", {"priority": "default"})
    assert 0 < waited_s < 60


async def test_expired_jobs_end_once(store, bell, tenant):
    jobs = [
        await inserted(
            store, deadline=datetime.now(UTC) - HOUR, webhook_url="https://hooks.example/"
        )
        for _ in range(150)
    ]

    assert 150 == await both(store, bell, "expire_jobs")

    assert {"expired"} == {await status(store, job_id) for job_id in jobs}
    async with store.write() as tx:
        due = await claim_deliveries(tx, owner="w", lease_s=60.0, limit=1000)
    assert 150 == len({one.event_id for one in due}) == len(due)


async def test_due_deliveries_are_rung_for(store, bell, tenant):
    assert 0 == await both(store, bell, "ring_due_deliveries")
    async with store.write() as tx:
        now = await tx.now()
        event = job_event(new_id("evt"), job_id="job_1", status="failed", at=now)
        await emit(tx, event, tenant_id="acme", urls=["https://a.example"], ids=new_id, at=now)

    await both(store, bell, "ring_due_deliveries")

    assert {"deliveries"} == set(bell.rung)


async def test_grants_that_nobody_renews_are_taken_back(store, bell):
    day = BudgetRef(budget_id="tenant:acme/day", starts_at=datetime(2026, 3, 5, tzinfo=UTC))
    for owner, lifetime_s in (("dead", 0.0), ("alive", 60.0)):
        async with store.write() as tx:
            await trade(
                tx, owner=owner, refs=[day], decide=lambda _: {day: 30}, lifetime_s=lifetime_s
            )

    for _ in range(2):
        await both(store, bell, "release_grants")

    async with store.read() as tx:
        assert 30 == (await standing_of(tx, day)).granted_nanousd


async def test_events_are_kept_for_thirty_days(store, bell, tenant):
    async with store.write() as tx:
        now = await tx.now()
        for name, days in (("evt_old", 31), ("evt_young", 29)):
            at = now - timedelta(days=days)
            event = job_event(name, job_id="job_1", status="failed", at=at)
            await emit(tx, event, tenant_id="acme", urls=["https://a/"], ids=new_id, at=at)
        rows = await claim_deliveries(tx, owner="w", lease_s=60.0, limit=10)
        for row in rows:
            tried = DeliveryAttempt(at=now, status_code=200, duration_ms=1)
            await record_delivery(
                tx, delivery_id=row.id, token=1, attempt=tried, status="succeeded", next_at=None
            )

    await both(store, bell, "prune_events")

    async with store.read() as tx:
        assert [0, 1] == [len(await deliveries_of(tx, name)) for name in ("evt_old", "evt_young")]


async def test_responses_are_kept_for_as_long_as_was_said(store, bell):
    kept = {
        name: StoredResponse(id=name, previous_id=None, context_bytes=2, input=b"", body=b"{}")
        for name in ("old", "young")
    }
    async with store.write() as tx:
        at = await tx.now()
        for name, until in (("old", at - HOUR), ("young", at + HOUR)):
            await insert_response(tx, "acme", kept[name], at=at, expires_at=until)

    await both(store, bell, "prune_responses")

    async with store.read() as tx:
        found = [name for name in kept if await turns_of(tx, "acme", name)]
    assert ["young"] == found


async def test_idempotency_keys_are_forgotten_when_their_time_is_over(store, bell):
    names = [Named(tenant_id="acme", route="POST /v1/jobs", key=key) for key in ("old", "young")]
    async with store.write() as tx:
        for name in names:
            await take_name(tx, name, fingerprint="f", owner="one", lock_s=1)
            await bind_job(tx, name, owner="one", job_id="job_1", until=await tx.now())
        await tx.connection.execute(
            sa.text("UPDATE idempotency_key SET expires_at = 0 WHERE key = 'old'")
        )

    await both(store, bell, "prune_idempotency")

    async with store.read() as tx:
        left = await tx.connection.execute(sa.text("SELECT key FROM idempotency_key"))
        assert ["young"] == list(left.scalars())


async def test_what_is_stuck_or_paused_is_shown(store, bell, tenant):
    async with store.write() as tx:
        now = await tx.now()
        late = NewJob(
            id="job_late", tenant_id="acme", key_id="k", request_id="r", body=b"{}",
            endpoint="/v1/chat/completions", deadline=now - HOUR,
        )  # fmt: skip
        await insert_job(tx, late, now)
        await pause(tx, "class:batch", None)

    await both(store, bell, "watch_queue")

    def shown(name, **labels):
        return REGISTRY.get_sample_value(name, labels)

    assert 1 == shown("sluiceway_jobs_stuck", reason="past_deadline")
    assert 0 == shown("sluiceway_jobs_stuck", reason="lease_ended")
    assert 1 == shown("sluiceway_queue_pauses", kind="class")
    assert 0 == shown("sluiceway_queue_pauses", kind="tenant")


# Leadership


async def test_one_of_two_schedulers_leads(store, bell, tenant):
    first, second = make_ticker(store, bell, "s1"), make_ticker(store, bell, "s2")
    skipped = ticks("ring_due_jobs", "skipped")

    assert 0 == await first.tick(row("ring_due_jobs"))
    assert await second.tick(row("ring_due_jobs")) is None

    assert skipped + 1 == ticks("ring_due_jobs", "skipped")


async def test_a_leader_that_resigns_is_followed_at_once(store):
    first = Leadership(store, SystemClock(), owner="s1")
    second = Leadership(store, SystemClock(), owner="s2")
    assert await first.held()
    assert not await second.held()

    await first.resign()

    assert await second.held()
    assert not await first.held()


async def test_a_leader_that_froze_is_followed_and_knows_it_when_it_wakes(store):
    clock = FakeClock()
    frozen = Leadership(store, clock, owner="s1", ttl_s=0.6)
    other = Leadership(store, SystemClock(), owner="s2", ttl_s=60.0)
    assert await frozen.held()
    clock.advance(0.3)

    async with store.write() as tx:
        await tx.connection.execute(sa.text("UPDATE lease SET until = 0"))
    assert await other.held()

    assert not await frozen.held()


# Failures


class Away:
    """A database that does not answer until told."""

    def __init__(self, store) -> None:
        self._store = store
        self.away = True

    def _open(self, kind):
        if self.away:
            raise StoreUnavailable("away")
        return getattr(self._store, kind)()

    def read(self):
        return self._open("read")

    def write(self):
        return self._open("write")


async def test_a_tick_without_database_fails_and_the_next_one_goes_on(store, bell, tenant):
    away = Away(store)
    ticker = make_ticker(away, bell, "s1")
    failed = ticks("ring_due_jobs", "failed")

    assert await ticker.tick(row("ring_due_jobs")) is None
    away.away = False

    assert failed + 1 == ticks("ring_due_jobs", "failed")
    assert 0 == await ticker.tick(row("ring_due_jobs"))


async def test_a_broken_task_does_not_stop_the_scheduler(store, bell):
    async def broken(*_) -> int:
        raise ZeroDivisionError

    assert await make_ticker(store, bell, "s1").tick(Row(id="x", every_s=1, task=broken)) is None
