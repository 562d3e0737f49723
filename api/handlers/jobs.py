"""`/v1/jobs…`: calls for later."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from api.answers import json_of, page_of
from api.asgi import AnyRequest, check_json, read_body
from api.async_calls import keeps_events, result_of
from api.auth import header_map
from api.call import books_id, forwarded, request_id_of, tags, text_header
from api.connection import while_connected
from api.edge import Edge
from api.in_time import in_time
from api.request_id import REQUEST_ID
from api.responses import DIALECT as RESPONSES
from shared.errors import CallerError, Conflict, InvalidRequest, OwnFault
from shared.gateway.parse import JOB_ENDPOINTS, named, parse_request, whole
from shared.identity import Principal
from shared.jobs.cancel import cancel
from shared.jobs.results import forget
from shared.jobs.state import FINAL, STATES
from shared.jobs.submit import Order
from shared.jobs.terms import Wishes
from shared.providers.request import InferenceRequest
from shared.store.jobs import delete_job, list_jobs

MAX_LIMIT = 100
MAX_WAIT_S = 60


class NewJobBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs`: an inference call and the terms it runs under."""

    endpoint: str
    body: msgspec.Raw
    priority: Any = None
    deadline: Any = None
    not_before: Any = None
    webhook_url: Any = None
    metadata: Any = None
    on_budget: Any = None


_new_job = msgspec.json.Decoder(NewJobBody)


@post("/v1/jobs", operation_id="create_job", summary="Submit a job", status_code=202)
async def create_job(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], request: AnyRequest
) -> Response[bytes]:
    """Commit a job; once this answers 202 it reaches a final state.

    Raises:
        InvalidRequest: the body or a term is wrong; `param` names it, `body.x` inside the call.
        ModelNotFound: no route of that name for this key.
        QueueFull: the tenant has as many open jobs as it may.
    """
    headers = header_map(request.scope["headers"])
    check_json(headers)
    asked = _decoded(await read_body(request.receive, headers, edge.max_body_bytes, edge.clock))
    call = _call(edge, principal, asked)
    if call.dialect == RESPONSES:
        call = await edge.responses.for_later(principal.tenant_id, call)
    order = Order(
        endpoint=asked.endpoint,
        body=call.raw,
        request_id=books_id(request_id_of(headers), request.scope["state"][REQUEST_ID], edge.ids),
        wishes=Wishes(
            priority=_said(asked.priority, headers, b"x-sluiceway-priority"),
            deadline=_said(asked.deadline, headers, b"x-sluiceway-deadline"),
            not_before=asked.not_before,
            metadata=asked.metadata,
            webhook_url=_said(asked.webhook_url, headers, b"x-sluiceway-webhook"),
            on_budget=asked.on_budget,
        ),
        tags=tags(headers),
        user=call.user or text_header(headers, b"x-sluiceway-user"),
        model=call.head.model,
        headers={**edge.async_calls.rule_headers(headers), **forwarded(headers, call.dialect)},
        streamed=keeps_events(call),
    )
    async with in_time(edge.clock):
        row = await edge.async_calls.accept(principal, order)
    told = await edge.async_calls.told(row)
    return json_of(told, status=202, headers={"location": f"/v1/jobs/{row.id}"})


@get("/v1/jobs", operation_id="list_jobs", summary="List your jobs")
async def list_own_jobs(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = 20,
    after: FromQuery[str | None] = None,
    status: FromQuery[str | None] = None,
    batch_id: FromQuery[str | None] = None,
) -> Response[bytes]:
    """Return a page of jobs, newest first; `after` is the last id of the page before.

    The lines of a batch are listed by its id only. Answers above 256 KiB are left out.

    Raises:
        InvalidRequest: there is no such status.
    """
    if status is not None and status not in STATES:
        raise InvalidRequest(f"status must be one of {', '.join(sorted(STATES))}.", param="status")
    async with in_time(edge.clock):
        async with edge.runtime.store.read() as tx:
            rows = await list_jobs(
                tx,
                principal.tenant_id,
                limit=limit + 1,
                after=after,
                status=status,
                batch_id=batch_id,
            )
        page = await edge.async_calls.listed(rows[:limit])
    return json_of(page_of(page, more=len(rows) > limit))


