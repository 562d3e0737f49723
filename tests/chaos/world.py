"""What stays when processes die: a database, objects, a provider, a receiver, and callers' wishes.

A `Process` is all that one process has in memory. It works in a time of the test's own.
"""

import asyncio
from collections import Counter
from contextlib import AbstractAsyncContextManager

import msgspec

from shared.config.conduct import QueueConfig
from shared.config.model import Budget, Config, TenantConfig
from shared.errors import ChainFailed, RateLimitExceeded
from shared.gateway.failure import failure_of
from shared.ids import new_id
from shared.jobs import background
from shared.jobs.batch.advance import advance
from shared.jobs.batch.held import BatchDesk, BatchLost, Held
from shared.jobs.cancel import cancel
from shared.jobs.commits import Commits
from shared.jobs.expire import expire_waiting
from shared.jobs.holds import job_holds
from shared.jobs.lease import Interrupt, Reason
from shared.jobs.rescue import rescue_jobs
from shared.jobs.room import Room
from shared.jobs.run import Desk, Reply, run_job
from shared.jobs.submit import Order, submit
from shared.jobs.terms import Wishes
from shared.ledger.books import Outcome
from shared.ledger.verify import verify
from shared.sealing import Sealer
from shared.store.batches import claim_batches, leave_batch
from shared.store.claims import claim, renew
from shared.store.idempotency import Named, bind_job, take_name
from shared.store.records import JobRow
from shared.store.webhooks import claim_deliveries
from shared.webhooks.attempt import PostOffice, attempt
from shared.webhooks.delivery import Post
from shared.webhooks.egress import networks
from tests.chaos.laws import Rows, broken
from tests.contract.batches.rig import caller
from tests.contract.store.makers import StoppedClock
from tests.edge.workers.makers import ANSWER, CLASSES, PRINCIPAL, make_charge, make_opening
from tests.edge.workers.test_streams import Telling
from tests.fakes.objects import MemoryObjects
from workers.streams import Streams

LEASE_S = 10.0
LOCK_S = 30.0
ROUNDS = 40
ESTIMATE = 9_000
CONFIG = Config(
    tenants=(TenantConfig(id="acme", budgets=(Budget(window="month", limit_usd="1000"),)),)
)
HANGS = object()
"""A provider that says nothing any more."""
SPENT = ChainFailed("upstream_malformed", "nonsense", attempts=())
LATER = RateLimitExceeded("not now", retry_after_s=1.0)


