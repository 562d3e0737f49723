"""The batch object, as callers see it: OpenAI's, and what it cost."""

from datetime import datetime

import msgspec

from shared.jobs.object import usd
from shared.store.batch_lines import LineCounts
from shared.store.batches import FINAL, BatchRow


class BatchErrors(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the input file, by line."""

    kind: str = msgspec.field(default="list", name="object")
    data: list[dict[str, object]]


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of the input, lines with an answer, lines that ended without one."""

    total: int
    completed: int
    failed: int


class BatchObject(msgspec.Struct, frozen=True, kw_only=True):
    """A batch over HTTP. Moments are epoch seconds; `cost_usd` is exact, never a float.

    `usage` is there once it has ended.
    """

    id: str
    kind: str = msgspec.field(default="batch", name="object")
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    on_budget: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: dict[str, object] | None
    cost_usd: msgspec.Raw | None
    metadata: dict[str, str]


def batch_object(row: BatchRow, counts: LineCounts) -> BatchObject:
    """Return the batch as callers see it; `counts` are its lines' while it is open."""
    over = row.status in FINAL
    cost_nanousd = row.cost_nanousd if over else counts.cost_nanousd
    return BatchObject(
        id=row.id,
        endpoint=row.endpoint,
        model=row.model,
        errors=None if row.errors is None else BatchErrors(data=row.errors),
        input_file_id=row.input_file_id,
        completion_window=row.completion_window,
        on_budget=row.on_budget or "fail",
        status=row.status,
        output_file_id=row.output_file_id,
        error_file_id=row.error_file_id,
        created_at=int(row.created_at.timestamp()),
        in_progress_at=_seconds(row.in_progress_at),
        expires_at=int(row.expires_at.timestamp()),
        finalizing_at=_seconds(row.finalizing_at),
        completed_at=_seconds(row.completed_at),
        failed_at=_seconds(row.failed_at),
        expired_at=_seconds(row.expired_at),
        cancelling_at=_seconds(row.cancelling_at),
        cancelled_at=_seconds(row.cancelled_at),
        request_counts=RequestCounts(
            total=row.lines_total,
            completed=(row.completed or 0) if over else counts.completed,
            failed=(row.failed or 0) if over else counts.failed,
        ),
        usage=row.usage,
        cost_usd=None if cost_nanousd is None else usd(cost_nanousd),
        metadata=row.metadata,
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
