"""The calls of streamed jobs: what comes is told while it comes, and folded into the answer."""

from typing import Protocol

import msgspec

from shared.clock import Clock, Deadline
from shared.errors import StreamInterrupted
from shared.gateway.answer import CallContext, ServedStream
from shared.gateway.leading import NotedBooks
from shared.gateway.service import Gateway
from shared.identity import Principal
from shared.jobs import failure
from shared.jobs.lease import Interrupted, LeaseLost
from shared.jobs.response import Origin, Owner, previous_of
from shared.jobs.run import Reply
from shared.jobs.stream.broken import ToldInPart
from shared.jobs.stream.events import written
from shared.jobs.stream.fold import FOLDS
from shared.jobs.stream.scribe import Notes, Scribe
from shared.ledger.books import Books
from shared.ledger.holds import Holds
from shared.providers.dialects.sse import SseEvent, SseParser
from shared.providers.request import InferenceRequest
from shared.store.engine import Store
from shared.store.job_events import begun
from shared.store.records import JobRow

_ENDS = frozenset({b"message_stop", b"response.completed", b"response.incomplete"})
_DONE = b"[DONE]"
_OPENED = frozenset({b"response.created", b"response.queued"})
"""Of a background response they were told when it was accepted."""


class Streams:
    """Makes the calls of the streamed jobs of one process."""

    def __init__(self, gateway: Gateway, store: Store, clock: Clock) -> None:
        self._gateway = gateway
        self._store = store
        self._scribe = Scribe(store, clock)

    async def call(
        self,
        principal: Principal,
        job: JobRow,
        request: InferenceRequest,
        *,
        deadline: Deadline,
        books: Books,
        holds: Holds,
        context: CallContext,
    ) -> Reply:
        """Return the folded answer; its last event is in the reply, to be kept with the job's end.

        Raises:
            GatewayError: as `Gateway.stream`; nothing has been told.
            ToldInPart: it broke when some of it had been told, now or in a run before this one.
            LeaseLost: the job is somebody else's.
            Interrupted: it is to be cancelled, which was seen when its events were kept.
        """
        async with self._store.read() as tx:
            so_far = await begun(tx, job.id)
        if so_far.by_worker:
            raise ToldInPart(failure.cut_short())
        notes = self._scribe.open(job, so_far.last_no + 1)
        noted = NotedBooks(books)
        try:
            stream = await self._gateway.stream(
                principal, request, deadline=deadline, books=noted, holds=holds, context=context
            )
            try:
                body = await _told(stream, job, notes, noted)
            finally:
                await stream.aclose()
            good = noted.good
            return Reply(
                body=body.body,
                usage=None if good is None else good.usage,
                attempts=stream.attempts,
                last=await notes.rest(body.last),
            )
        except (LeaseLost, Interrupted):
            raise
        except Exception as error:
            if notes.begun:
                raise ToldInPart(error) from error
            raise
        finally:
            notes.drop()


class _Told(msgspec.Struct, frozen=True):
    body: bytes
    last: bytes


class _Teller(Protocol):
    def event(self, event: SseEvent, number: int) -> bytes | None:
        """Return the event as it is told, None where it is not."""

    def body(self, body: bytes) -> bytes:
        """Return the whole answer as it is kept."""


class _AsIs:
    def event(self, event: SseEvent, number: int) -> bytes | None:  # noqa: ARG002 (protocol)
        return written(event.name, event.data)

    def body(self, body: bytes) -> bytes:
        return body


class _AsOurs:
    """A response in the background: its caller knows it by an id of ours from the start."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def event(self, event: SseEvent, number: int) -> bytes | None:
        told = self._owner.event(event.name, event.data, number)
        return None if event.name in _OPENED else told

    def body(self, body: bytes) -> bytes:
        return self._owner.body(body)


def owner_of(job: JobRow) -> Owner | None:
    """Return what makes an answer the job's own response; None for one that is no response."""
    if job.response_id is None:
        return None
    return Owner(
        Origin(
            id=job.response_id,
            created_at=int(job.created_at.timestamp()),
            previous_id=previous_of(job.body),
        )
    )


async def _told(stream: ServedStream, job: JobRow, notes: Notes, noted: NotedBooks) -> _Told:
    """Tell a stream to its end, all but the last event.

    Raises:
        StreamInterrupted: it broke, or stopped without its end.
    """
    owner = owner_of(job)
    teller: _Teller = _AsIs() if owner is None else _AsOurs(owner)
    parser, fold = SseParser(), FOLDS[job.endpoint]()
    last: bytes | None = None
    async for piece in stream:
        for event in parser.feed(piece):
            fold.add(event)
            told = teller.event(event, notes.number)
            if event.name in _ENDS or event.data == _DONE:
                last = told
            elif told is not None:
                await notes.add(told)
    body = fold.body(None if noted.good is None else noted.good.usage)
    if body is None or last is None:
        raise StreamInterrupted("The answer stopped before its end.")
    return _Told(teller.body(body), last)
