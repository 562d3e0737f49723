"""`/admin/jobs…`, `/admin/queue…`, `/admin/workers…`: the queue in an operator's hands."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from api.answers import json_of, page_of
from api.asgi import AnyRequest, read_body
from api.auth import header_map
from api.edge import Edge
from api.handlers.admin import only_master
from api.in_time import in_time
from shared.errors import InvalidRequest, NotFound
from shared.gateway.parse import named
from shared.jobs.again import run_again
from shared.jobs.cancel import cancel
from shared.jobs.operating import (
    checked_scope,
    job_of_anyone,
    jobs_of_all,
    queue_report,
    workers_report,
)
from shared.jobs.state import STATES
from shared.queue.tasks import CLASSES
from shared.store.oversight import Wanted
from shared.store.pauses import pause, resume
from shared.store.workers import set_drain

MAX_LIMIT = 100
MOST_BODY_BYTES = 64 * 1024


class ScopeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to pause or resume: `scope` is `class:NAME` or `tenant:ID`; the reason is a pause's."""

    scope: str
    reason: str | None = None


_scope_body = msgspec.json.Decoder(ScopeBody)


@get("/admin/jobs", operation_id="list_all_jobs", summary="Jobs of all tenants, and why they wait")
async def list_all_jobs(
    edge: NamedDependency[Edge],
    request: AnyRequest,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = 20,
    after: FromQuery[str | None] = None,
    tenant: FromQuery[str | None] = None,
    status: FromQuery[str | None] = None,
    priority: FromQuery[str | None] = None,
    stuck: FromQuery[bool] = False,  # noqa: FBT002 (a query parameter)
) -> Response[bytes]:
    """Return a page of jobs, newest first; with `stuck=true` those that do not move as they should.

    Raises:
        InvalidRequest: there is no such status or priority.
    """
    only_master(edge, request)
    _check_one_of("status", status, sorted(STATES))
    _check_one_of("priority", priority, CLASSES)
    wanted = Wanted(
        tenant_id=tenant,
        status=status,
        priority=priority,
        stuck=stuck,
        after=after,
        limit=limit + 1,
    )
    async with in_time(edge.clock):
        found = await jobs_of_all(edge.runtime.store, wanted, lost_after_s=_lost_after_s(edge))
    page = found[:limit]
    return json_of(page_of(page, more=len(found) > limit))


@get("/admin/jobs/{job_id:str}", operation_id="show_job", summary="A job, and why it waits")
async def show_job(
    edge: NamedDependency[Edge], request: AnyRequest, job_id: FromPath[str]
) -> Response[bytes]:
    """Return any tenant's job with its attempts, its lease and the reason it is where it is."""
    only_master(edge, request)
    async with in_time(edge.clock):
        return await _shown(edge, job_id)


@post(
    "/admin/jobs/{job_id:str}/retry",
    operation_id="retry_job",
    summary="Run a job again",
    status_code=200,
)
async def retry_job(
    edge: NamedDependency[Edge], request: AnyRequest, job_id: FromPath[str]
) -> Response[bytes]:
    """Start a job that is put off now, or a copy of one that ended in vain; return that one.

    Raises:
        Conflict: it has succeeded, is under way, or its body is no longer kept.
    """
    only_master(edge, request)
    runtime = edge.runtime
    async with in_time(edge.clock):
        own_id = await run_again(runtime.store, runtime.bell, runtime.ids, job_id)
        return await _shown(edge, own_id)


@post(
    "/admin/jobs/{job_id:str}/cancel",
    operation_id="cancel_any_job",
    summary="Cancel a job of any tenant",
    status_code=200,
)
async def cancel_any_job(
    edge: NamedDependency[Edge], request: AnyRequest, job_id: FromPath[str]
) -> Response[bytes]:
    """Cancel a job as its tenant would; asking twice changes nothing."""
    only_master(edge, request)
    runtime = edge.runtime
    async with in_time(edge.clock):
        job = await job_of_anyone(runtime.store, job_id, lost_after_s=_lost_after_s(edge))
        await cancel(
            runtime.store, runtime.bell, runtime.ids, tenant_id=job.tenant_id, job_id=job_id
        )
        return await _shown(edge, job_id)


