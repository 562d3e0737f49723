"""Jobs, calls and desks: only what matters is given."""

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import sqlalchemy as sa

from shared.chat.usage import Usage
from shared.clock import SystemClock
from shared.config.conduct import QueueConfig
from shared.config.model import Config
from shared.errors import FailedAttempt
from shared.gateway.failure import failure_of
from shared.identity import Principal
from shared.ids import new_id
from shared.jobs.holds import job_holds
from shared.jobs.room import Room
from shared.jobs.run import Desk, Reply
from shared.jobs.submit import Order, submit
from shared.jobs.terms import Wishes
from shared.ledger.books import Charge, Opening, Outcome
from shared.store.claims import claim
from shared.store.jobs import attempts_of, get_job
from shared.store.ledger import usage_totals
from shared.store.records import JobRow
from tests.fakes.objects import MemoryObjects

PRINCIPAL = Principal(tenant_id="acme", key_id="key_1", key_name="ci")
CLASSES = ("interactive", "default", "batch")
FAST = QueueConfig(lease_s=2.0, heartbeat_s=0.2, poll_s=0.05)
ANSWER = b'{"choices":[]}'
COST = 1_500
ESTIMATE = 9_000


class RecordingBell:
    """Remembers what was rung."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, topic: str) -> None:
        self.rung.append(topic)

    async def aclose(self) -> None:
        pass


class Script:
    """A call that makes one attempt per run and then does what its script says, in turn.

    An exception is raised, bytes are answered, a number is seconds to work before answering.
    The last entry is repeated.
    """

    def __init__(self, *steps) -> None:
        self._steps = list(steps or [ANSWER])
        self.openings: list[Opening] = []
        self.working = asyncio.Event()

    async def __call__(self, job, *, deadline, books, holds) -> Reply:
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        opening = make_opening(job)
        await books.open(opening)
        self.openings.append(opening)
        self.working.set()
        try:
            if isinstance(step, float):
                await asyncio.sleep(step)
            if isinstance(step, Exception):
                raise step
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            books.close(make_charge(opening, Outcome.CANCELLED if cancelled else Outcome.FAILED))
            raise
        books.close(make_charge(opening, Outcome.SUCCEEDED))
        shown = FailedAttempt(
            id=opening.attempt_id, provider="p", model="pm", outcome="succeeded", message="fine"
        )
        body = step if isinstance(step, bytes) else ANSWER
        return Reply(body=body, usage=Usage(input_tokens=3), attempts=(shown,))


def make_opening(job: JobRow) -> Opening:
    return Opening(
        attempt_id=new_id("att"),
        request_id=job.request_id,
        job_id=job.id,
        batch_id=job.batch_id,
        number=1,
        tenant_id=job.tenant_id,
        key_id=job.key_id,
        endpoint=job.endpoint,
        route="m",
        provider="p",
        model="pm",
        started_at=datetime.now(UTC),
        estimate_nanousd=ESTIMATE,
        price_source="list",
    )


def make_charge(opening: Opening, outcome: Outcome) -> Charge:
    return Charge(
        opening=opening,
        outcome=outcome,
        usage=Usage(input_tokens=3),
        cost_nanousd=COST if outcome is Outcome.SUCCEEDED else 0,
        ended_at=datetime.now(UTC),
    )


def make_desk(*, store, bell, call=None, **parts) -> Desk:
    known = {"clock": SystemClock(), "ids": new_id, "draw": lambda: 0.0}
    no_budgets = job_holds(store, Config(), known["clock"])
    return Desk(
        store=store,
        objects=parts.pop("objects", None) or MemoryObjects(),
        bell=bell,
        call=call or Script(),
        holds=parts.pop("holds", no_budgets),
        describe=failure_of,
        **{**known, **parts},
    )


def with_call(desk: Desk, call) -> Desk:
    return msgspec.structs.replace(desk, call=call)


async def submitted(
    desk: Desk,
    *,
    limit=1000,
    endpoint="/v1/chat/completions",
    principal=PRINCIPAL,
    model=None,
    **wishes,
) -> JobRow:
    order = Order(
        endpoint=endpoint,
        body=b'{"model":"m","messages":[{"role":"user","content":"hi"}]}',
        request_id=new_id("req"),
        wishes=Wishes(**wishes),
        model=model,
    )
    return await submit(
        desk.store,
        desk.bell,
        desk.ids,
        clock=desk.clock,
        principal=principal,
        order=order,
        room=Room(QueueConfig(max_queued_per_tenant=limit), desk.clock),
    )


async def claimed(desk: Desk, *, owner="w1", lease_s=30.0, limit=10) -> list[JobRow]:
    async with desk.store.write() as tx:
        return await claim(tx, owner=owner, lease_s=lease_s, limit=limit, classes=CLASSES)


async def claimed_one(desk: Desk, **how) -> JobRow:
    [job] = await claimed(desk, **how)
    return job


async def read_job(desk: Desk, job_id: str) -> JobRow:
    async with desk.store.read() as tx:
        job = await get_job(tx, "acme", job_id)
    assert job is not None
    return job


async def make_past(desk: Desk, job_id: str, column: str) -> None:
    """Let a moment of the job lie long ago."""
    async with desk.store.write() as tx:
        await tx.connection.execute(
            sa.text(f"UPDATE job SET {column} = 0 WHERE id = :id"), {"id": job_id}
        )


async def outcomes(desk: Desk, job_id: str) -> list[str | None]:
    """Return how the job's attempts ended, oldest first."""
    async with desk.store.read() as tx:
        return [row.outcome for row in await attempts_of(tx, job_id)]


async def spent(desk: Desk) -> tuple[int, int]:
    """Return the ledger's rows and their cost."""
    now = datetime.now(UTC)
    async with desk.store.read() as tx:
        totals = await usage_totals(tx, "acme", now - timedelta(hours=1), now + timedelta(hours=1))
    return totals.attempts, totals.cost_nanousd


async def until(condition, *, within_s: float = 20.0) -> None:
    """Return once the awaited condition is true; fail when that takes too long."""
    give_up_at = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < give_up_at, "it did not come true in time"
        await asyncio.sleep(0.02)


class Unheard:
    """A store that says nothing of a commit until it may."""

    def __init__(self, store) -> None:
        self._store = store
        self.committed = asyncio.Event()
        self.heard = asyncio.Event()

    def read(self):
        return self._store.read()

    @asynccontextmanager
    async def write(self):
        async with self._store.write() as tx:
            yield tx
        self.committed.set()
        await self.heard.wait()