@get("/v1/jobs/{job_id:str}", operation_id="get_job", summary="Read a job")
async def get_own_job(
    edge: NamedDependency[Edge],
    principal: NamedDependency[Principal],
    request: AnyRequest,
    job_id: FromPath[str],
    wait: Annotated[int, QueryParameter(ge=0, le=MAX_WAIT_S, description="seconds to wait")] = 0,
) -> Response[bytes]:
    """Return the job, after at most `wait` seconds or as soon as it is final."""
    if wait:
        with while_connected(request.receive):
            await edge.async_calls.settled(principal.tenant_id, job_id, wait)
    async with in_time(edge.clock):
        row = await edge.async_calls.row(principal.tenant_id, job_id)
    with suppress(OwnFault):  # what became of the job can be told without its answer
        row = await edge.async_calls.answered(row)
    async with in_time(edge.clock):
        return json_of(await edge.async_calls.shown(row))


@get("/v1/jobs/{job_id:str}/result", operation_id="get_job_result", summary="A job's answer")
async def get_result(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], job_id: FromPath[str]
) -> Response[bytes]:
    """Return 202 and the job while it is open; then what the sync call would have answered."""
    async with in_time(edge.clock):
        row = await edge.async_calls.row(principal.tenant_id, job_id)
        if row.status not in FINAL:
            return json_of(await edge.async_calls.shown(row), status=202)
    row = await edge.async_calls.answered(row)
    status, body, headers = result_of(row)
    shown = {name.decode(): value.decode() for name, value in headers}
    return Response(body, status_code=status, headers=shown, media_type="application/json")


@post(
    "/v1/jobs/{job_id:str}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    status_code=200,
)
async def cancel_job(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], job_id: FromPath[str]
) -> Response[bytes]:
    """Cancel a job; asking twice changes nothing. A running one is `cancelling` for a moment."""
    runtime = edge.runtime
    async with in_time(edge.clock):
        row = await cancel(
            runtime.store, runtime.bell, runtime.ids, tenant_id=principal.tenant_id, job_id=job_id
        )
        return json_of(await edge.async_calls.shown(row))


@delete("/v1/jobs/{job_id:str}", operation_id="delete_job", summary="Delete a job", status_code=200)
async def delete_own_job(
    edge: NamedDependency[Edge], principal: NamedDependency[Principal], job_id: FromPath[str]
) -> dict[str, Any]:
    """Delete a job that has ended; its ledger rows stay.

    Raises:
        Conflict: it is still open; cancel it first. Or it is a line of a batch.
    """
    async with in_time(edge.clock):
        row = await edge.async_calls.row(principal.tenant_id, job_id)
        if row.status not in FINAL:
            raise Conflict(f"Job '{job_id}' is {row.status}; cancel it before deleting it.")
        if row.batch_id is not None:
            raise Conflict(f"Job '{job_id}' is a line of {row.batch_id} and goes when that does.")
        await forget(edge.runtime.objects, row)
        async with edge.runtime.store.write() as tx:
            await delete_job(tx, principal.tenant_id, job_id)
    return {"id": job_id, "object": "job", "deleted": True}


def _said(term: object, headers: Mapping[bytes, bytes], name: bytes) -> object:
    """Return the term as the body has it, whatever it is; the header's where the body has none."""
    return text_header(headers, name) if term is None else term


def _call(edge: Edge, principal: Principal, asked: NewJobBody) -> InferenceRequest:
    """Return the call inside, checked as it would be on its own path."""
    if asked.endpoint not in JOB_ENDPOINTS:
        raise InvalidRequest(
            f"endpoint must be one of {', '.join(JOB_ENDPOINTS)}.", param="endpoint"
        )
    try:
        call = parse_request(asked.endpoint, bytes(asked.body))
        call = call if keeps_events(call) else whole(call)
        edge.gateway.check(principal, call.head.model)
    except CallerError as error:
        error.param = "body" if error.param is None else f"body.{error.param}"
        raise
    return call


def _decoded(raw: bytes) -> NewJobBody:
    try:
        return _new_job.decode(raw)
    except msgspec.ValidationError as error:
        raise named(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}") from error


HANDLERS = (
    create_job,
    list_own_jobs,
    get_own_job,
    get_result,
    cancel_job,
    delete_own_job,
)
