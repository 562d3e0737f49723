"""The input of a batch: read once to be checked, and once more, bit by bit, to become jobs."""

from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from shared.errors import CallerError
from shared.jobs.batch.check import Asked, Check, LineError
from shared.jobs.batch.held import Caller, Held
from shared.jobs.batch.lines import RawLine, decode_line
from shared.jobs.batch.terms import MOST_BYTES, priority_of
from shared.objects.port import ObjectMissing
from shared.queue.tasks import DELIVERIES, jobs_topic
from shared.store.batch_lines import insert_lines
from shared.store.records import NewJob
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import BATCHES_FINISHED
from shared.webhooks.emit import emit
from shared.webhooks.event import subject_event

GROUP_BYTES = 4 * 1024 * 1024
"""Of bodies per transaction; more only when a single line is larger."""

GONE = LineError(
    code="invalid_input_file",
    message="The input file was deleted or has expired.",
    param="input_file_id",
)

log = get_logger(__name__)


async def validate(held: Held) -> None:
    """Read the whole input; the batch is `in_progress` then, or `failed` with its errors.

    Raises:
        BatchLost, StoreUnavailable: neither is so.
    """
    caller = await held.desk.caller(held.row)
    check = Check(held.row.endpoint, caller.check)
    try:
        async with aclosing(held.lines(most_bytes=held.desk.most_line_bytes)) as lines:
            async for line in lines:
                check.take(line)
                if check.full:
                    break
        check.end()
    except ObjectMissing:
        check.errors.append(GONE)
    if check.errors:
        await _fail(held, check.errors)
        return
    async with held.desk.store.read() as tx:
        now = await tx.now()
    changes = {
        "status": "in_progress",
        "in_progress_at": now,
        "lines_total": check.count,
        "model": check.model,
    }
    async with held.changing(changes):
        pass
    log.info("batch.started", batch_id=held.row.id, lines=check.count)


async def feed(held: Held, room: int) -> None:
    """Make up to `room` more lines into jobs, in groups of a transaction each.

    Raises:
        BatchLost, StoreUnavailable: the groups before are committed.
        ObjectMissing: the input is gone.
    """
    caller = await held.desk.caller(held.row)
    group: list[RawLine] = []
    size = 0
    async with aclosing(held.lines(most_bytes=MOST_BYTES)) as lines:
        async for line in lines:
            group.append(line)
            size += len(line.raw or b"")
            room -= 1
            if len(group) == held.desk.at_once or size >= GROUP_BYTES or not room:
                await _make(held, caller, group)
                group, size = [], 0
            if not room:
                return
    if group:
        await _make(held, caller, group)


async def _make(held: Held, caller: Caller, group: Sequence[RawLine]) -> None:
    first = held.row.lines_made + 1
    jobs = [_job(held, caller, line, first + number) for number, line in enumerate(group)]
    changes = {"lines_made": first + len(jobs) - 1, "input_offset": group[-1].ends}
    async with held.changing(changes) as tx:
        await insert_lines(tx, jobs, await tx.now())
    held.desk.bell.ring(jobs_topic(priority_of(held.row.completion_window)))


def _job(held: Held, caller: Caller, line: RawLine, line_no: int) -> NewJob:
    row, ids = held.row, held.desk.ids
    asked = decode_line(line.raw or b"")
    body = bytes(asked.body)
    try:
        call = caller.read(body)
    except CallerError:  # it was fine when it was checked; the job will say what is wrong now
        call = Asked(body=body)
    return NewJob(
        id=ids("job"),
        tenant_id=row.tenant_id,
        key_id=row.key_id,
        request_id=ids("req"),
        endpoint=row.endpoint,
        body=call.body,
        priority=priority_of(row.completion_window),
        tags=row.tags,
        user=call.user or row.user,
        deadline=row.expires_at,
        batch_id=row.id,
        line_no=line_no,
        custom_id=asked.custom_id,
        model=call.model,
        on_budget=row.on_budget,
    )


async def _fail(held: Held, errors: Sequence[LineError]) -> None:
    desk, row = held.desk, held.row
    async with desk.store.read() as tx:
        now = await tx.now()
    changes = {"status": "failed", "failed_at": now, "errors": msgspec.to_builtins(list(errors))}
    async with held.changing(changes) as tx:
        event = subject_event(desk.ids("evt"), "batch.failed", row.id, now)
        told = await emit(tx, event, tenant_id=row.tenant_id, ids=desk.ids, at=now)
    if told:
        desk.bell.ring(DELIVERIES)
    BATCHES_FINISHED.labels("failed").inc()
    log.info("batch.finished", batch_id=row.id, status="failed", errors=len(errors))
