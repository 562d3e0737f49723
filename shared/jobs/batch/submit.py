"""Accepting a batch, and ending it early: a row is changed, then a ring; workers do the rest."""

from collections.abc import Awaitable, Callable

import msgspec

from shared.errors import Conflict, InvalidRequest, NotFound, OwnFault
from shared.files.terms import BATCH
from shared.identity import Principal
from shared.ids import IdMaker
from shared.jobs.batch.terms import Expiry, check_endpoint, kept_for_s, window_length
from shared.jobs.terms import Wishes, check_terms
from shared.queue.bell import Bell
from shared.queue.tasks import BATCHES
from shared.store.batches import FINAL, BatchRow, NewBatch, ask_cancel, get_batch, insert_batch
from shared.store.engine import Store, Tx
from shared.store.files import get_file
from shared.telemetry.log import get_logger

log = get_logger(__name__)


class BatchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A file of calls, and the terms as they came."""

    endpoint: str
    input_file_id: str
    completion_window: str
    request_id: str
    metadata: object = None
    on_budget: object = None
    output_expires_after: Expiry | None = None
    tags: dict[str, str] = {}
    user: str | None = None


async def submit_batch(
    store: Store,
    bell: Bell,
    ids: IdMaker,
    *,
    principal: Principal,
    order: BatchOrder,
    also: Callable[[Tx, BatchRow], Awaitable[None]] | None = None,
) -> BatchRow:
    """Commit the batch, ring, and return it. Once this returns, it reaches a final state.

    `also` is done in the same transaction; when it raises, there is no batch.

    Raises:
        InvalidRequest: a term is wrong, or the file is none for batches; `param` names it.
        NotFound: the tenant has no such file.
        StoreUnavailable: nothing was accepted.
    """
    endpoint = check_endpoint(order.endpoint)
    length = window_length(order.completion_window)
    kept_s = kept_for_s(order.output_expires_after)
    async with store.write() as tx:
        now = await tx.now()
        terms = check_terms(Wishes(metadata=order.metadata, on_budget=order.on_budget), now)
        new = NewBatch(
            id=ids("batch"),
            tenant_id=principal.tenant_id,
            key_id=principal.key_id,
            request_id=order.request_id,
            endpoint=endpoint,
            input_file_id=order.input_file_id,
            completion_window=order.completion_window,
            on_budget=terms.on_budget,
            metadata=terms.metadata,
            tags=order.tags,
            user=order.user,
            output_expires_after_s=kept_s,
            expires_at=now + length,
        )
        await _check_file(tx, new)
        await insert_batch(tx, new, now)
        row = await get_batch(tx, new.tenant_id, new.id)
        if row is None:
            raise OwnFault("the batch vanished while it was inserted")
        if also is not None:
            await also(tx, row)
    bell.ring(BATCHES)
    log.info("batch.submitted", batch_id=row.id, endpoint=endpoint)
    return row


async def cancel_batch(store: Store, bell: Bell, *, tenant_id: str, batch_id: str) -> BatchRow:
    """Return the batch as it stands after the wish to cancel it; asking twice changes nothing.

    One that is `finalizing` ends as it would have.

    Raises:
        NotFound: the tenant has no such batch.
        Conflict: it is over, and was not cancelled.
        StoreUnavailable: nothing was changed.
    """
    async with store.write() as tx:
        row = await ask_cancel(tx, tenant_id, batch_id)
    if row is None:
        raise NotFound(f"No batch '{batch_id}'.")
    if row.status in FINAL and row.status != "cancelled":
        raise Conflict(f"Batch '{batch_id}' is {row.status} and cannot be cancelled.")
    bell.ring(BATCHES)
    log.info("batch.cancel_requested", batch_id=batch_id, status=row.status)
    return row


async def _check_file(tx: Tx, new: NewBatch) -> None:
    file = await get_file(tx, new.tenant_id, new.input_file_id)
    if file is None:
        raise NotFound(f"No file '{new.input_file_id}'.", param="input_file_id")
    if file.purpose != BATCH:
        raise InvalidRequest(
            f"The file's purpose is {file.purpose}, not {BATCH}.", param="input_file_id"
        )