class WorldClock(StoppedClock):
    """Sleeping takes no time but the clock's own; timeouts are real, and strike nobody."""

    async def sleep(self, length_s: float) -> None:
        self.forward(length_s)
        await asyncio.sleep(0)

    def timeout(self, length_s: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(length_s)


class Bell:
    """Nobody hears it."""

    def ring(self, topic: str) -> None:
        pass


class Provider:
    """Does for each request what its script says, call by call; then it answers."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[object]] = {}
        self.asked: list[str] = []
        self.working = asyncio.Event()

    async def __call__(self, job, *, deadline, books, holds) -> Reply:
        opening = await self._opened(job, deadline, books, holds)
        script = self.scripts.get(job.request_id)
        step = script.pop(0) if script else ANSWER
        try:
            if step is HANGS:
                await asyncio.Event().wait()
            if isinstance(step, Exception):
                raise step
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            books.close(make_charge(opening, Outcome.CANCELLED if cancelled else Outcome.FAILED))
            raise
        books.close(make_charge(opening, Outcome.SUCCEEDED))
        assert isinstance(step, bytes)
        return Reply(body=step)

    async def stream(self, _principal, _request, *, deadline, books, holds, context) -> Telling:
        opening = await self._opened(context, deadline, books, holds)
        script = self.scripts[context.request_id]
        books.close(make_charge(opening, Outcome.SUCCEEDED))
        return _Slowly(script)

    def recover(self) -> None:
        """Hang no more."""
        for script in self.scripts.values():
            script[:] = [step for step in script if step is not HANGS]

    async def _opened(self, job, deadline, books, holds):
        hold = await holds.hold(PRINCIPAL, ESTIMATE, deadline=deadline)
        opening = msgspec.structs.replace(
            make_opening(job), batch_id=job.batch_id, budgets=hold.refs, grant=hold.owner
        )
        await books.open(opening)
        self.asked.append(opening.attempt_id)
        self.working.set()
        return opening


class _Slowly(Telling):
    async def __anext__(self) -> bytes:
        await asyncio.sleep(0)  # others have their turn: some is kept while it comes
        return await super().__anext__()


class World:
    """On a database that is empty but for the tenant `acme`."""

    def __init__(self, store, clock: WorldClock, rows: Rows, hook: str) -> None:
        self.store = store
        self.clock = clock
        self.rows = rows
        self.hook = hook
        self.objects = MemoryObjects()
        self.provider = Provider()
        self.unanswered: list[str] = []
        self.told: dict[str, str] = {}

    def process(self, store=None) -> "Process":
        return Process(self, store or self.store)

    async def goes_on(self) -> None:
        """Callers who heard nothing ask again; new processes do what is to be done, to the end.

        Raises:
            AssertionError: it does not end.
        """
        process = self.process()
        self.provider.recover()
        for _ in range(ROUNDS):
            self.clock.forward(LEASE_S + 1)
            for key in list(self.unanswered):
                await process.ask(key)
            await process.care()
            await process.work()
            await process.post()
            if not self.unanswered and not broken(self.rows, over=True):
                faults = (await verify(process.store, CONFIG)).faults
                assert () == faults, list(map(str, faults))
                return
        raise AssertionError(self.wrongs())

    def wrongs(self) -> list[str]:
        """Return what is wrong with the rows, now that all should be over."""
        found = broken(self.rows, over=True)
        known = {row["id"] for row in self.rows("SELECT id FROM attempt")}
        found += [f"3: a call without a row: {one}" for one in set(self.provider.asked) - known]
        asked = Counter(row["request_id"] for row in self.rows("SELECT request_id FROM job"))
        found += [f"6: {key} made {count} jobs" for key, count in asked.items() if count > 1]
        status = {row["id"]: row["status"] for row in self.rows("SELECT id, status FROM job")}
        found += [
            f"7: {id_} was told as {told}, is {status[id_]}"
            for id_, told in self.told.items()
            if told in {"cancelled", "succeeded"} and told != status[id_]
        ]
        return found


class Process:
    """All that a process has in memory, at that store."""

    def __init__(self, world: World, store) -> None:
        self.world = world
        self.store = store
        self.owner = new_id("w")
        commits = Commits(store)
        self._streams = Streams(world.provider, store, world.clock)
        self.desk = Desk(
            store=store,
            objects=world.objects,
            bell=Bell(),
            call=self._call,
            holds=job_holds(store, CONFIG, world.clock, commits),
            describe=failure_of,
            clock=world.clock,
            ids=new_id,
            draw=lambda: 0.0,
            commits=commits,
        )
        self._room = Room(QueueConfig(), world.clock)
        self.batches = BatchDesk(
            store=store,
            objects=world.objects,
            bell=Bell(),
            ids=new_id,
            clock=world.clock,
            caller=caller,
            lease_s=LEASE_S,
            most_line_bytes=2_000,
            at_once=3,
            ahead=5,
        )
        self._office = PostOffice(
            store=store,
            clock=world.clock,
            ids=new_id,
            owner=self.owner,
            draw=lambda: 0.5,
            file_secret=lambda _: None,
            unseal=Sealer("k").open,
            post=Post(allowed=networks(["127.0.0.0/8"]), timeout_s=5.0),
        )

    async def _call(self, job, *, deadline, books, holds) -> Reply:
        if not job.streamed:
            return await self.world.provider(job, deadline=deadline, books=books, holds=holds)
        return await self._streams.call(
            PRINCIPAL, job, None, deadline=deadline, books=books, holds=holds, context=job
        )

    # Callers

    async def accept(self, key: str, *, also=None, **order) -> JobRow:
        """Accept a job whose request has that id."""
        return await submit(
            self.store,
            Bell(),
            new_id,
            clock=self.world.clock,
            principal=PRINCIPAL,
            order=Order(
                **{
                    "endpoint": "/v1/chat/completions",
                    "body": b'{"model":"m"}',
                    "request_id": key,
                    "wishes": Wishes(webhook_url=self.world.hook),
                    **order,
                }
            ),
            room=self._room,
            also=also,
        )

    async def ask(self, key: str) -> None:
        """Ask for a job by that Idempotency-Key, and again until there was an answer."""
        unanswered = self.world.unanswered
        if key not in unanswered:
            unanswered.append(key)
        named, owner = Named(tenant_id="acme", route="POST /v1/jobs", key=key), new_id("own")
        async with self.store.write() as tx:
            earlier = await take_name(tx, named, fingerprint="f", owner=owner, lock_s=LOCK_S)
        if earlier is None:

            async def also(tx, job):
                assert await bind_job(tx, named, owner=owner, job_id=job.id, until=job.deadline)

            await self.accept(key, also=also)
        elif earlier.job_id is None:
            return  # somebody may be at it
        unanswered.remove(key)

    async def respond(self, key: str) -> None:
        """Accept a response in the background, to be streamed."""
        begin = background.begin(background.Basis(input=b'"hi"'))
        await self.accept(
            key,
            also=begin,
            endpoint="/v1/responses",
            body=b'{"model":"m","input":"hi","stream":true}',
            model="m",
            streamed=True,
            response_id=new_id("resp"),
        )

    async def cancel(self, job: JobRow) -> None:
        after = await cancel(self.store, Bell(), new_id, tenant_id="acme", job_id=job.id)
        self.world.told[job.id] = after.status

    # Workers

    async def claim(self) -> list[JobRow]:
        async with self.store.write() as tx:
            return await claim(tx, owner=self.owner, lease_s=LEASE_S, limit=10, classes=CLASSES)

    async def work(self) -> None:
        """Run what is due, one after the other."""
        for job in await self.claim():
            await run_job(job, self.desk, Interrupt())

    async def begin(self) -> tuple[JobRow, Interrupt, "asyncio.Task[object]"]:
        """Begin the one job that is due, and return when its provider has been asked."""
        [job] = await self.claim()
        interrupt = Interrupt()
        self.world.provider.working.clear()
        running = asyncio.create_task(run_job(job, self.desk, interrupt))
        await self.world.provider.working.wait()
        return job, interrupt, running

    async def beat(self, job: JobRow, interrupt: Interrupt) -> None:
        held = {job.id: job.lease_token}
        async with self.store.write() as tx:
            renewed = await renew(tx, owner=self.owner, held=held, lease_s=LEASE_S)
        if renewed.cancelling:
            interrupt.stop(Reason.CANCELLED)

    async def care(self) -> None:
        """Do what caretakers do: leases that ended, deadlines that passed, batches."""
        await rescue_jobs(self.store, Bell(), new_id)
        await expire_waiting(self.store, Bell(), new_id)
        await self.bring_on()

    async def bring_on(self) -> None:
        """Do for batches what can be done now."""
        async with self.store.write() as tx:
            due = await claim_batches(tx, owner=self.owner, lease_s=LEASE_S, limit=8)
        for row in due:
            held = Held(self.batches, row)
            try:
                again_s = await advance(held)
            except BatchLost:
                again_s = 0.0
            if again_s is not None:
                async with self.store.write() as tx:
                    await leave_batch(tx, held.row, again_s)

    async def post(self) -> None:
        """Deliver what is due."""
        async with self.store.write() as tx:
            due = await claim_deliveries(tx, owner=self.owner, lease_s=LEASE_S, limit=50)
        for delivery in due:
            await attempt(delivery, self._office)
