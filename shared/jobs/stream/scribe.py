"""Keeping the events of all jobs that stream in this process: one transaction for many of them."""

import asyncio
from contextvars import Context

from shared.clock import Clock
from shared.errors import StoreUnavailable
from shared.jobs.lease import Interrupted, LeaseLost, Reason
from shared.store.engine import Store
from shared.store.job_events import EventRows, Refused, append_events
from shared.store.records import JobRow
from shared.telemetry.log import get_logger

SOON_S = 0.075
"""How long an event waits for others to be kept with."""
ENOUGH = 20
"""Events of one job that wait no longer."""
MOST_BYTES = 1024 * 1024
"""Of one job that may wait; a database that is slower than this holds the stream back."""
MOST = 200
"""Jobs whose events share a transaction."""
PAUSE_S = 0.5
"""Between tries at a database that is away."""

log = get_logger(__name__)


class Notes:
    """What one run of a job has told and is not kept yet; `Scribe.open` gives it."""

    def __init__(self, job: JobRow, first_no: int, scribe: "Scribe") -> None:
        self.begun = False
        """Whether something was kept, or may have been."""
        self.over: Exception | None = None
        """Why nothing more may be told."""
        self.closed = self.dropped = False
        self.saved = asyncio.Event()
        self.job_id = job.id
        self._job = job
        self._scribe = scribe
        self._next_no = first_no
        self._events: list[bytes] = []
        self._bytes = 0
        self._row: EventRows | None = None

    @property
    def number(self) -> int:
        """The number of the event that is told next."""
        return self._next_no + len(self._events)

    async def add(self, event: bytes) -> None:
        """Tell the next event; waits while too much is not kept yet.

        Raises:
            LeaseLost: the job is somebody else's, and nothing more may be told.
            Interrupted: the job is to be cancelled.
        """
        while self.over is None and self._bytes >= MOST_BYTES:
            self.saved.clear()
            await self.saved.wait()
        if self.over is not None:
            raise self.over
        self._events.append(event)
        self._bytes += len(event)
        self._scribe.note(self, urgent=len(self._events) >= ENOUGH)

    async def rest(self, last: bytes) -> EventRows:
        """Return the events that are not kept yet and the last one, to be kept with the job's end.

        Raises:
            LeaseLost: the job is somebody else's.
            Interrupted: the job is to be cancelled.
        """
        self.closed = True
        while self._row is not None and self.over is None:  # some of them are just being kept
            self.saved.clear()
            await self.saved.wait()
        if self.over is not None:
            raise self.over
        self._events.append(last)
        return self._rows()

    def drop(self) -> None:
        """Tell nothing more: what is not kept by now never was told."""
        self.closed = self.dropped = True
        self._events.clear()

    def taken(self) -> EventRows | None:
        """Return what is to be kept next; the same again until `done` or `fail`."""
        if self._row is None and self._events and not self.closed:
            self._row = self._rows()
            self.begun = True
        return self._row

    def done(self) -> None:
        """Forget what has been kept."""
        self._row = None
        self.saved.set()

    def fail(self, over: Exception) -> None:
        """Tell the run that nothing more may be told, and why."""
        self.over, self._row = over, None
        self._events.clear()
        self.saved.set()

    def _rows(self) -> EventRows:
        events, self._events, self._bytes = self._events, [], 0
        first_no, self._next_no = self._next_no, self._next_no + len(events)
        return EventRows(
            job_id=self._job.id,
            token=self._job.lease_token,
            first_no=first_no,
            last_no=self._next_no - 1,
            events=b"".join(events),
        )


class Scribe:
    """Writes down what the runs of this process tell; one of them per process.

    Its task lives while something waits to be kept, and ends by itself.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[Notes, None] = {}  # in the order they came
        self._urgent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def open(self, job: JobRow, first_no: int) -> Notes:
        """Return the notes of a run whose first event has that number."""
        return Notes(job, first_no, self)

    def note(self, notes: Notes, *, urgent: bool) -> None:
        """Keep what is in these notes, soon; at once if it is `urgent`."""
        self._waiting.setdefault(notes)
        if urgent:
            self._urgent.set()
        if self._task is None:
            self._task = asyncio.create_task(self._write_all(), name="scribe", context=Context())

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                await self._more()
                waiting = self._next()
                for start in range(0, len(waiting), MOST):
                    await self._write(waiting[start : start + MOST])
        finally:
            self._task = None

    async def _more(self) -> None:
        """Return when enough waits, or some has waited long enough."""
        try:
            async with self._clock.timeout(SOON_S):
                await self._urgent.wait()
        except TimeoutError:
            pass
        self._urgent.clear()

    def _next(self) -> list[Notes]:
        """Return the notes that wait, of each job one: a run may follow another here."""
        waiting, self._waiting = self._waiting, {}
        first: dict[str, Notes] = {}
        for notes in waiting:
            if first.setdefault(notes.job_id, notes) is not notes:
                self._waiting.setdefault(notes)
        return list(first.values())

    async def _write(self, waiting: list[Notes]) -> None:
        """Keep what is in these notes."""
        rows = [row for notes in waiting if (row := notes.taken()) is not None]
        try:
            refused = await self._kept(rows, waiting) if rows else Refused()
        except Exception:
            log.exception("events.write_broke")
            refused = Refused(lost=frozenset(notes.job_id for notes in waiting))
        for notes in waiting:
            if notes.job_id in refused.lost:
                notes.fail(LeaseLost(notes.job_id))
            elif notes.job_id in refused.cancelling:  # sooner than with the next heartbeat
                notes.fail(Interrupted(Reason.CANCELLED))
            else:
                notes.done()

    async def _kept(self, rows: list[EventRows], waiting: list[Notes]) -> Refused:
        """Keep rows; a database that is away is waited for as long as some run needs it."""
        while not all(notes.dropped for notes in waiting):
            try:
                async with self._store.write() as tx:
                    return await append_events(tx, rows, await tx.now())
            except StoreUnavailable as error:
                log.warning("events.write_failed", jobs=len(rows), reason=error.message)
            await self._clock.sleep(PAUSE_S)
        return Refused()
