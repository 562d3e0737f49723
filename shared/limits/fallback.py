"""Limits in Redis, one count for all processes; by the policy while Redis is away."""

import asyncio
from collections.abc import Sequence

from shared.clock import Clock
from shared.corked import cork_of
from shared.errors import Overloaded, RateLimitExceeded
from shared.limits.batch import Batch, Place, Reply, decode, decode_last, last_key
from shared.limits.limiter import Policy, Scope, Standing, Taken
from shared.limits.local import LocalLimiter
from shared.limits.owed import Owed
from shared.limits.redis import RedisAway, RedisLink
from shared.limits.rules import Demand, State, refusal, standing_of
from shared.limits.waiting import NOT_KNOWN, Unsure, Waiting, unlimited
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import LIMITER_FALLBACK, REDIS_FAILURES

log = get_logger("limits")

REPLY_S = 0.1
LEAST_REPLY_S = 0.03
LATE_S = 0.25
"""A batch that Redis reads later than this does nothing: its calls went on without it."""

PROBE_S = 0.5
BEAT_S = 5.0
LEASE_S = 15.0
"""A dead process's slots come back after this long; living ones renew theirs at every beat."""

IDLE_BEATS = 12
"""A process that took nothing for a minute leaves the others its share."""

MAX_TAKES = 256
MAX_ROWS = 256
MAX_SEEN = 20_000
"""States of scopes to carry on from; the longest unused go first."""


