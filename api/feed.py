"""Following a streamed job: its events from storage, wherever they are made and whoever restarts.

Nothing is told twice and nothing left out: an event has its number for good.
"""

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from litestar import Response
from litestar.types import ASGIApp, Receive, Scope, Send
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus, SendTimeoutError
from typing_extensions import override

from api.asgi import KEEP_ALIVE_S, STALL_S
from api.closing import Closing
from api.errors import body_of
from api.in_time import in_time
from api.responses import broken
from shared.clock import Clock
from shared.errors import GatewayError, StoreUnavailable, StreamInterrupted
from shared.gateway.failure import failure_of
from shared.gateway.parse import ENDPOINTS
from shared.jobs import response
from shared.jobs.state import FINAL
from shared.jobs.stream.events import told, written
from shared.store.engine import Store
from shared.store.job_events import EventRows, begun, events_after, status_of
from shared.store.jobs import get_job
from shared.store.records import JobRow
from shared.store.responses import stored_body
from shared.telemetry.log import get_logger

LOOK_S = 0.1
LONGEST_LOOK_S = 0.5
"""Between looks at the events: longer and longer while there are none."""
AT_ONCE = 50
"""Rows of a look; a follower who begins late gets through them without a pause."""
PATIENCE_S = 30.0
"""How long the database may be away before a follower is told so."""

log = get_logger("api")

# It would cut all streams at the first signal; ours end by themselves when the grace is over.
AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]


class Feed:
    """The events of one job for one follower.

    `numbered`: each goes out with its number as its id, which a browser sends back by itself.
    """

    def __init__(
        self, store: Store, clock: Clock, closing: Closing, job: JobRow, *, numbered: bool = False
    ) -> None:
        self._store = store
        self._clock = clock
        self._closing = closing
        self._job = job
        self._numbered = numbered
        self._after = -1

    async def after(self, number: int) -> AsyncIterator[bytes]:
        """Yield the events numbered above `number`, until the job has ended and all are told."""
        self._after = number
        look_s = LOOK_S
        while True:
            last: bytes | None = None
            try:
                status, rows = await self._look()
                if not rows and status in FINAL and status != "succeeded":
                    last = await self._ending()
            except StoreUnavailable as error:
                yield self._cut(error)
                return
            for row in rows:
                for told_no, event in told(row, self._after):
                    self._after = told_no
                    yield self._sent(told_no, event)
            if not rows and status in FINAL:
                if last is not None:
                    yield last
                return
            if self._closing.over:
                yield self._cut(StreamInterrupted("The gateway is stopping; follow again."))
                return
            if len(rows) < AT_ONCE:
                look_s = LOOK_S if rows else min(LONGEST_LOOK_S, look_s * 1.1)
                await self._clock.sleep(look_s)

    async def is_over(self, number: int) -> bool:
        """Return whether the job has ended and nothing comes after that number."""
        async with in_time(self._clock), self._store.read() as tx:
            status = await status_of(tx, self._job.id)
            last_no = (await begun(tx, self._job.id)).last_no
        return status in FINAL and number >= last_no + (status != "succeeded")

    async def _look(self) -> tuple[str, list[EventRows]]:
        """Return how the job stands, and rows that were told by then.

        Raises:
            StoreUnavailable: the database has been away for PATIENCE_S.
        """
        away_s = 0.0
        while True:
            try:
                async with in_time(self._clock), self._store.read() as tx:
                    # In this order: what was told before the end is seen with the end.
                    status = await status_of(tx, self._job.id)
                    rows = await events_after(tx, self._job.id, self._after, limit=AT_ONCE)
                    return status or "succeeded", rows
            except StoreUnavailable:
                if away_s >= PATIENCE_S:
                    raise
            await self._clock.sleep(1.0)
            away_s += 1.0

    async def _ending(self) -> bytes | None:
        """Return the last event of a job that was not answered, None to who has seen it."""
        job = self._job
        async with in_time(self._clock), self._store.read() as tx:
            number = (await begun(tx, job.id)).last_no + 1
            ended = await get_job(tx, job.tenant_id, job.id)
            name = job.response_id
            body = None if name is None else await stored_body(tx, job.tenant_id, name)
        if number <= self._after or ended is None:
            return None
        if body is not None:
            return self._sent(number, response.last_event(body, number))
        return self._sent(number, _failed(job, ended.error or {}, number))

    def _sent(self, number: int, event: bytes) -> bytes:
        return b"id: %d\n%b" % (number, event) if self._numbered else event

    def _cut(self, error: GatewayError) -> bytes:
        """Return what a follower is told whose connection ends before the job.

        It has no id: the next connection goes on after the last event that was one of the job's.
        """
        log.warning("events.cut", job_id=self._job.id, code=error.code)
        return _failed(self._job, failure_of(error), self._after + 1)


def _failed(job: JobRow, failure: Mapping[str, object], number: int) -> bytes:
    """Return the event of a failure, in the dialect of the job's call."""
    dialect = ENDPOINTS[job.endpoint].dialect
    if dialect == "openai_responses":
        return broken(failure, number)
    name = b"error" if dialect == "anthropic" else b""
    return written(name, body_of(failure, dialect, job.request_id))


class EventStream(EventSourceResponse):
    """Sends a feed to one follower; one that has stopped reading is let go."""

    def __init__(self, events: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(
            events,
            headers=headers,
            sep="\n",
            ping=KEEP_ALIVE_S,
            ping_message_factory=partial(ServerSentEvent, comment="keep-alive", sep="\n"),
            send_timeout=STALL_S,
        )

    @override
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("events.unread", path=scope["path"])


class Followed(Response[bytes]):
    """A handler's answer that is a stream of events."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(b"")
        self._events = events

    @override
    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await EventStream(self._events, {})(scope, receive, send)

        return app
