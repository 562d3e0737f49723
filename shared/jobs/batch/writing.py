"""The end of a batch: its lines' answers and errors as files, and the lines' own contents gone."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from datetime import timedelta

import msgspec

from shared.errors import StoreUnavailable
from shared.files.keeping import Shelves, store_file
from shared.jobs.batch.held import Held
from shared.jobs.batch.lines import decode_line
from shared.jobs.batch.results import CANCELLED, EXPIRED, error_line, output_line, unmade_line
from shared.jobs.batch.terms import KEPT_FOR_S, MOST_BYTES
from shared.objects.port import ObjectMissing
from shared.queue.tasks import DELIVERIES
from shared.store.batch_lines import (
    LineCounts,
    LineRow,
    cost_of,
    drop_contents,
    line_counts,
    lines_after,
)
from shared.store.batches import BatchRow, BatchStatus
from shared.store.files import FileRow, NewFile, publish_file
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import BATCHES_FINISHED
from shared.webhooks.emit import emit
from shared.webhooks.event import subject_event

PAGE = 50
"""Answers in memory together; each has at most 256 KiB, larger ones lie in the object store."""

_TOLD = ("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens")

log = get_logger(__name__)


async def publish(held: Held) -> None:
    """Write the files of a batch whose lines are over, and end it, in one last transaction.

    Raises:
        BatchLost, StoreUnavailable: it has not ended; the files, if any, are shown to nobody.
    """
    row, desk = held.row, held.desk
    async with desk.store.read() as tx:
        counts = (await line_counts(tx, [row.id]))[row.id]
        cost_nanousd = await cost_of(tx, row.id)
    used = Counter[str]()
    status = _ending(row, counts)
    output = await _stored(held, "output", _outputs(held, used)) if counts.completed else None
    unmade = row.lines_total - row.lines_made
    failures = _failures(held, EXPIRED if status == "expired" else CANCELLED)
    errors = await _stored(held, "error", failures) if counts.failed or unmade else None
    sums = {
        "completed": counts.completed,
        "failed": row.lines_total - counts.completed,
        "usage": usage_of(used),
        "cost_nanousd": cost_nanousd,
    }
    await _end(held, status, sums, output, errors)
    await _drop_contents(held)


def _ending(row: BatchRow, counts: LineCounts) -> BatchStatus:
    if row.status == "cancelling":
        return "cancelled"
    if row.errors:
        return "failed"
    unfinished = counts.expired > 0 or row.lines_made < row.lines_total
    return "expired" if unfinished else "completed"


async def _stored(held: Held, kind: str, lines: AsyncIterator[bytes]) -> FileRow:
    """Store the lines as a file that nobody sees yet."""
    desk, row = held.desk, held.row
    new = NewFile(
        id=desk.ids("file"),
        tenant_id=row.tenant_id,
        purpose="batch_output",
        filename=f"{row.id}_{kind}.jsonl",
    )
    return await store_file(Shelves(store=desk.store, objects=desk.objects), new, lines)


async def _end(
    held: Held,
    status: BatchStatus,
    sums: Mapping[str, object],
    output: FileRow | None,
    errors: FileRow | None,
) -> None:
    desk, row = held.desk, held.row
    async with desk.store.read() as tx:
        now = await tx.now()
    changes = {
        "status": status,
        f"{status}_at": now,
        "output_file_id": None if output is None else output.id,
        "error_file_id": None if errors is None else errors.id,
        **sums,
        "lease_owner": None,
    }
    async with held.changing(changes) as tx:
        expires_at = now + timedelta(seconds=row.output_expires_after_s or KEPT_FOR_S)
        for file in (output, errors):
            if file is not None:
                await publish_file(tx, msgspec.structs.replace(file, expires_at=expires_at))
        event = subject_event(desk.ids("evt"), f"batch.{status}", row.id, now)
        told = await emit(tx, event, tenant_id=row.tenant_id, ids=desk.ids, at=now)
    if told:
        desk.bell.ring(DELIVERIES)
    BATCHES_FINISHED.labels(status).inc()
    log.info("batch.finished", batch_id=row.id, status=status, errors=changes["failed"])


def usage_of(used: Mapping[str, int]) -> dict[str, object]:
    """Return sums by the names of `Usage` as OpenAI's batches tell them; what is absent is 0."""
    input_tokens, output_tokens = used.get("input_tokens", 0), used.get("output_tokens", 0)
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": used.get("cache_read_tokens", 0)},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.get("reasoning_tokens", 0)},
        "total_tokens": input_tokens + output_tokens,
    }


async def _outputs(held: Held, used: Counter[str]) -> AsyncGenerator[bytes, None]:
    """Yield the lines of the output file; add what their answers used to `used`."""
    async with aclosing(_rows(held, succeeded=True)) as rows:
        async for row in rows:
            if row.usage is not None:
                used.update({name: getattr(row.usage, name) for name in _TOLD})
            yield output_line(row, await _answer(held, row))


async def _failures(held: Held, code: str) -> AsyncGenerator[bytes, None]:
    """Yield the lines of the error file: of calls without an answer, then of those never begun."""
    async with aclosing(_rows(held, succeeded=False)) as rows:
        async for row in rows:
            yield error_line(row)
    line_no = held.row.lines_made
    try:
        async with aclosing(held.lines(most_bytes=MOST_BYTES)) as lines:
            async for line in lines:
                if line_no >= held.row.lines_total:
                    return
                line_no += 1
                custom_id = decode_line(line.raw or b"").custom_id
                yield unmade_line(held.row.id, line_no, custom_id, code)
    except ObjectMissing:
        log.warning(
            "batch.input_gone", batch_id=held.row.id, unnamed=held.row.lines_total - line_no
        )


async def _rows(held: Held, *, succeeded: bool) -> AsyncGenerator[LineRow, None]:
    last = 0
    while True:
        await held.keep()
        async with held.desk.store.read() as tx:
            page = await lines_after(tx, held.row.id, last, succeeded=succeeded, limit=PAGE)
        for row in page:
            yield row
        if len(page) < PAGE:
            return
        last = page[-1].line_no


async def _answer(held: Held, row: LineRow) -> bytes:
    if row.result_key is None:
        return row.body or b"null"
    return b"".join([piece async for piece in held.desk.objects.get(row.result_key)])


async def _drop_contents(held: Held) -> None:
    """Delete what now stands in the files; what is left by a crash goes with the jobs' own rows."""
    desk, row = held.desk, held.row
    try:
        for first in range(1, row.lines_made + 1, desk.at_once):
            async with desk.store.write() as tx:
                keys = await drop_contents(tx, row.id, first, first + desk.at_once - 1)
            for key in keys:
                await desk.objects.delete(key)
    except StoreUnavailable as error:
        log.warning("batch.contents_left", batch_id=row.id, reason=error.message)
