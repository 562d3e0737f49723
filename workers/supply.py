"""Slots and what fills them: claims jobs as slots come free, runs each in its own task."""

import asyncio
import math
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from shared.config.conduct import QueueConfig
from shared.errors import StoreUnavailable
from shared.jobs.lease import Interrupt, Reason
from shared.jobs.run import Desk, run_job
from shared.jobs.wheel import ClassWheel
from shared.queue.tasks import CLASSES
from shared.store.claims import claim
from shared.store.engine import Tx
from shared.store.groups import Lease
from shared.store.records import JobRow
from shared.store.turns import any_to_claim, oldest_waits_s
from shared.telemetry.context import bound
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import JOB_WAIT_SECONDS, JOBS_RUNNING
from workers.loops import DATABASE_S, wait_for_claim

CLAIM_AT_ONCE = 64
"""Jobs per claim, so that the transaction is short. The classes' shares hold within it too."""
AGES_FRESH_S = 5.0
"""How often it is looked up how long the oldest jobs have waited."""

LONGEST_PAUSE_S = 2.0
"""Between looks at a database that is away; jobs run again so soon after it is back."""

log = get_logger(__name__)


class _Held(msgspec.Struct, kw_only=True):
    job: JobRow
    interrupt: Interrupt
    task: "asyncio.Task[None]"


class Supply:
    """The jobs this process holds; none are claimed while `draining`.

    A slot is a call under way: the next may begin while the end of the last is being recorded.
    With a database that is slow to take them, at most as many ends as slots wait in memory.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        owner: str,
        slots: int,
        queue: QueueConfig,
        standing_still: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """`standing_still` tells the models whose jobs cannot run just now: they wait in place."""
        self._desk = desk
        self._standing_still = standing_still
        self._ages_at_s = -math.inf
        self._short = False
        self._owner = owner
        self._slots = slots
        self._queue = queue
        self._wheel = ClassWheel({name: queue.classes.get(name, 1) for name in CLASSES})
        self._held: dict[str, _Held] = {}
        self._calling: set[Lease] = set()
        self._rung = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._stopping = False
        self.draining = False

    def ring(self) -> None:
        """Look for jobs soon; on the event loop's thread."""
        self._rung.set()

    def leases(self) -> dict[str, int]:
        """Return the token of each job held."""
        return {job_id: held.job.lease_token for job_id, held in self._held.items()}

    def interrupt(self, job_ids: Iterable[str], reason: Reason) -> None:
        """End the calls of these jobs; those no longer held are passed over."""
        for job_id in job_ids:
            if (held := self._held.get(job_id)) is not None:
                held.interrupt.stop(reason)

    async def run(self) -> None:
        """Claim and start jobs until `stop`; looks when rung and every `queue.poll_s`."""
        pause_s, more = self._queue.poll_s, True
        while not self._stopping:
            likely = more or self._rung.is_set()
            self._rung.clear()
            try:
                more = (likely or await self._any()) and await self._fill()
            except StoreUnavailable as error:
                log.warning("supply.store_unavailable", reason=error.message)
                await self._desk.clock.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                continue
            except Exception:
                log.exception("supply.failed")
                more = False
            pause_s = self._queue.poll_s
            if not more:
                await self._wait()

    def stop(self) -> None:
        """Claim no more; what runs goes on."""
        self._stopping = True
        self._rung.set()

    async def drain(self, grace_s: float, hurry: asyncio.Event) -> None:
        """Wait up to `grace_s` seconds for the running jobs, then give the others back.

        `hurry` ends the wait. A claim that is under way comes first: its jobs are ours. Giving back
        takes a transaction each; what the database does not do within two seconds is left to the
        caretakers.
        """
        self.stop()
        await wait_for_claim(self._claiming, self._desk.clock)
        await self._all_done(grace_s, hurry)
        self.interrupt(list(self._held), Reason.STOPPING)
        await self._all_done(DATABASE_S, asyncio.Event())
        rest = [held.task for held in self._held.values()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _any(self) -> bool:
        async with self._desk.store.read() as tx:
            return await any_to_claim(tx)

    async def _fill(self) -> bool:
        """Claim into free slots; return whether more may wait for slots that are free."""
        free = min(self._slots - len(self._calling), 2 * self._slots - len(self._held))
        limit = min(CLAIM_AT_ONCE, free)
        self._short = limit <= 0
        if limit <= 0 or self.draining or self._stopping:
            return False
        async with self._claiming:
            jobs = await self._claimed(limit)
            for job in jobs:
                self._start(job)
        return len(jobs) == limit

    async def _claimed(self, limit: int) -> list[JobRow]:
        async with self._desk.store.write() as tx:
            await self._look_at_ages(tx)
            shares = self._wheel.turns(limit)
            return await claim(
                tx,
                owner=self._owner,
                lease_s=self._queue.lease_s,
                limit=limit,
                classes=tuple(shares),
                shares=shares,
                without_models=self._standing_still(),
                most_running=self._queue.max_running_per_tenant,
            )

    async def _look_at_ages(self, tx: Tx) -> None:
        now_s = self._desk.clock.monotonic()
        if now_s - self._ages_at_s >= AGES_FRESH_S:
            self._ages_at_s = now_s
            self._wheel.age(await oldest_waits_s(tx, CLASSES))

    def _start(self, job: JobRow) -> None:
        with bound(request_id=job.request_id, job_id=job.id):
            self._start_bound(job)

    def _start_bound(self, job: JobRow) -> None:
        """Start the job's task, which keeps the ids that are bound now."""
        log.info("job.claimed", job_id=job.id, priority=job.priority, token=job.lease_token)
        if job.lease_token == 1 and job.started_at is not None:
            waited = job.started_at - job.created_at
            JOB_WAIT_SECONDS.labels(job.priority).observe(max(0.0, waited.total_seconds()))
        lease = job.id, job.lease_token
        interrupt = Interrupt(on_over=partial(self._free, lease))
        self._calling.add(lease)
        task = asyncio.create_task(self._run_one(job, interrupt), name=f"job {job.id}")
        self._held[job.id] = _Held(job=job, interrupt=interrupt, task=task)

    async def _run_one(self, job: JobRow, interrupt: Interrupt) -> None:
        JOBS_RUNNING.inc()
        try:
            await run_job(job, self._desk, interrupt)
        except Exception:  # the lease runs out and a caretaker takes the job back
            log.exception("job.crashed", job_id=job.id)
        finally:
            JOBS_RUNNING.dec()
            held = self._held.get(job.id)
            # A job given back may have been claimed again here, under another token.
            if held is not None and held.job.lease_token == job.lease_token:
                del self._held[job.id]
            self._free((job.id, job.lease_token))
            if self._queue.max_running_per_tenant is not None:
                self._rung.set()

    def _free(self, lease: Lease) -> None:
        """Take note that a job's call is over; with room to spare nothing waits for its slot."""
        self._calling.discard(lease)
        if self._short:
            self._rung.set()

    async def _wait(self) -> None:
        try:
            async with self._desk.clock.timeout(self._queue.poll_s):
                await self._rung.wait()
        except TimeoutError:
            pass

    async def _all_done(self, length_s: float, hurry: asyncio.Event) -> None:
        """Return when no job runs, `length_s` seconds are over, or `hurry` is set."""
        hurrying = asyncio.ensure_future(hurry.wait())
        try:
            async with self._desk.clock.timeout(length_s):
                while self._held and not hurry.is_set():
                    running = [held.task for held in self._held.values()]
                    await asyncio.wait([*running, hurrying], return_when="FIRST_COMPLETED")
        except TimeoutError:
            pass
        finally:
            hurrying.cancel()
