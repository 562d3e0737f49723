"""Whether the queue takes one more job, and how soon one that waits will start."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from shared.clock import Clock
from shared.config.conduct import QueueConfig
from shared.errors import QueueFull
from shared.store.backlog import count_open, count_queued, drain_rates
from shared.store.engine import Tx
from shared.store.pauses import CLASS, TENANT, pauses
from shared.store.records import JobRow, NewJob
from shared.store.workers import list_workers

LEAST_RETRY_S = 1.0
LONGEST_RETRY_S = 120.0
"""SDKs give up at once on longer hints."""
FRESH_S = 1.0
"""A count that leaves much room is believed for so long."""
RATES_FRESH_S = 5.0
SLOTS_FRESH_S = 1.0
LOOKS = 2
"""A free worker that has looked so often and not taken a job will not take it soon."""
MARGIN = 1_000
"""With no more room than this every job is counted."""
MOST_KNOWN = 10_000


class _Count(msgspec.Struct, kw_only=True):
    number: int
    at_s: float


class Room:
    """The limits of the queue, as one process keeps them.

    Far below a limit jobs are counted once a second and not one by one: counting a hundred thousand
    takes as long as inserting twenty.
    """

    def __init__(self, queue: QueueConfig, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._counts: dict[tuple[str, str], _Count] = {}
        self._rates: Mapping[str, float] = {}
        self._rates_at_s = -math.inf
        self._slots = 0
        self._paused: frozenset[str] = frozenset()
        self._slots_at_s = -math.inf

    async def check(self, tx: Tx, new: NewJob) -> None:
        """Return if the job may be inserted in this transaction.

        Raises:
            QueueFull: its tenant or its class has as many as it may; says when to come again.
        """
        limit = self._queue.max_queued_per_tenant
        tenant = await self._count(tx, "tenant", new.tenant_id, limit)
        if tenant >= limit:
            raise await self._full(tx, new, tenant, f"{limit} of your jobs are open already.")
        bound = self._queue.max_queued.get(new.priority)
        if bound is None:
            return
        waiting = await self._count(tx, "class", new.priority, bound)
        if waiting >= bound:
            raise await self._full(
                tx, new, waiting, f"{bound} jobs of class {new.priority} wait already."
            )

    async def starts_at(self, tx: Tx, row: JobRow, position: int | None) -> datetime | None:
        """Return when a waiting job may be expected to start; None when nobody can say.

        A job that has just come, and for which a worker has a slot free, starts at once.
        """
        if row.status == "scheduled":
            return row.not_before
        if position is None:
            return None
        now = await tx.now()
        young = (now - row.queued_at).total_seconds() <= LOOKS * self._queue.poll_s
        if young and position <= await self._free(tx, row):
            return now
        rate = (await self._drained(tx)).get(row.priority, 0.0)
        return now + timedelta(seconds=position / rate) if rate else None

    async def _free(self, tx: Tx, row: JobRow) -> int:
        """Return how many more jobs the workers could run now; 0 for one that is paused."""
        now_s = self._clock.monotonic()
        if now_s - self._slots_at_s > SLOTS_FRESH_S:
            since = await tx.now() - timedelta(seconds=self._queue.lease_s)
            claiming = [
                one
                for one in await list_workers(tx)
                if one.drain_at is None and one.seen_at > since
            ]
            self._slots = sum(max(0, one.slots - one.running) for one in claiming)
            self._paused = frozenset(one.scope for one in await pauses(tx))
            self._slots_at_s = now_s
        scopes = {f"{CLASS}{row.priority}", f"{TENANT}{row.tenant_id}"}
        return 0 if scopes & self._paused else self._slots

    async def _count(self, tx: Tx, kind: str, name: str, limit: int) -> int:
        now_s = self._clock.monotonic()
        known = self._counts.get((kind, name))
        if known is None or now_s - known.at_s > FRESH_S or known.number + MARGIN >= limit:
            number = await (count_open(tx, name) if kind == "tenant" else count_queued(tx, name))
            if len(self._counts) >= MOST_KNOWN:
                self._counts.clear()
            known = self._counts[(kind, name)] = _Count(number=number, at_s=now_s)
        before, known.number = known.number, known.number + 1
        return before

    async def _full(self, tx: Tx, new: NewJob, backlog: int, message: str) -> QueueFull:
        rate = (await self._drained(tx)).get(new.priority, 0.0)
        wait_s = backlog / rate if rate else LONGEST_RETRY_S
        retry_s = min(LONGEST_RETRY_S, max(LEAST_RETRY_S, wait_s))
        return QueueFull(message, retry_after_s=retry_s)

    async def _drained(self, tx: Tx) -> Mapping[str, float]:
        now_s = self._clock.monotonic()
        # Where nothing has ended there is nothing to count, so it may as well be looked at again.
        if not self._rates or now_s - self._rates_at_s > RATES_FRESH_S:
            self._rates, self._rates_at_s = await drain_rates(tx, await tx.now()), now_s
        return self._rates