@get("/admin/queue", operation_id="show_queue", summary="What waits, what is stuck, what is paused")
async def show_queue(edge: NamedDependency[Edge], request: AnyRequest) -> Response[bytes]:
    """Return each class's jobs by status, its oldest and its rate; what is stuck; the pauses."""
    only_master(edge, request)
    async with in_time(edge.clock):
        return json_of(await queue_report(edge.runtime.store))


@post("/admin/queue/pause", operation_id="pause_queue", summary="Claim no more", status_code=200)
async def pause_queue(edge: NamedDependency[Edge], request: AnyRequest) -> Response[bytes]:
    """Have no jobs of a class or tenant claimed; what runs goes on, submitting does too.

    Raises:
        InvalidRequest: there is no such class, or the scope is neither.
    """
    only_master(edge, request)
    asked = await _body(edge, request)
    scope = checked_scope(asked.scope)
    async with in_time(edge.clock):
        async with edge.runtime.store.write() as tx:
            await pause(tx, scope, asked.reason)
        return json_of(await queue_report(edge.runtime.store))


@post("/admin/queue/resume", operation_id="resume_queue", summary="Claim again", status_code=200)
async def resume_queue(edge: NamedDependency[Edge], request: AnyRequest) -> Response[bytes]:
    """Have jobs of a class or tenant claimed again; what is not paused stays so."""
    only_master(edge, request)
    asked = await _body(edge, request)
    scope = checked_scope(asked.scope)
    async with in_time(edge.clock):
        async with edge.runtime.store.write() as tx:
            await resume(tx, scope)
        return json_of(await queue_report(edge.runtime.store))


@get("/admin/workers", operation_id="list_workers", summary="Workers, and which of them drain")
async def list_all_workers(edge: NamedDependency[Edge], request: AnyRequest) -> Response[bytes]:
    """Return the workers: `working`, `draining`, or `lost` when nothing is heard of them."""
    only_master(edge, request)
    async with in_time(edge.clock):
        return json_of(await workers_report(edge.runtime.store, lost_after_s=_lost_after_s(edge)))


@post(
    "/admin/workers/{owner:str}/drain",
    operation_id="drain_worker",
    summary="Have a worker claim no more jobs",
    status_code=200,
)
async def drain_worker(
    edge: NamedDependency[Edge], request: AnyRequest, owner: FromPath[str]
) -> Response[bytes]:
    """Have a worker claim no more from its next heartbeat on; what it runs it ends."""
    return await _told(edge, request, owner, lambda now: now)


@post(
    "/admin/workers/{owner:str}/resume",
    operation_id="resume_worker",
    summary="Have a worker claim jobs again",
    status_code=200,
)
async def resume_worker(
    edge: NamedDependency[Edge], request: AnyRequest, owner: FromPath[str]
) -> Response[bytes]:
    """Take the word to drain back."""
    return await _told(edge, request, owner, lambda _: None)


async def _told(
    edge: Edge, request: AnyRequest, owner: str, drain_at: Callable[[datetime], datetime | None]
) -> Response[bytes]:
    only_master(edge, request)
    async with in_time(edge.clock):
        async with edge.runtime.store.write() as tx:
            known = await set_drain(tx, owner, at=drain_at(await tx.now()))
        if not known:
            raise NotFound(f"No worker '{owner}'.")
        return json_of(await workers_report(edge.runtime.store, lost_after_s=_lost_after_s(edge)))


async def _shown(edge: Edge, job_id: str) -> Response[bytes]:
    return json_of(
        await job_of_anyone(edge.runtime.store, job_id, lost_after_s=_lost_after_s(edge))
    )


def _lost_after_s(edge: Edge) -> float:
    return edge.runtime.config.queue.lease_s


def _check_one_of(param: str, value: str | None, known: "list[str] | tuple[str, ...]") -> None:
    if value is not None and value not in known:
        raise InvalidRequest(f"{param} must be one of {', '.join(known)}.", param=param)


async def _body(edge: Edge, request: AnyRequest) -> ScopeBody:
    headers = header_map(request.scope["headers"])
    raw = await read_body(request.receive, headers, MOST_BODY_BYTES, edge.clock)
    try:
        return _scope_body.decode(raw)
    except msgspec.ValidationError as error:
        raise named(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}") from error


HANDLERS = (
    list_all_jobs,
    show_job,
    retry_job,
    cancel_any_job,
    show_queue,
    pause_queue,
    resume_queue,
    list_all_workers,
    drain_worker,
    resume_worker,
)
