"""`/v1/batches…`: files of calls, as at OpenAI, run by our own workers for any provider."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from api.answers import json_of, page_of
from api.asgi import AnyRequest, check_json, read_body
from api.auth import header_map
from api.call import books_id, request_id_of, tags, text_header
from api.edge import Edge
from api.idempotency import current
from api.in_time import in_time
from api.request_id import REQUEST_ID
from shared.errors import InvalidRequest, NotFound
from shared.gateway.parse import named
from shared.identity import Principal
from shared.jobs.batch.object import BatchObject, batch_object
from shared.jobs.batch.submit import BatchOrder, cancel_batch, submit_batch
from shared.jobs.batch.terms import Expiry
from shared.store.batch_lines import LineCounts, line_counts
from shared.store.batches import FINAL, BatchRow, get_batch, list_batches
from shared.store.engine import Tx

MAX_LIMIT = 100


class NewBatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Any = None
    on_budget: Any = None
    output_expires_after: Expiry | None = None


_new_batch = msgspec.json.Decoder(NewBatchBody)


@post("/v1/batches", operation_id="create_batch", summary="Submit a batch", status_code=200)
async def create_batch(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], request: AnyRequest
) -> Response[bytes]:
    """Commit a batch; once this answers it reaches a final state.

    Raises:
        InvalidRequest: the body, a term or the file is wrong; `param` names it.
        NotFound: there is no such file.
    """
    headers = header_map(request.scope["headers"])
    check_json(headers)
    asked = _decoded(await read_body(request.receive, headers, edge.max_body_bytes, edge.clock))
    order = BatchOrder(
        endpoint=asked.endpoint,
        input_file_id=asked.input_file_id,
        completion_window=asked.completion_window,
        request_id=books_id(request_id_of(headers), request.scope["state"][REQUEST_ID], edge.ids),
        metadata=asked.metadata,
        on_budget=asked.on_budget,
        output_expires_after=asked.output_expires_after,
        tags=tags(headers),
        user=text_header(headers, b"x-sluiceway-user"),
    )

    async def name(tx: Tx, row: BatchRow) -> None:
        if (once := current()) is not None:
            await once.answer(tx, 200, msgspec.json.encode(batch_object(row, LineCounts())))

    runtime = edge.runtime
    async with in_time(edge.clock):
        row = await submit_batch(
            runtime.store, runtime.bell, runtime.ids, principal=principal, order=order, also=name
        )
    return json_of(batch_object(row, LineCounts()))


@get("/v1/batches", operation_id="list_batches", summary="List your batches")
async def list_own_batches(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = 20,
    after: FromQuery[str | None] = None,
) -> Response[bytes]:
    """Return a page of batches, newest first; `after` is the last id of the page before."""
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        rows = await list_batches(tx, principal.tenant_id, limit=limit + 1, after=after)
        page = await _shown(tx, rows[:limit])
    return json_of(page_of(page, more=len(rows) > limit))


@get("/v1/batches/{batch_id:str}", operation_id="get_batch", summary="Read a batch")
async def get_own_batch(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], batch_id: FromPath[str]
) -> Response[bytes]:
    """Return the batch with its counts as they are now.

    Raises:
        NotFound: no such batch of this tenant.
    """
    async with in_time(edge.clock), edge.runtime.store.read() as tx:
        row = await get_batch(tx, principal.tenant_id, batch_id)
        if row is None:
            raise NotFound(f"No batch '{batch_id}'.")
        [shown] = await _shown(tx, [row])
    return json_of(shown)


@post(
    "/v1/batches/{batch_id:str}/cancel",
    operation_id="cancel_batch",
    summary="Cancel a batch",
    status_code=200,
)
async def cancel_own_batch(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], batch_id: FromPath[str]
) -> Response[bytes]:
    """Cancel a batch; it is `cancelling` until its lines are over, and keeps what is done.

    Raises:
        NotFound: no such batch of this tenant.
        Conflict: it is over.
    """
    runtime = edge.runtime
    async with in_time(edge.clock):
        row = await cancel_batch(
            runtime.store, runtime.bell, tenant_id=principal.tenant_id, batch_id=batch_id
        )
        async with runtime.store.read() as tx:
            [shown] = await _shown(tx, [row])
    return json_of(shown)


async def _shown(tx: Tx, rows: Sequence[BatchRow]) -> list[BatchObject]:
    counts = await line_counts(tx, [row.id for row in rows if row.status not in FINAL])
    return [batch_object(row, counts.get(row.id, LineCounts())) for row in rows]


def _decoded(raw: bytes) -> NewBatchBody:
    try:
        return _new_batch.decode(raw)
    except msgspec.ValidationError as error:
        raise named(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}") from error


HANDLERS = (create_batch, list_own_batches, get_own_batch, cancel_own_batch)
