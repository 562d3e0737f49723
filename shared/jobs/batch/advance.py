"""Bringing a batch on: whatever can be done for it now, from any state, again and again."""

from datetime import datetime

import msgspec

from shared.jobs import failure
from shared.jobs.batch.held import Held
from shared.jobs.batch.reading import GONE, feed, validate
from shared.jobs.batch.writing import publish
from shared.objects.port import ObjectMissing
from shared.store.batch_lines import (
    cancel_running_lines,
    cancel_waiting_lines,
    count_open_lines,
)
from shared.store.batches import FINAL
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import JOBS_FINISHED

SOONEST_S = 0.25
LATEST_S = 5.0
_SHARE = 20
"""A batch is looked at 20 times in its life so far, so that its end is noticed after 5 % of it."""

log = get_logger(__name__)


async def advance(held: Held) -> float | None:
    """Do all that can be done for the batch now; a crash anywhere leaves it to go on from there.

    Returns in how many seconds to look again, None when the batch is over.

    Raises:
        BatchLost: somebody else goes on with it, or its cancel was asked for.
        StoreUnavailable: database or object store are away; nothing is lost.
    """
    again_s: float | None = None
    while again_s is None and held.row.status not in FINAL:
        match held.row.status:
            case "validating":
                await validate(held)
            case "in_progress":
                again_s = await _progress(held)
            case "cancelling":
                again_s = await _cancel(held)
            case _:
                await publish(held)
    return again_s


async def _progress(held: Held) -> float | None:
    """Make more lines into jobs while there is room; go on to the end when all are over."""
    now, opened = await _open_lines(held)
    row = held.row
    if row.lines_made < row.lines_total and now < row.expires_at:
        if opened > held.desk.ahead // 2:
            return SOONEST_S
        try:
            await feed(held, held.desk.ahead - opened)
        except ObjectMissing:
            log.warning("batch.input_gone", batch_id=row.id, unnamed=0)
            await _end_early(held)
        return SOONEST_S
    if opened:
        return _look_again_s(held, now)
    async with held.changing({"status": "finalizing", "finalizing_at": now}):
        pass
    return None


async def _end_early(held: Held) -> None:
    """Let the batch end as `failed` after the lines that were made: the others cannot be read."""
    errors = msgspec.to_builtins([GONE])
    async with held.changing({"errors": errors, "lines_total": held.row.lines_made}):
        pass


async def _cancel(held: Held) -> float | None:
    """Cancel what waits, in groups, tell those who run lines, and end when none is open."""
    error = failure.ended(failure.cancelled())
    async with held.desk.store.write() as tx:
        now = await tx.now()
        ended = await cancel_waiting_lines(
            tx, held.row.id, error=error, at=now, limit=held.desk.at_once
        )
        await cancel_running_lines(tx, held.row.id, now)
    JOBS_FINISHED.labels("cancelled").inc(ended)
    await held.keep()
    if ended:
        return None  # there may be more
    _, opened = await _open_lines(held)
    if opened:
        return SOONEST_S
    await publish(held)
    return None


async def _open_lines(held: Held) -> tuple[datetime, int]:
    async with held.desk.store.read() as tx:
        return await tx.now(), await count_open_lines(tx, held.row.tenant_id, held.row.id)


def _look_again_s(held: Held, now: datetime) -> float:
    age_s = (now - held.row.created_at).total_seconds()
    return min(LATEST_S, max(SOONEST_S, age_s / _SHARE))