class SharedLimiter:
    """Sends what the calls of one event-loop tick take and give back as one script.

    One batch is on its way at a time; what comes meanwhile makes the next. When Redis fails, all
    that wait and all that come are decided here at once, going on from the levels last seen; a
    task of its own looks for Redis every half second, and then hands in what was taken.
    """

    def __init__(
        self, link: RedisLink, *, owner: str, policy: Policy, clock: Clock, processes: int
    ) -> None:
        self._link = link
        self._owner = owner
        self._policy: Policy = policy
        self._clock = clock
        self._processes = processes
        self._waiting: list[Waiting] = []
        self._owed = Owed()
        self._held: set[Taken] = set()
        self._seen: dict[str, State] = {}
        self._unsure: Unsure | None = None
        self._number = int(clock.now().timestamp() * 1000)  # an owner's earlier life had others
        self._offset_s: float | None = None  # Redis' clock less ours
        self._idle_beats = IDLE_BEATS
        self._beat_due = True
        self._rest: asyncio.Future[None] | None = None
        """Where the worker waits for work; None while it has some."""
        self._first = asyncio.Event()
        self._alone: LocalLimiter | None = LocalLimiter(clock, share=processes, stands_in=True)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def away(self) -> bool:
        return self._alone is not None

    async def start(self) -> None:
        """Begin to look for Redis; return when it was found or was not."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._beat())]
        await self._first.wait()

    async def aclose(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        await asyncio.wait(tasks)
        try:
            if self._alone is None:
                await self._leave()
        except RedisAway as error:
            log.warning("limits.not_handed_in", why=str(error))
        finally:
            self._fall_back()
            await self._link.aclose()

    async def take(
        self, scopes: Sequence[Scope], *, tokens: int, slot: str, slot_s: float
    ) -> Taken:
        if not scopes:
            return unlimited(tokens, slot)
        if self._idle_beats:
            self._beat_due = self._beat_due or self._idle_beats >= IDLE_BEATS
            self._idle_beats = 0
        taken = Taken(
            standing=NOT_KNOWN, scopes=tuple(scopes), tokens=tokens, slot=slot, until_s=0.0
        )
        if self._alone is not None:
            answer = self._decide_alone(self._alone, taken, slot_s)
        else:
            verdict: asyncio.Future[Taken | Exception] = self._loop.create_future()
            self._waiting.append((taken, slot_s, self._clock.monotonic(), verdict))
            if self._rest is not None:
                self._wake()
            try:
                answer = await verdict
            except asyncio.CancelledError:
                self._leave_behind(verdict)
                raise
        if isinstance(answer, Taken):
            return answer
        raise answer

    def give_back(self, taken: Taken, *, used_tokens: int) -> None:
        if self._alone is not None:
            self._alone.give_back(taken, used_tokens=used_tokens)
        if taken in self._held:
            self._end(taken, 0, taken.tokens - used_tokens)

    def undo(self, taken: Taken) -> None:
        if self._alone is not None:
            self._alone.undo(taken)
        if taken in self._held:
            self._end(taken, 1, taken.tokens)

    def _end(self, taken: Taken, requests: int, tokens: int) -> None:
        self._held.remove(taken)
        self._owed.end(taken.scopes, taken.slot, requests, tokens)
        if self._rest is not None:
            self._wake()

    def _wake(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None and not rest.done():
            rest.set_result(None)

    def _leave_behind(self, verdict: asyncio.Future[Taken | Exception]) -> None:
        """Ask no more for a call whose caller has gone, or undo it if it was admitted just now."""
        if verdict.cancelled():
            self._waiting = [call for call in self._waiting if call[3] is not verdict]
            return
        answer = verdict.result()
        if isinstance(answer, Taken):
            self.undo(answer)

    # The task that talks to Redis

    async def _work(self) -> None:
        cork = cork_of(self._loop)
        while True:
            try:
                await self._meet()
                while True:
                    while True:
                        await cork.crowd_gone(self._loop)  # who is in it asks with it
                        if not (self._waiting or self._owed or self._beat_due):
                            break
                        await self._exchange()
                    self._rest = self._loop.create_future()
                    await self._rest
            except RedisAway as error:
                if self._alone is None or not self._first.is_set():
                    log.warning("limits.away", why=str(error), policy=self._policy)
                REDIS_FAILURES.inc()
                self._fall_back()
            except Exception:
                log.exception("limits.failed")
                self._fall_back()
            self._first.set()
            await self._clock.sleep(PROBE_S)

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(BEAT_S)
            self._idle_beats += 1
            self._beat_due = True
            self._wake()

    async def _meet(self) -> None:
        """Connect, prove that Redis takes writes, and hand in what was taken without it."""
        await self._greet()
        await self._exchange()
        if self._first.is_set():
            log.info("limits.back", processes=self._processes)
        self._alone = None
        LIMITER_FALLBACK.set(0)
        self._first.set()

    async def _greet(self) -> None:
        """Connect, and learn what became of the batch without an answer.

        By now it is too late for Redis to carry it out: that is what `LATE_S` is for.
        """
        now_s, stored = await self._link.connect(last_key(self._owner))
        self._offset_s = now_s - self._clock.monotonic()
        self._beat_due = True
        unsure, self._unsure = self._unsure, None
        last = None if stored is None else decode_last(stored)
        if unsure is None:
            return
        if last is None or last.number != unsure.number:
            self._owed.put_back(unsure.rows)
            return
        for (asked, _, _, _), admitted in zip(unsure.calls, last.verdicts, strict=True):
            if admitted:  # they were decided once more, without Redis
                for scope in asked.scopes:
                    self._owed.add(scope, Demand(1, asked.tokens), (asked.slot,))

    async def _leave(self) -> None:
        for taken in tuple(self._held):
            self.give_back(taken, used_tokens=taken.tokens)
        self._idle_beats = IDLE_BEATS
        await self._greet()  # the worker may have left a reply unread
        while self._owed or self._beat_due:
            await self._exchange()

    async def _exchange(self) -> None:
        """Send one batch and tell everyone in it."""
        calls, self._waiting = self._waiting[:MAX_TAKES], self._waiting[MAX_TAKES:]
        rows = self._owed.cut(MAX_ROWS)
        beat, self._beat_due = self._beat_due, False
        self._number += 1
        batch = Batch(self._owner, self._number, self._seen)
        for row in rows:
            batch.move(row)
        if beat:
            self._add_beat(batch)
        batch.take(calls, LEASE_S)
        try:
            reply = await self._ask(batch, calls)
        except BaseException:
            self._waiting[:0] = calls
            self._unsure = Unsure(batch.number, rows, calls)
            self._beat_due = self._beat_due or beat
            raise
        self._learn(batch, reply)
        self._tell(calls, batch, reply)

    def _add_beat(self, batch: Batch) -> None:
        """Say that this process lives, and which slots go on."""
        batch.beat(LEASE_S if self._idle_beats < IDLE_BEATS else 0.0)
        now_s = self._clock.monotonic()
        self._held = {taken for taken in self._held if taken.until_s > now_s}
        slots: dict[Scope, list[str]] = {}
        for taken in self._held:
            for scope in taken.scopes:
                if scope.limits.concurrency is not None:
                    slots.setdefault(scope, []).append(taken.slot)
        for scope, names in slots.items():
            batch.hold(scope, names, LEASE_S)

    async def _ask(self, batch: Batch, calls: Sequence[Waiting]) -> Reply:
        now_s = self._clock.monotonic()
        not_after_s = 0.0 if self._offset_s is None else now_s + self._offset_s + LATE_S
        waited_s = now_s - calls[0][2] if calls else 0.0
        answer = await self._link.run(
            *batch.keys(),
            batch.encode(not_after_s),
            patience_s=max(LEAST_REPLY_S, REPLY_S - waited_s),
        )
        return decode(answer)

    def _learn(self, batch: Batch, reply: Reply) -> None:
        now_s, seen = reply.now_s, self._seen
        self._offset_s = now_s - self._clock.monotonic()
        counted = self._idle_beats < IDLE_BEATS
        self._processes = max(1, reply.processes if counted else reply.processes + 1)
        for scope, (levels, _) in zip(batch.scopes, reply.scopes, strict=True):
            name = scope.name
            seen.pop(name, None)  # to the end of the line
            seen[name] = State(now_s, levels)
        while len(seen) > MAX_SEEN:
            del seen[next(iter(seen))]

    def _tell(self, calls: Sequence[Waiting], batch: Batch, reply: Reply) -> None:
        standings: dict[Place, Standing] = {}
        place: Place = ()
        standing = NOT_KNOWN
        now_s = self._clock.monotonic()
        held = self._held
        for (taken, slot_s, _, verdict), take, admitted in zip(
            calls, batch.takes, reply.verdicts, strict=True
        ):
            if take[0] is not place:  # most calls share it
                place = take[0]
                if place not in standings:
                    standings[place] = standing_of(
                        [(batch.figures[n - 1], reply.scopes[n - 1][0]) for n in place]
                    )
                standing = standings[place]
            if admitted:
                taken.standing = standing
                taken.until_s = now_s + slot_s
                held.add(taken)
                if verdict.done():  # its caller has gone
                    self.undo(taken)
                else:
                    verdict.set_result(taken)
            elif not verdict.done():
                rows = [(batch.scopes[n - 1], *reply.scopes[n - 1]) for n in place]
                verdict.set_result(refusal(rows, Demand(1, taken.tokens), standing))

    # Without Redis

    def _fall_back(self) -> None:
        """Answer all who wait, and go on by the policy."""
        LIMITER_FALLBACK.set(1)
        if self._alone is None:
            self._alone = LocalLimiter(
                self._clock,
                share=self._processes,
                start=dict(self._seen),
                offset_s=self._offset_s or 0.0,
                stands_in=True,
            )
            for taken in self._held:
                self._alone.adopt(taken)
        calls, self._waiting = self._waiting, []
        for asked, slot_s, _, verdict in calls:
            gone = verdict.done()
            answer = None if gone else self._decide_alone(self._alone, asked, slot_s)
            if answer is not None:
                verdict.set_result(answer)

    def _decide_alone(self, alone: LocalLimiter, asked: Taken, slot_s: float) -> Taken | Exception:
        if self._policy == "deny":
            return Overloaded("Limits cannot be checked at the moment; try again in a few seconds.")
        if self._policy == "open":
            return unlimited(asked.tokens, asked.slot)
        try:
            taken = alone.take_now(
                asked.scopes, tokens=asked.tokens, slot=asked.slot, slot_s=slot_s
            )
        except RateLimitExceeded as error:
            return error
        self._held.add(taken)
        for scope in asked.scopes:
            self._owed.add(scope, Demand(-1, -asked.tokens))
        return taken
