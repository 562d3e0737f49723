"""A worker's books: the attempt's row before the call, the charges with the job's end."""

import msgspec

from shared.errors import FailedAttempt
from shared.jobs.commits import Commits, Opened, Page
from shared.jobs.lease import LeaseLost
from shared.ledger.books import Charge, Opening, Outcome
from shared.routing.position import Position, Tried, after_run
from shared.store.engine import Store, Tx
from shared.store.jobs import count_attempts
from shared.store.records import AttemptClosing, AttemptRow, JobRow


def encode_opening(opening: Opening) -> bytes:
    """Return an opening as it lies in an attempt's row."""
    return msgspec.msgpack.encode(opening)


def grant_of(job_id: str) -> str:
    """Return the name under which a job has its grants."""
    return f"job:{job_id}"


def decode_opening(packed: bytes) -> Opening:
    """Return the opening that lies in an attempt's row."""
    return msgspec.msgpack.decode(packed, type=Opening)


class JobBooks:
    """The books of one run of a job, kept under its lease."""

    def __init__(self, store: Store, job: JobRow, commits: Commits | None = None) -> None:
        """Without `commits` each write has its own transaction."""
        self._store = store
        self._commits = commits or Commits(store)
        self._job = job
        # How many attempts earlier runs made; a first claim need not look.
        self._before: int | None = 0 if job.lease_token <= 1 else None
        self._opened: dict[str, Opening] = {}
        self._charges: dict[str, Charge] = {}

    async def open(self, opening: Opening) -> None:
        """Insert the attempt's row, so that a crash leaves a trace of the call.

        Raises:
            LeaseLost: the job is somebody else's; the call must not be made.
            StoreUnavailable: it could not be recorded; the call must not be made.
        """
        self._opened[opening.attempt_id] = opening  # before the commit, whose reply may be lost
        if self._before is None:
            async with self._store.read() as tx:
                self._before = await count_attempts(tx, self._job.id)
        opened = Opened(
            lease=(self._job.id, self._job.lease_token),
            row=_row(self._job, opening, number=self._before + len(self._opened)),
            moved=bool(self._charges),  # whoever takes the job over goes on from here
            position=self.position if self._charges else None,
        )
        if not await self._commits.open(opened):
            raise LeaseLost(self._job.id)

    def close(self, charge: Charge) -> None:
        """Keep the charge until the run is settled; never waits and never fails."""
        self._charges[charge.opening.attempt_id] = charge

    @property
    def position(self) -> dict[str, object] | None:
        """Where the job's chain goes on when it runs again, as it lies in the job's row."""
        tried = tuple(
            _tried(opening, self._charges.get(attempt_id))
            for attempt_id, opening in self._opened.items()
        )
        after = after_run(position_of(self._job), tried)
        return None if after is None else msgspec.to_builtins(after)

    @property
    def unpriced(self) -> bool:
        """Whether the answer's own cost is not known."""
        charges = self._charges.values()
        return any(one.outcome is Outcome.SUCCEEDED and one.cost_nanousd is None for one in charges)

    @property
    def cost_nanousd(self) -> int | None:
        """The known costs of this run together; None when the answer's own is not known."""
        charges = self._charges.values()
        if self.unpriced:
            return None
        known = [one.cost_nanousd for one in charges if one.cost_nanousd is not None]
        return sum(known) if known else None

    async def settle(self, tx: Tx, shown: tuple[FailedAttempt, ...] = ()) -> None:
        """Write what `enter` enters, in a transaction of the caller's."""
        page = Page(tx)
        self.enter(page, shown)
        await page.flush()

    def enter(self, page: Page, shown: tuple[FailedAttempt, ...] = ()) -> None:
        """Enter the charges, close the rows and let the hold go, at the end of the run.

        `shown` lends the messages. An attempt without a charge was never made: the run was ended
        while its row was being written.
        """
        messages = {one.id: one.message for one in shown}
        closings = [
            _closing(attempt_id, self._charges.get(attempt_id), messages.get(attempt_id))
            for attempt_id in self._opened
        ]
        page.settle(closings, list(self._charges.values()), release=grant_of(self._job.id))


def position_of(job: JobRow) -> Position | None:
    """Return where the job's chain goes on; None when it begins."""
    return None if job.position is None else msgspec.convert(job.position, Position)


def _tried(opening: Opening, charge: Charge | None) -> Tried:
    return Tried(
        provider=opening.provider,
        model=opening.model,
        credential=opening.credential,
        code=None if charge is None else charge.code,
    )


def _row(job: JobRow, opening: Opening, *, number: int) -> AttemptRow:
    return AttemptRow(
        id=opening.attempt_id,
        job_id=job.id,
        number=number,
        route=opening.route,
        provider=opening.provider,
        model=opening.model,
        started_at=opening.started_at,
        opening=encode_opening(opening),
    )


def _closing(attempt_id: str, charge: Charge | None, message: str | None) -> AttemptClosing:
    if charge is None:
        return AttemptClosing(id=attempt_id, outcome=Outcome.CANCELLED.value, duration_ms=0)
    return AttemptClosing(
        id=attempt_id,
        outcome=charge.outcome.value,
        code=charge.code,
        status_code=charge.status_code,
        message=message,
        duration_ms=charge.duration_ms,
    )
