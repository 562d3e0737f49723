"""Responses made in the background: begun with their job, ended with it, told of by themselves."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec

from shared.ids import IdMaker
from shared.jobs import response
from shared.jobs.response import Origin
from shared.providers.dialects.responses_history import input_items
from shared.store.engine import Tx
from shared.store.job_events import ACCEPTED, EventRows, accepted_at, insert_events
from shared.store.records import Finish, JobRow, NewJob
from shared.store.responses import (
    StoredResponse,
    conclude_response,
    insert_response,
    keep_turns,
    stored_body,
)
from shared.webhooks.emit import emit
from shared.webhooks.event import subject_event

KEPT_FOR = timedelta(days=30)
"""As long as OpenAI keeps responses."""


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """What a response goes on from: `input` as it came, and the ids of the turns before it.

    `context_bytes` is the size of those turns.
    """

    input: bytes
    turns: tuple[str, ...] = ()
    context_bytes: int = 0


def begin(basis: Basis) -> Callable[[Tx, NewJob], Awaitable[None]]:
    """Return what keeps the response of a job, and its first events, as the job is accepted."""

    async def keep(tx: Tx, job: NewJob) -> None:
        at = await accepted_at(tx, job.id)
        previous_id = basis.turns[-1] if basis.turns else None
        origin = Origin(
            id=job.response_id or job.id, created_at=int(at.timestamp()), previous_id=previous_id
        )
        own = msgspec.json.encode(input_items(basis.input, origin.id))
        body = response.queued(job.body, job.model or "", origin)
        new = StoredResponse(
            id=origin.id,
            previous_id=previous_id,
            context_bytes=basis.context_bytes + len(own),
            input=own,
            body=body,
        )
        until = at + KEPT_FOR
        await insert_response(tx, job.tenant_id, new, at=at, expires_at=until)
        await keep_turns(tx, job.tenant_id, basis.turns, until=until)
        if job.streamed:
            first = EventRows(
                job_id=job.id,
                token=ACCEPTED,
                first_no=0,
                last_no=1,
                events=response.opening(body),
            )
            await insert_events(tx, first, at)

    return keep


async def conclude(tx: Tx, ids: IdMaker, job: JobRow, end: Finish, answer: bytes | None) -> bool:
    """Give a job's response what it has become, and tell of it; return whether anybody listens.

    `answer` is the whole response of a job that has succeeded. Other jobs are passed over.
    """
    if job.response_id is None:
        return False
    if answer is None:
        before = await stored_body(tx, job.tenant_id, job.response_id)
        answer = None if before is None else response.unanswered(before, end.status, end.error)
    if answer is not None:
        await conclude_response(tx, job.tenant_id, job.response_id, answer)
    status = response.shown(end.status) if answer is None else response.status_of(answer)
    urls = () if job.webhook_url is None else (job.webhook_url,)
    event = subject_event(ids("evt"), f"response.{status}", job.response_id, end.at)
    return await emit(tx, event, tenant_id=job.tenant_id, urls=urls, ids=ids, at=end.at)
